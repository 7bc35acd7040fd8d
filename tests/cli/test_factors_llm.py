"""``mars-pyg factors`` with a language model, as a user sees it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loopback_server import FaultPlan, LoopbackServer

Run = Callable[..., tuple[int, str, str]]

MATERIALS = ["cotton", "wool", "steel", "wood"]


@pytest.fixture
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback-0123456789")
    monkeypatch.setenv("MARS_PYG_MODEL", "gpt-4o-mini")
    file = tmp_path / "items.csv"
    with open(file, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["item", "title", "price"])
        for i in range(24):
            writer.writerow([f"p{i}", f"{MATERIALS[i % 4]} thing {i} by Acme", i])
    return file


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackServer]:
    with LoopbackServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        yield server


def induce(run: Run, items: Path) -> Path:
    schema = items.parent / "schema.json"
    status, out, err = run(
        "factors", "induce", str(items), f"--schema={schema}", "--num-samples=6"
    )
    assert status == 0, err
    assert "6 of 6  open vocabulary" in out
    assert "cost 0.00" in err
    return schema


def test_induce_estimate_assign(run: Run, items: Path, server: LoopbackServer) -> None:
    schema = induce(run, items)
    common = [str(items), f"--schema={schema}", "--id-column=item"]
    status, out, _ = run("factors", "validate", str(schema))
    assert status == 0
    assert "what the product is made of" in out
    status, out, _ = run("factors", "estimate", *common, "--concurrency=8")
    assert status == 0
    assert "requests                   24" in out
    assert "at 8 requests at once" in out
    before = server.counts.requests
    status, _, err = run("factors", "assign", *common)
    assert status == 0
    assert "24 items: 24 asked now" in err
    assert server.counts.requests == before + 24
    with open(items.parent / "factors" / "profiles.tsv") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    names = [factor["name"] for factor in json.loads(schema.read_text())["factors"]]
    assert list(rows[0]) == ["item", *names]
    material = next(n for n in names if n in ("material", "fabric", "made_of"))
    assert [row[material] for row in rows] == MATERIALS * 6
    assert {row["brand"] for row in rows} == {"Acme"}
    # A second run pays for nothing and writes the same.
    text = (items.parent / "factors" / "profiles.tsv").read_text()
    status, _, err = run("factors", "assign", *common)
    assert (status, server.counts.requests) == (0, before + 24)
    assert "0 asked now, 24 answered before" in err
    assert (items.parent / "factors" / "profiles.tsv").read_text() == text


def test_items_without_content_replace_nothing(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    schema = induce(run, items)
    common = ["factors", "assign", str(items), f"--schema={schema}"]
    assert run(*common)[0] == 0
    table = items.parent / "factors" / "profiles.tsv"
    text = table.read_text()
    lines = items.read_text().splitlines()
    items.write_text("\n".join([f"{lines[0]},note", *(f"{x}," for x in lines[1:])]))
    for columns in ("note", ""):
        status, _, err = run(*common, f"--text-columns={columns}")
        assert (status, table.read_text()) == (1, text)
        assert "no item has content" in err


def test_batches(run: Run, items: Path, server: LoopbackServer) -> None:
    schema = induce(run, items)
    common = [str(items), f"--schema={schema}", "--id-column=item"]
    status, out, err = run("factors", "batch", "submit", *common)
    assert (status, out) == (0, "batch_0  24 requests\n")
    store = items.parent / "factors.sqlite"
    assert str(store) in err
    status, out, _ = run("factors", "batch", "status", f"--store={store}")
    assert status == 0
    assert "batch_0  in_progress  0 of 24 requests" in out
    status, _, err = run("factors", "assign", *common)
    assert status == 1
    assert "24 items are in batches" in err
    server.batches.polls = server.batches.batches["batch_0"]["polls"] = 0
    status, _, err = run("factors", "batch", "collect", *common)
    assert status == 0, err
    assert "1 batches collected, 0 under way; 24 answers" in err
    with open(items.parent / "factors" / "profiles.tsv") as stream:
        assert len(stream.readlines()) == 25
    status, _, err = run("factors", "batch", "status", f"--store={store}")
    assert "no batches" in err


def test_batches_tell_why_requests_failed(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    schema = induce(run, items)
    common = [str(items), f"--schema={schema}", "--id-column=item"]
    server.batches.polls, server.batches.failing = 0, {3}
    assert run("factors", "batch", "submit", *common)[0] == 0
    _, _, err = run("factors", "batch", "collect", *common)
    assert "23 answers, 1 requests failed (it failed)" in err


def test_batches_tell_of_pictures_that_cannot_be_had(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    schema = items.parent / "schema.json"
    factor = {"name": "color", "values": ["red", "blue"]}
    schema.write_text(json.dumps({"modality": "image", "factors": [factor]}))
    there = server.url.replace("/v1", "/pictures")
    items.write_text(f"item,image_url\na,{there}/200\nb,{there}/503\nc,{there}/404\n")
    status, out, err = run(
        *("factors", "batch", "submit", str(items), f"--schema={schema}"),
        "--image-column=image_url",
    )
    assert (status, out) == (0, "batch_0  1 requests\n"), err
    assert "1 items are left out, whose pictures could not be had" in err


def test_collect_keeps_profiles_of_another_origin(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    schema, folder = induce(run, items), items.parent / "factors"
    common = [str(items), f"--schema={schema}", "--id-column=item"]
    table, gone = folder / "profiles.tsv", items.parent / "gone.sqlite"
    collect = ["factors", "batch", "collect", *common]
    status, _, err = run(*collect, f"--store={gone}")
    assert (status, "no such file of answers" in err) == (1, True)
    status, _, err = run("factors", "batch", "status", f"--store={gone}")
    assert status == 2
    assert not gone.exists()
    # Nothing was collected, so nothing is written.
    status, _, err = run(*collect)
    assert (status, folder.exists()) == (0, False), err
    folder.mkdir()
    table.write_text("by hand")
    server.batches.polls = 0
    run("factors", "batch", "submit", *common)
    status, _, err = run(*collect)
    assert (status, "--overwrite" in err) == (1, True)
    assert table.read_text() == "by hand"
    status, _, err = run(*collect, "--overwrite")
    assert (status, "24 answers" in err) == (0, True)
    assert len(table.read_text().splitlines()) == 25


def test_profiles_of_two_origins_do_not_mix(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    schema, folder = induce(run, items), items.parent / "factors"
    assign = ["factors", "assign", str(items), f"--schema={schema}"]
    folder.mkdir()
    (folder / "profiles.csv").write_text("item,price\np0,0")
    assert run(*assign, "--overwrite")[0] == 0
    status, _, err = run("factors", "validate", str(folder))
    assert status == 0, err
    # Beside profiles of a model, others are still others.
    (folder / "profiles.csv").write_text("by hand")
    status, _, err = run(*assign)
    assert (status, "profiles.csv" in err) == (1, True)
    columns = ["factors", "columns", str(items), "--columns=price", "--overwrite"]
    assert run(*columns)[0] == 0
    text = (folder / "profiles.tsv").read_text()
    status, _, err = run(*assign)
    assert (status, "--overwrite" in err) == (1, True)
    assert (folder / "profiles.tsv").read_text() == text


def test_mistakes_are_said_before_anything_is_paid(
    run: Run, items: Path, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = induce(run, items)
    before = server.counts.requests
    common = [str(items), f"--schema={schema}"]
    status, _, err = run("factors", "induce", *common)
    assert (status, "--overwrite" in err) == (1, True)
    status, _, err = run("factors", "assign", *common, "--model=x", "--max-cost=1")
    assert (status, "no price of the model 'x'" in err) == (1, True)
    status, _, err = run("factors", "assign", *common, "--text-columns=name")
    assert (status, "'name'" in err) == (1, True)
    status, _, err = run("factors", "assign", *common, "--concurrency=0")
    assert (status, "--concurrency" in err) == (2, True)
    status, _, err = run("factors", "assign", *common, "--base-url=http://a:b@c/v1")
    assert (status, "OPENAI_API_KEY only" in err) == (1, True)
    # Texts would be judged in place of the pictures.
    for command in (["assign"], ["estimate"], ["batch", "submit"]):
        status, _, err = run("factors", *command, *common, "--image-column=title")
        assert (status, "modality 'image'" in err) == (2, True)
    text = json.loads(schema.read_text())
    text["factors"][0]["name"] = "item"
    clash = items.parent / "clash.json"
    clash.write_text(json.dumps(text))
    for command in (["assign"], ["batch", "submit"]):
        status, _, err = run("factors", *command, str(items), f"--schema={clash}")
        assert (status, "column of the ids" in err) == (1, True)
    folder = items.parent / "factors"
    folder.mkdir()
    (folder / "profiles.tsv").write_text("by hand")
    status, _, err = run("factors", "assign", *common)
    assert (status, "--overwrite" in err) == (1, True)
    assert (folder / "profiles.tsv").read_text() == "by hand"
    monkeypatch.delenv("MARS_PYG_MODEL")
    status, _, err = run("factors", "assign", *common, "--output=other")
    assert (status, "--model" in err) == (2, True)
    assert server.counts.requests == before


def test_prices_and_budget(run: Run, items: Path, server: LoopbackServer) -> None:
    schema = induce(run, items)
    common = [str(items), f"--schema={schema}", "--id-column=item", "--model=mine"]
    prices = ["--input-price=10", "--output-price=20"]
    _, out, _ = run("factors", "estimate", *common)
    assert "unknown" in out
    _, out, _ = run("factors", "estimate", *common, *prices)
    assert "unknown" not in out
    status, _, err = run("factors", "assign", *common, *prices, "--max-cost=0.1")
    assert status == 1
    assert "stopped: the next request may cost more than is left" in err
    with open(items.parent / "factors" / "profiles.tsv") as stream:
        assert 1 < len(stream.readlines()) < 25
    status, _, err = run("factors", "assign", *common, *prices, "--max-cost=5")
    assert status == 0


def test_the_budget_of_an_induction(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    schema = items.parent / "schema.json"
    command = ["factors", "induce", str(items), f"--schema={schema}"]
    status, _, err = run(*command, "--model=mine", "--max-cost=1")
    assert (status, "no price of the model 'mine'" in err) == (1, True)
    status, _, err = run(*command, "--max-cost=0")
    assert (status, "may cost more than is left" in err) == (1, True)
    assert (server.counts.requests, schema.exists()) == (0, False)
    assert run(*command, "--max-cost=1")[0] == 0


def test_a_server_that_is_not_there(run: Run, items: Path) -> None:
    (items.parent / "schema.json").write_text(
        json.dumps({"factors": [{"name": "a", "values": ["x"]}]})
    )
    status, _, err = run(
        "factors",
        "assign",
        str(items),
        f"--schema={items.parent / 'schema.json'}",
        "--base-url=http://127.0.0.1:9/v1",
        "--max-retries=0",
        "--concurrency=1",
    )
    assert status == 1
    assert "run again to go on" in err


def test_a_key_in_errors_is_not_shown(
    run: Run, items: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = items.parent / "schema.json"
    with LoopbackServer(key="another", faults=FaultPlan()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        status, out, err = run("factors", "induce", str(items), f"--schema={schema}")
    assert status == 1
    assert "does not accept the key" in err
    assert "0123456789" not in out + err
    assert not schema.exists()


def test_profiles_of_another_modality_or_changed_by_hand_stay(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    schema, folder = induce(run, items), items.parent / "factors"
    assign = ["factors", "assign", str(items), "--id-column=item"]
    # Another schema may be edited by hand, or paid for.
    folder.mkdir(exist_ok=True)
    edited = folder / "schema.json"
    content = json.loads(schema.read_text())
    edited.write_text(json.dumps({**content, "factors": content["factors"][:1]}))
    status, _, err = run(*assign, f"--schema={schema}")
    assert (status, "there is another schema already" in err) == (1, True)
    assert len(json.loads(edited.read_text())["factors"]) == 1
    edited.unlink()
    assert run(*assign, f"--schema={schema}")[0] == 0
    table = folder / "profiles.tsv"
    text = table.read_text()
    other = items.parent / "other.json"
    other.write_text(
        json.dumps({**json.loads(schema.read_text()), "modality": "caption"})
    )
    status, _, err = run(*assign, f"--schema={other}")
    assert (status, str(folder / "caption") in err) == (1, True)
    assert table.read_text() == text
    changed = text.replace("Acme", "Ajax", 1)
    table.write_text(changed)
    status, _, err = run(*assign, f"--schema={schema}")
    assert (status, "item 'p0' have been changed" in err) == (1, True)
    assert table.read_text() == changed
    # A value that was added, and a row, are changes too.
    for more in (text + "p99\tx\n", text.replace("p0\t", "p77\t", 1)):
        table.write_text(more)
        assert run(*assign, f"--schema={schema}")[0] == 1
    # A spreadsheet's encoding is one as well.
    table.write_bytes(text.replace("Acme", "Acmé", 1).encode("cp1252"))
    status, _, err = run(*assign, f"--schema={schema}")
    assert (status, "cannot be compared" in err) == (1, True)
    assert run(*assign, f"--schema={schema}", "--overwrite")[0] == 0
    assert table.read_text() == text


def test_good_profiles_do_not_give_way_to_fewer(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    common = [str(items), f"--schema={induce(run, items)}", "--id-column=item"]
    assert run("factors", "assign", *common)[0] == 0
    table = items.parent / "factors" / "profiles.tsv"
    before = table.read_bytes()
    status, _, err = run("factors", "assign", *common, "--model=gpt-4o", "--max-cost=0")
    assert status == 1
    assert "is left as it is: its profiles have" in err
    assert table.read_bytes() == before


def test_batches_show_no_examples(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    """Their answers would pass for such as were given with examples."""
    schema = induce(run, items)
    for command in ("submit", "collect"):
        batch = ["factors", "batch", command, str(items), f"--schema={schema}"]
        status, _, err = run(*batch, "--examples=2")
        assert (status, "--examples" in err) == (2, True)
    assert not server.batches.files


def test_collect_does_not_replace_profiles_by_fewer(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    schema, table = induce(run, items), items.parent / "factors" / "profiles.tsv"
    common = [str(items), f"--schema={schema}"]
    assert run("factors", "assign", *common)[0] == 0
    text, entry = table.read_text(), json.loads(schema.read_text())
    entry["factors"][0]["description"] += ", as shoppers see it"
    schema.write_text(json.dumps(entry))
    assert run("factors", "batch", "submit", *common)[0] == 0
    status, _, err = run("factors", "batch", "collect", *common)
    assert (status, "left as it is" in err) == (1, True)
    assert table.read_text() == text
    server.batches.batches["batch_0"]["polls"] = 0
    status, _, err = run("factors", "batch", "collect", *common)
    assert (status, "the profiles are in" in err) == (0, True)
    assert table.read_text() == text


def test_why_items_could_not_be_had_is_said(
    run: Run, items: Path, server: LoopbackServer
) -> None:
    """And profiles without a value do not take the place of others."""
    schema = induce(run, items)
    server.refused = "unspeakable"
    common = ["factors", "assign", str(items), f"--schema={schema}"]
    items.write_text("item,title\na,unspeakable\n")
    table = items.parent / "factors" / "profiles.tsv"
    for command in (common, [*common, "--overwrite"]):
        status, _, err = run(*command)
        assert status == 1
        assert "1 items could not be had (status 400: " in err
        assert "against the rules" in err
        assert "there are no values to write" in err
        if table.parent.is_dir():
            assert table.read_text() == "mine"
        table.parent.mkdir(exist_ok=True)
        table.write_text("mine")
    address = server.url.removesuffix("/v1")
    _, _, err = run(*common, "--overwrite", f"--base-url={address}")
    assert "status 404" in err
    assert "most end in /v1" in err
