"""The Amazon review data of 2014, from the files as they were published."""

from __future__ import annotations

import ast
import gzip
import http.client
import json
import re
import urllib.request
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from mars_pyg.datasets.interactions import k_core, split_interactions
from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path
from mars_pyg.tables import whole_characters

URL = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
CATEGORIES = {
    "baby": "Baby",
    "sports": "Sports_and_Outdoors",
    "clothing": "Clothing_Shoes_and_Jewelry",
}
TIMEOUT = 60
CHUNK = 1 << 20
ASIN = re.compile(r"""["']asin["']\s*:\s*["']([^"']+)["']""")


def prepare_amazon(
    raw: Path, folder: Path, name: str, url: str = URL, seed: int = 0
) -> None:
    r"""Make the prepared files of a category from the published ones.

    ``reviews_<category>_5.json.gz`` and ``meta_<category>.json.gz`` are downloaded
    where they are absent. The interactions are reduced to their 5-core and split 8:1:1
    at random per user; users and items are numbered in the order of their ids. A pair
    that was reviewed twice counts once. Items without metadata have no texts, and both
    are counted in a warning. An item's text is made of its title, brand, categories
    and description.

    Args:
        raw: The folder of the published files.
        folder: The folder to write ``users.tsv``, ``items.tsv`` and
            ``<name>.inter`` to.
        name: ``"baby"``, ``"sports"`` or ``"clothing"``.
        url: Where the files are downloaded from.
            (default: the project that published them)
        seed: Seed of the split. (default: :obj:`0`)

    Raises:
        DataError: If a file cannot be downloaded or read.
    """
    import pandas as pd

    files = [
        raw / f"reviews_{CATEGORIES[name]}_5.json.gz",
        raw / f"meta_{CATEGORIES[name]}.json.gz",
    ]
    for file in files:
        if not file.is_file():
            download(f"{url.rstrip('/')}/{file.name}", file)
    user_ids, item_ids = _read_reviews(files[0])
    reviewers, user = np.unique(user_ids, return_inverse=True)
    asins, item = np.unique(item_ids, return_inverse=True)
    # Sorted, so that the split does not depend on the order of the file.
    pairs = np.unique(np.stack([user, item]), axis=1)
    repeated = len(user) - pairs.shape[1]
    if repeated:
        warnings.warn(
            f"{files[0].name}: {repeated} of {len(user)} reviews repeat a user "
            f"and item; each pair counts once",
            stacklevel=2,
        )
    users, items = torch.from_numpy(pairs)
    kept = k_core(users, items, 5)
    if not kept.any():
        raise DataError(
            "no interactions are left in the 5-core",
            mend="use the whole file: each user and item needs five reviews",
            file=files[0],
        )
    user_numbers, users = users[kept].unique(return_inverse=True)
    numbers, items = items[kept].unique(return_inverse=True)
    asins = asins[numbers.numpy()].tolist()
    label = split_interactions(users, items, seed=seed)

    texts = _read_metadata(files[1], asins)
    table = pd.DataFrame(texts)
    table.insert(0, "asin", asins)
    table.insert(0, "itemID", range(len(asins)))
    with atomic_path(folder / "items.tsv") as temporary:
        table.to_csv(temporary, sep="\t", index=False, encoding="utf-8")
    names = pd.DataFrame({"reviewerID": reviewers[user_numbers.numpy()]})
    with atomic_path(folder / "users.tsv") as temporary:
        names.to_csv(temporary, sep="\t", index_label="userID", encoding="utf-8")
    # The interactions come last: these files count as prepared once they are there.
    inter = pd.DataFrame({"userID": users, "itemID": items, "x_label": label})
    with atomic_path(folder / f"{name}.inter") as temporary:
        inter.to_csv(temporary, sep="\t", index=False)


