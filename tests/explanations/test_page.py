"""The page: well-formed, self-contained, escaped, and the sums as they are."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from explained_data import make_catalogue, make_recommender
from torch_geometric.data import HeteroData

from mars_pyg import DataError, explain
from mars_pyg.explanations import render_page, write_page
from mars_pyg.heads.build import HEADS

SPLITS = ("train", "val", "test")
VOID = {"meta", "br", "link", "img", "input", "hr"}
ATTACK = "<script>alert('1')</script>\" onload=\"x"


class Page(HTMLParser):
    """A page's elements and texts; fails on an element that is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1], " ".join(data.split())))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(text for _, text in self.texts)


@pytest.fixture(scope="module")
def data() -> HeteroData:
    return make_catalogue()


def test_the_page_is_accessible_and_loads_nothing(data):
    recommender = make_recommender(data, "mars", list(HEADS))
    users = data["user"].id[:2]
    text = render_page(recommender, data, users, k=4)
    assert text.startswith("<!doctype html>")
    page = Page(text)
    assert page.of("html") == [{"lang": "en"}]
    (title,) = [text for tag, text in page.texts if tag == "title"]
    assert users[0] in title
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert len(page.of("table")) >= 2 * (1 + 4)
    assert all("scope" in attributes for attributes in page.of("th"))
    for attributes in (attributes for _, attributes in page.elements):
        assert not {"src", "srcset", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert not {"script", "link", "iframe", "img"} & {tag for tag, _ in page.elements}
    assert not re.search(r"https?:|url\(|@import", text)
    identities = {attributes.get("id") for _, attributes in page.elements}
    for attributes in page.of("a"):
        assert (attributes["href"] or "")[1:] in identities


def test_the_page_shows_the_explanations(data):
    recommender = make_recommender(data, "mars", list(HEADS))
    user = data["user"].id[4]
    page = Page(render_page(recommender, data, [user, user], k=3))
    found = explain(recommender, data, user, k=3, splits=SPLITS)
    numbers = [
        float(text.replace("\N{MINUS SIGN}", "-"))
        for tag, text in page.texts
        if tag == "td" and re.fullmatch(r"[+\N{MINUS SIGN}]?\d+\.\d{3}", text)
    ]
    expected = []
    for entry in found:
        sizes = [round(reason.contribution, 3) for reason in entry.reasons]
        assert len(sizes) > 7
        rest = sum(reason.contribution for reason in entry.reasons[6:])
        expected += [*sizes[:6], round(rest, 3), round(entry.score, 3), *sizes[6:]]
        assert entry.title in page.text
        assert entry.reasons[0].text("their") in page.text
    assert numbers == pytest.approx(expected, abs=1e-9)
    assert len(page.of("section")) == 1
    edges = data["user", "interacts", "item"].edge_index
    history = edges[1][edges[0] == 4].unique()
    assert f"History: {len(history)} items" in page.text
    for item in history.tolist():
        assert data["item"].id[item] in page.text
    assert "What the model does not know" in page.text
    assert re.search(r"(Without|No single item)", page.text)


def test_bars_point_by_their_sign_and_stay_in_their_room(data):
    recommender = make_recommender(data, "mars", list(HEADS))
    page = Page(render_page(recommender, data, data["user"].id[:1], k=3))
    bars = [a for a in page.of("span") if a.get("class") in ("for", "against")]
    ends = set()
    for attributes in bars:
        style = dict(re.findall(r"(\w+): ([\d.]+)%", attributes["style"] or ""))
        side = "left" if attributes["class"] == "for" else "right"
        end = float(style[side]) + float(style["width"])
        assert end <= 100.02
        ends.add(round(end))
    # The largest of each sign fills its side.
    assert 100 in ends
    found = explain(recommender, data, data["user"].id[0], k=3, splits=SPLITS)
    sizes = [reason.contribution for entry in found for reason in entry.reasons]
    assert sum(a["class"] == "for" for a in bars) == sum(size > 0 for size in sizes)


def test_text_of_the_catalogue_is_escaped(data):
    data = data.clone()
    data["item"].title = [f"{ATTACK} {i}" for i in range(25)]
    data["item"].id = [f"{ATTACK} {i}" for i in data["item"].id]
    data["user"].id = [f"{ATTACK} {i}" for i in data["user"].id]
    data["value"].name = [f"{ATTACK} {i}" for i in data["value"].name]
    data["value"].factor_name = [f"{ATTACK} {i}" for i in data["value"].factor_name]
    recommender = make_recommender(data, "mars", list(HEADS))
    text = render_page(recommender, data, data["user"].id[:2], k=3)
    assert "<script" not in text
    assert "alert(&#39;1&#39;)" in text
    page = Page(text)
    assert not any("onload" in attributes for _, attributes in page.elements)
    assert page.text.count("<script>alert('1')</script>\" onload=\"x") > 20


def test_other_recommenders_and_users_have_a_page(data):
    for model, heads in (
        ("bpr", []),
        ("lightgcn", []),
        ("none", ["affinity"]),
        ("bpr", ["ease"]),
    ):
        recommender = make_recommender(data, model, heads)
        page = Page(render_page(recommender, data, data["user"].id[:1], k=2))
        known = "Without" in page.text or "No single" in page.text
        assert known == (bool(heads) or model == "lightgcn")

    bare = HeteroData()
    bare["user"].num_nodes, bare["item"].num_nodes = 2, 2
    bare["user"].id, bare["item"].id = ["a", "b"], ["x", "y"]
    store = bare["user", "interacts", "item"]
    store.edge_index = torch.tensor([[0, 0], [0, 1]])
    store.val_edge_index = store.test_edge_index = torch.empty(2, 0, dtype=torch.int64)
    recommender = make_recommender(bare, "lightgcn", ["ease", "popularity"])
    page = Page(render_page(recommender, bare, ["a", "b"]))
    assert "The user has every item." in page.text
    assert "There is none." in page.text
    assert "The model knows nothing of this user" in page.text


def test_a_long_history_is_folded_and_not_cut(data):
    data = data.clone()
    store = data["user", "interacts", "item"]
    everything = torch.stack([torch.zeros(20, dtype=torch.int64), torch.arange(20)])
    store.edge_index = torch.cat([store.edge_index, everything], dim=1).unique(dim=1)
    recommender = make_recommender(data, "bpr", ["ease"])
    page = Page(render_page(recommender, data, data["user"].id[:1], k=2))
    assert re.search(r"\d+ more", page.text)
    assert all(data["item"].id[item] in page.text for item in range(20))


def test_the_file_is_written_whole_or_not_at_all(data, tmp_path: Path):
    recommender = make_recommender(data, "bpr", [])
    path = tmp_path / "pages" / "page.html"
    write_page(path, recommender, data, data["user"].id[:1], k=2)
    before = path.read_text(encoding="utf-8")
    assert before == render_page(recommender, data, data["user"].id[:1], k=2)
    with pytest.raises(DataError, match="no user 'nobody'"):
        write_page(path, recommender, data, ["nobody"])
    assert path.read_text(encoding="utf-8") == before
    assert list(path.parent.iterdir()) == [path]
