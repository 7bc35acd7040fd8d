"""Answers by rule: what stands in the request decides, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from typing import Any

COLOURS = {
    "red": (200, 30, 30),
    "green": (30, 160, 60),
    "blue": (40, 60, 200),
    "white": (245, 245, 245),
    "black": (15, 15, 15),
}
#: What Stage 1 is told, sample by sample, under names that differ.
PERSPECTIVES: list[dict[str, Any]] = [
    {
        "names": ["material", "fabric", "made_of"],
        "description": "what the product is made of",
        "values": [["cotton"], ["wool"], ["steel", "stainless steel"], ["wood"]],
    },
    {
        "names": ["color", "colour"],
        "description": "the main colour",
        "values": [["red"], ["blue"], ["green"], ["grey", "gray"]],
    },
    {
        "names": ["usage_scenario", "usage scenario", "occasion"],
        "description": "where the product is used",
        "values": [["travel"], ["kitchen"], ["sport", "sports"], ["sleep"]],
    },
    {
        "names": ["target_user", "target_age"],
        "description": "whom the product is for",
        "values": [["baby", "babies"], ["adult"], ["dog"]],
    },
    {"names": ["brand"], "description": "the brand", "values": None},
]


def answer(body: dict[str, Any], gullible: bool = False) -> tuple[Any, list[tuple]]:
    """Answer a request; returns the answer and what it tells, (text, factor) each.

    A gullible server does what a product text orders with ``answer VALUE``.
    """
    system = body["messages"][0]["content"]
    user = body["messages"][1]["content"]
    text = user if isinstance(user, str) else user[0]["text"]
    shown = json.loads(text)
    if system.startswith("Task: name the factors"):
        return induce(shown["items"]), []
    if system.startswith("Task: find the names"):
        return merge(shown["factors"]), []
    if system.startswith("Task: make one list"):
        return join_values(shown), []
    pictures = {} if isinstance(user, str) else read_pictures(user)
    factors = read_factors(system)
    allowed = read_enumerations(body)
    items, told = [], []
    for item in shown["items"]:
        words = item_text(item)
        values = {}
        for factor in factors:
            value = assign(factor, words, pictures.get(item["item"]))
            if gullible:
                value = obey(words, factor, value, allowed)
            values[factor["name"]] = value
            told.append((words or item["item"], factor["name"]))
        items.append({"item": item["item"], "values": values})
    return {"items": items}, told


def item_text(item: dict[str, str]) -> str:
    """All that is shown of an item but its code."""
    return " ".join(value for name, value in item.items() if name != "item")


def read_factors(system: str) -> list[dict[str, Any]]:
    """Find the factors in the instructions."""
    start = system.index("\n[{") + 1
    return json.JSONDecoder().raw_decode(system, start)[0]


def read_enumerations(body: dict[str, Any]) -> bool:
    """Whether the request has a schema that the answer is held to."""
    return body.get("response_format", {}).get("type") == "json_schema"


def assign(factor: dict[str, Any], words: str, picture: str | None) -> Any:
    """The first value of which a word stands in the text; else nothing."""
    if factor["values"] is None:
        named = re.search(r"\bby (\w+)", words)
        found = [named.group(1)] if named else []
    elif picture is not None:
        found = [value for value in factor["values"] if value == picture]
    else:
        have = set(re.findall(r"\w+", words.lower()))
        found = [
            value
            for value in factor["values"]
            if have & set(re.findall(r"\w+", value.lower()))
        ]
    if factor["several"]:
        return found
    return found[0] if found else None


def obey(words: str, factor: dict[str, Any], value: Any, strict: bool) -> Any:
    """Do what the text orders, as far as the schema of the request lets one."""
    order = re.search(r"answer (.+?)(?:$|[.!\n])", words)
    if not order:
        return value
    wanted = order.group(1)
    if strict and factor["values"] is not None and wanted not in factor["values"]:
        return value
    return [wanted] if factor["several"] else wanted


def read_pictures(parts: list[dict[str, Any]]) -> dict[str, str]:
    """Name the colour of each picture, after a check that it is small."""
    from PIL import Image

    colours = {}
    code = ""
    for part in parts[1:]:
        if part["type"] == "text":
            code = re.search(r"item (\w+):", part["text"]).group(1)  # type: ignore[union-attr]
            continue
        head, _, payload = part["image_url"]["url"].partition(",")
        assert head == "data:image/jpeg;base64", head
        with Image.open(io.BytesIO(base64.b64decode(payload))) as picture:
            assert max(picture.size) <= 512, picture.size
            mean = picture.convert("RGB").resize((1, 1)).getpixel((0, 0))
        colours[code] = min(
            COLOURS,
            key=lambda name: sum(
                (a - b) ** 2 for a, b in zip(COLOURS[name], mean, strict=True)
            ),
        )
    return colours


def induce(items: list[dict[str, str]]) -> dict[str, Any]:
    """Name the perspectives, by names that depend on the sample."""
    sample = hashlib.sha256("".join(map(item_text, items)).encode()).digest()
    factors = []
    for index, entry in enumerate(PERSPECTIVES):
        draw = sample[index]
        # The last but one is not named for every sample.
        if index == len(PERSPECTIVES) - 2 and draw % 2:
            continue
        values = entry["values"]
        factors.append(
            {
                "name": entry["names"][draw % len(entry["names"])],
                "description": entry["description"],
                "values": values and [names[draw % len(names)] for names in values],
                "several": False,
            }
        )
    return {"factors": factors}


def merge(factors: list[dict[str, Any]]) -> dict[str, Any]:
    """Join the names of one perspective."""
    groups = []
    for entry in PERSPECTIVES:
        names = [f["name"] for f in factors if f["name"] in entry["names"]]
        if names:
            groups.append({"name": names[0], "names": names})
    return {"groups": groups}


def join_values(factor: dict[str, Any]) -> dict[str, Any]:
    """Keep one of the values that mean the same."""
    for entry in PERSPECTIVES:
        if factor["name"] in entry["names"] and entry["values"]:
            return {"values": [names[0] for names in entry["values"]]}
    return {"values": factor["values"][:20]}