def download(url: str, file: Path) -> None:
    """Download a file with a progress bar; it is there once it is complete.

    Args:
        url: Where it is.
        file: Where it goes.

    Raises:
        DataError: If it cannot be downloaded, or not to its end.
    """
    mend = f"check the connection, or put the file into {file.parent} by hand"
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT) as response,
            atomic_path(file) as temporary,
            open(temporary, "wb") as stream,
        ):
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm(
                total=size or None, desc=file.name, unit="B", unit_scale=True
            ) as progress:
                while chunk := response.read(CHUNK):
                    stream.write(chunk)
                    progress.update(len(chunk))
                if size and progress.n != size:
                    raise DataError(
                        f"the download from {url} ended after {progress.n} of {size} "
                        f"bytes",
                        mend=mend,
                        file=file,
                    )
    except DataError:
        raise
    # A download cut short is an HTTPException, a url without a scheme a ValueError.
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(
            f"the download from {url} failed: {error}", mend=mend, file=file
        ) from error


def _read_reviews(file: Path) -> tuple[list[str], list[str]]:
    users: list[str] = []
    items: list[str] = []
    for row, line in _lines(file):
        review = _parse(line, file, row)
        for values, field in [(users, "reviewerID"), (items, "asin")]:
            value = review.get(field)
            if not isinstance(value, str) or not value.strip():
                raise DataError(
                    f"expected an id, got {value!r}",
                    mend="remove the line or download the file again",
                    file=file,
                    row=row,
                    field=field,
                )
            values.append(value)
    if not users:
        raise DataError("the file holds no review", mend="download it again", file=file)
    return users, items


def _read_metadata(file: Path, asins: list[str]) -> dict[str, list[str]]:
    """Read the texts of items, by column."""
    wanted = set(asins)
    found: dict[str, dict[str, str]] = {}
    for row, line in _lines(file):
        # Most lines of a category are of other items; parsing them takes minutes.
        match = ASIN.search(line)
        if match and match.group(1) not in wanted:
            continue
        entry = _parse(line, file, row)
        asin = entry.get("asin")
        if not isinstance(asin, str):
            raise DataError(
                f"expected an id, got {asin!r}",
                mend="remove the line or download the file again",
                file=file,
                row=row,
                field="asin",
            )
        if asin in wanted:
            found[asin] = _texts(entry)
    missing = len(wanted - found.keys())
    if missing:
        warnings.warn(
            f"{file.name}: {missing} of {len(wanted)} items have no metadata; their "
            f"texts are empty",
            stacklevel=3,
        )
    columns = list(_texts({}))
    return {
        name: [found[asin][name] if asin in found else "" for asin in asins]
        for name in columns
    }


def _texts(entry: dict[str, Any]) -> dict[str, str]:
    paths = entry.get("categories") or []
    names = [name for path in paths if isinstance(path, list) for name in path]
    texts = {
        "title": _clean(entry.get("title")),
        "brand": _clean(entry.get("brand")),
        "categories": " | ".join(dict.fromkeys(filter(None, map(_clean, names)))),
        "description": _clean(entry.get("description")),
    }
    text = " | ".join(filter(None, texts.values()))
    return {**texts, "image_url": _clean(entry.get("imUrl")), "text": text}


def _clean(value: Any) -> str:
    """Put a text on one line; anything but a text is a missing one, and so is nan."""
    if not isinstance(value, str):
        return ""
    text = " ".join(whole_characters(value).split())
    # What tables write of a missing text.
    return "" if text.lower() == "nan" else text


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Iterate over the lines of a compressed file that are not blank, with rows."""
    row = 0
    try:
        with gzip.open(file, "rb") as stream:
            for row, line in enumerate(stream, start=1):
                text = line.decode("utf-8")
                if text.strip():
                    yield row, text
    except UnicodeDecodeError as error:
        raise DataError(
            "the text is not UTF-8", mend="download it again", file=file, row=row
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"the file is damaged or incomplete: {error}",
            mend="delete it, so that it is downloaded again",
            file=file,
            row=row + 1,
        ) from error


def _parse(line: str, file: Path, row: int) -> dict[str, Any]:
    """Parse a line of JSON or, as in the metadata, a Python literal."""
    try:
        entry = json.loads(line)
    except ValueError:
        try:
            entry = ast.literal_eval(line.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            entry = None
    if not isinstance(entry, dict):
        raise DataError(
            "the line is neither a JSON object nor a Python dictionary",
            mend="remove the line or download the file again",
            file=file,
            row=row,
        )
    return entry
