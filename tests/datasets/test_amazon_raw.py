from __future__ import annotations

import gzip
import http.server
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mars_pyg.datasets import AmazonFactorDataset
from mars_pyg.datasets.amazon_raw import download
from mars_pyg.errors import DataError
from mars_pyg.tables import read_table

REVIEWS = "reviews_Baby_5.json.gz"
META = "meta_Baby.json.gz"
USERS = [f"A{number}" for number in range(6)]
ITEMS = [f"B{number}" for number in range(6)]


def reviews() -> list[str]:
    lines = []
    # Everybody reviews everything; a seventh user and item are not in the 5-core.
    pairs = [(user, item) for user in reversed(USERS) for item in ITEMS]
    for user, item in [*pairs, ("A9", "B0"), ("A0", "B9"), ("A9", "B9")]:
        review = {
            "reviewerID": user,
            "asin": item,
            "reviewerName": 'O\'Hara "Jo"',
            "helpful": [0, 0],
            "reviewText": "Café",
            "overall": 5.0,
            "unixReviewTime": 1373241600,
        }
        lines.append(json.dumps(review))
    return lines


def metadata() -> list[str]:
    entries: list[dict[str, Any]] = [
        {
            "asin": "B0",
            "categories": [["Baby", "Toys"], ["Baby", "Gifts"]],
            "description": "A doll.\nVery\tred.",
            "title": 'It\'s a "doll" &amp; more',
            "price": 3.5,
            "brand": "Acme",
            "imUrl": "http://example.com/0.jpg",
            "related": {"also_bought": ["B1"]},
        },
        {"asin": "B1", "title": None, "brand": "", "categories": [["Baby"]]},
        {"asin": "B2", "title": "Two"},
        {"asin": "B3"},
        {"asin": "ZZZ", "title": "another one"},
    ]
    # Python literals, as published, and one line of JSON.
    return [*map(repr, entries), json.dumps({"asin": "B4", "title": "Four"})]


