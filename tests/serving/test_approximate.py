"""Approximate search, of which all scores are exact."""

from __future__ import annotations

import json

import pytest
import torch
from served_data import make_graph, make_recommender

import mars_pyg
from mars_pyg import BPR, DataError
from mars_pyg.serving import RetrievalIndex, approximate, export
from mars_pyg.serving.approximate import ApproximateSearch, frequent_values
from mars_pyg.user_items import UserItems

faiss = pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def data():
    return make_graph(num_users=300, num_items=400)


@pytest.fixture(scope="module")
def index(data):
    return RetrievalIndex.from_recommender(make_recommender(data), data)


def naive(index, users, k, left_out):
    score = index.score(users)[0]
    score[left_out] = -torch.inf
    return score.topk(k)


@pytest.mark.parametrize("min_items", [0, 40, 10_000])
def test_an_exhaustive_search_is_exact(data, index, monkeypatch, min_items):
    monkeypatch.setattr(approximate, "MIN_VALUE_ITEMS", min_items)
    monkeypatch.setattr(approximate, "MAX_VALUE_COLUMNS", 30)
    column = frequent_values(index)
    size = [len(index.item[index.ptr[c] : index.ptr[c + 1]]) for c in column]
    assert all(number > min_items for number in size)
    assert bool(size) == (min_items < 10_000)
    search = ApproximateSearch(index, factory="Flat")
    train = UserItems.from_data(data, "train")
    for u in range(20):
        history = train.take(torch.tensor([u]))
        users = index.user_vectors(history)
        score, item = search.search(users, 10, history.item)
        expected = naive(index, users, 10, history.item)
        assert item.tolist() == expected.indices.tolist()
        torch.testing.assert_close(score, expected.values, atol=1e-4, rtol=1e-4)


def test_a_coarse_search_returns_exact_scores_and_most_items(data, index, monkeypatch):
    monkeypatch.setattr(approximate, "MIN_CANDIDATES", 50)
    monkeypatch.setattr(approximate, "CANDIDATES_PER_ITEM", 5)
    monkeypatch.setattr(approximate, "MAX_FLAT", 100)
    search = ApproximateSearch(index)
    assert (search.searcher.nlist, search.searcher.nprobe) == (40, 5)
    train = UserItems.from_data(data, "train")
    hits = 0
    for u in range(50):
        history = train.take(torch.tensor([u]))
        users = index.user_vectors(history)
        score, item = search.search(users, 10, history.item)
        torch.testing.assert_close(
            score, index.score(users)[0, item], atol=1e-4, rtol=1e-4
        )
        assert not set(item.tolist()) & set(history.item.tolist())
        hits += len(
            set(item.tolist()) & set(naive(index, users, 10, history.item)[1].tolist())
        )
    assert 0.7 * 50 * 10 < hits <= 50 * 10


def test_a_folder_keeps_the_index_of_faiss(data, tmp_path, monkeypatch):
    recommender = make_recommender(data)
    export(recommender, data, tmp_path, k=0)
    exact = mars_pyg.load(tmp_path)
    built = mars_pyg.load(tmp_path, approximate=True)
    # Asked for later, it is added.
    export(recommender, data, tmp_path, k=0, approximate="Flat")
    monkeypatch.setattr(ApproximateSearch, "_build", None)
    read = mars_pyg.load(tmp_path, approximate=True)
    user, items = data["user"].id[3], data["item"].id[:5]
    for served in (built, read):
        for who in (user, items):
            expected = exact.recommend(who)
            found = served.recommend(who)
            assert [r.item for r in found] == [r.item for r in expected]
        filters = {"color": "red"}
        assert served.recommend(user, 5, filters) == exact.recommend(user, 5, filters)
    # More items than there are.
    assert len(read.recommend([], k=500)) == 400


def test_another_form_is_built_anew(data, tmp_path, monkeypatch):
    recommender = make_recommender(data)
    forms = []
    build = ApproximateSearch._build
    monkeypatch.setattr(
        ApproximateSearch,
        "_build",
        lambda self, form: forms.append(form) or build(self, form),
    )

    def again(form):
        export(recommender, data, tmp_path, k=0, approximate=form)
        searcher = mars_pyg.load(tmp_path, approximate=True).approximate.searcher
        return type(searcher)

    assert again("Flat") is faiss.IndexFlatIP
    assert again("HNSW8") is again("HNSW8") is again(None) is faiss.IndexHNSWFlat
    with pytest.raises(DataError, match="faiss cannot make an index 'magic'"):
        again("magic")
    assert forms == ["Flat", "HNSW8", "magic"]
    # The manifest of before did not say of which form the index is.
    manifest = json.loads((tmp_path / "index.json").read_text())
    del manifest["approximate"]
    (tmp_path / "index.json").write_text(json.dumps(manifest))
    assert mars_pyg.load(tmp_path, approximate=True).num_items == 400
    assert again("Flat") is faiss.IndexFlatIP


def test_a_model_that_returns_its_embeddings(data, tmp_path):
    """Embeddings have a gradient, which a matrix of numpy has not."""
    torch.manual_seed(0)
    model = BPR(data, embedding_dim=8)
    export(model, data, tmp_path, k=0, approximate="Flat")
    user = data["user"].id[3]
    expected = mars_pyg.load(tmp_path).recommend(user)
    found = mars_pyg.load(tmp_path, approximate=True).recommend(user)
    assert [r.item for r in found] == [r.item for r in expected]


def test_an_inverted_file_behind_a_transform_searches_as_many_lists(index):
    search = ApproximateSearch(index, factory="PCA4,IVF32,Flat")
    assert faiss.extract_index_ivf(search.searcher).nprobe == 4


def test_mistakes(data, index, tmp_path):
    # The second needs more items for its lists.
    for form in ("magic", "IVF500,Flat"):
        with pytest.raises(DataError, match=f"faiss cannot make an index '{form}'"):
            ApproximateSearch(index, factory=form)
    recommender = make_recommender(data)
    export(recommender, data, tmp_path, k=0, approximate="Flat")
    path = tmp_path / "index.faiss"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="damaged"):
        mars_pyg.load(tmp_path, approximate=True)
    with pytest.raises(DataError, match="damaged"):
        approximate.read_searcher(path)
    other = faiss.IndexFlatIP(2)
    other.add(torch.zeros(3, 2).numpy())
    with pytest.raises(DataError, match="holds 3 vectors of width 2, not 400"):
        ApproximateSearch(index, other)