def write(file: Path, lines: list[str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(file, "wt", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "root" / "raw"
    write(folder / REVIEWS, reviews())
    write(folder / META, metadata())
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve a folder over loopback."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as instance:
        thread = threading.Thread(target=instance.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{instance.server_port}"
        instance.shutdown()
        thread.join()


def check(root: Path, url: str = "http://127.0.0.1:9") -> None:
    with pytest.warns(UserWarning, match="1 of 6 items have no metadata"):
        data = AmazonFactorDataset(root, url=url)[0]
    assert data["user"].id == USERS
    item = data["item"]
    assert item.id == ITEMS
    assert item.title == ['It\'s a "doll" & more', "", "Two", "", "Four", ""]
    assert item.text == [
        'It\'s a "doll" & more | Acme | Baby | Toys | Gifts | A doll. Very red.',
        *["Baby", "Two", "", "Four", ""],
    ]
    assert item.brand[0] == "Acme"
    # Without profiles the catalogue's own columns are the factors.
    store = data["value"]
    pairs = data["item", "catalogue_value", "value"].edge_index.t().tolist()
    assert {
        (i, store.factor_name[int(store.factor[v])], store.name[v]) for i, v in pairs
    } == {
        (0, "brand", "Acme"),
        (0, "categories", "Baby"),
        (0, "categories", "Toys"),
        (0, "categories", "Gifts"),
        (1, "categories", "Baby"),
    }
    assert item.image_url[0] == "http://example.com/0.jpg"
    store = data["user", "interacts", "item"]
    # Of six interactions of a user, one is for validation and one for test.
    for edge_index, count in [
        (store.edge_index, 4),
        (store.val_edge_index, 1),
        (store.test_edge_index, 1),
    ]:
        assert edge_index[0].bincount().tolist() == [count] * 6
    assert data.validate()


@pytest.mark.parametrize("missing", ["nan", "NaN", float("nan")])
def test_a_missing_text_is_no_value(raw: Path, missing: object) -> None:
    lines = [
        json.dumps({"asin": "B0", "brand": missing, "categories": [["Baby", missing]]}),
        json.dumps({"asin": "B1", "brand": "Nanna", "title": missing}),
    ]
    write(raw / META, lines)
    with pytest.warns(UserWarning, match="4 of 6 items have no metadata"):
        data = AmazonFactorDataset(raw.parent)[0]
    assert data["value"].name == ["Nanna", "Baby"]
    assert data["item"].text[:3] == ["Baby", "Nanna", ""]


def test_put_there_by_hand(raw: Path) -> None:
    check(raw.parent)
    # From now on the prepared files are used.
    (raw / REVIEWS).unlink()
    assert AmazonFactorDataset(raw.parent)[0]["item"].num_nodes == 6


def test_downloaded(tmp_path: Path, raw: Path, server: str) -> None:
    for name in (REVIEWS, META):
        (raw / name).rename(tmp_path / "served" / name)
    check(raw.parent, server + "/")
    assert sorted(path.name for path in raw.iterdir()) == [META, REVIEWS]


def test_split_does_not_depend_on_the_order_of_the_file(raw: Path) -> None:
    def prepared() -> np.ndarray:
        folder = raw.parent / "amazon-baby"
        with pytest.warns(UserWarning, match="no metadata"):
            AmazonFactorDataset(raw.parent)
        table = read_table(folder / "baby.inter")
        (folder / "baby.inter").unlink()
        return table.to_numpy()

    first = prepared()
    write(raw / REVIEWS, sorted(reviews()))
    assert (prepared() == first).all()


def test_repeated_reviews_count_once(raw: Path) -> None:
    write(raw / REVIEWS, [*reviews(), *reviews()[:3]])
    with (
        pytest.warns(UserWarning, match="no metadata"),
        pytest.warns(UserWarning, match="3 of 42 reviews repeat"),
    ):
        data = AmazonFactorDataset(raw.parent)[0]
    assert data["user", "interacts", "item"].num_edges == 24


@pytest.mark.parametrize(
    ("name", "line", "field", "words"),
    [
        (REVIEWS, "{'reviewerID':", None, "neither"),
        (REVIEWS, "[1, 2]", None, "neither"),
        (REVIEWS, '{"asin": "B0"}', "reviewerID", "None"),
        (REVIEWS, '{"reviewerID": "A0", "asin": ""}', "asin", "''"),
        (META, "{'title': 'x'}", "asin", "None"),
        (META, "{'asin': 'B0', 'title': __import__('os').sep}", None, "neither"),
        (META, "{'asin': 'B0', 'title': 'cut of", None, "neither"),
    ],
)
def test_bad_lines(
    raw: Path, name: str, line: str, field: str | None, words: str
) -> None:
    lines = reviews() if name == REVIEWS else metadata()
    # A blank line before it counts as a line.
    write(raw / name, [lines[0], "", line, *lines[1:]])
    with pytest.raises(DataError, match=words) as caught:
        AmazonFactorDataset(raw.parent)
    assert caught.value.file == str(raw / name)
    assert (caught.value.row, caught.value.field) == (3, field)
    assert not (raw.parent / "amazon-baby/baby.inter").exists()


def test_damaged_files(raw: Path) -> None:
    file = raw / REVIEWS
    whole = file.read_bytes()
    for content, words in [
        (whole[:-20], "damaged or incomplete"),
        (b"<html>not found</html>", "damaged or incomplete"),
        (gzip.compress(b'{"asin": "\xe9"}\n'), "UTF-8"),
        (gzip.compress(b""), "no review"),
    ]:
        file.write_bytes(content)
        with pytest.raises(DataError, match=words) as caught:
            AmazonFactorDataset(raw.parent)
        assert caught.value.file == str(file)


def test_empty_core(raw: Path) -> None:
    write(raw / REVIEWS, reviews()[:12])
    with pytest.raises(DataError, match="5-core"):
        AmazonFactorDataset(raw.parent)


def test_characters_in_two_halves(raw: Path) -> None:
    lines = metadata()
    lines[2] = "{'asin': 'B2', 'title': 'Cup \\ud83d\\ude00 \\ud83d'}"
    write(raw / META, lines)
    data = AmazonFactorDataset(raw.parent, url="http://127.0.0.1:9")[0]
    place = data["item"].id.index("B2")
    assert data["item"].title[place] == "Cup \U0001f600 \ufffd"


def test_failed_downloads(tmp_path: Path, server: str) -> None:
    with pytest.raises(DataError, match="404") as caught:
        download(f"{server}/{META}", tmp_path / "raw" / META)
    assert "by hand" in caught.value.mend
    assert not (tmp_path / "raw" / META).exists()


def test_download_that_ends_early(tmp_path: Path) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as instance:
        threading.Thread(target=instance.serve_forever, daemon=True).start()
        file = tmp_path / "raw" / META
        with pytest.raises(DataError, match="4 of 100 bytes"):
            download(f"http://127.0.0.1:{instance.server_port}/x", file)
        instance.shutdown()
    assert list(file.parent.iterdir()) == []


def test_chunked_download_that_is_cut(tmp_path: Path) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"100\r\nhalf")
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as instance:
        threading.Thread(target=instance.serve_forever, daemon=True).start()
        file = tmp_path / "raw" / META
        with pytest.raises(DataError, match=r"the download from .* failed") as caught:
            download(f"http://127.0.0.1:{instance.server_port}/x", file)
        instance.shutdown()
    assert "by hand" in caught.value.mend
    assert list(file.parent.iterdir()) == []


def test_url_without_a_scheme(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the download from example failed"):
        download("example", tmp_path / META)
