"""The items that are most like new ones, against the cosines one by one."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from mars_pyg.nn import item_similarity
from mars_pyg.nn.item_similarity import similar_items


def make(features, item_values, num_values):
    data = HeteroData()
    data["item"].num_nodes = len(item_values)
    for name, x in features.items():
        data["item"][f"x_{name}"] = torch.tensor(x)
    data["value"].num_nodes = num_values
    edges = [(i, v) for i, values in enumerate(item_values) for v in sorted(values)]
    data["item", "text_value", "value"].edge_index = (
        torch.tensor(edges, dtype=torch.int64).view(-1, 2).t()
    )
    return data


def cosine(a, b):
    norm = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norm if norm > 1e-6 else 0.0


@st.composite
def catalogues(draw):
    num_old, num_new = draw(st.integers(1, 5)), draw(st.integers(0, 3))
    total = num_old + num_new
    rows = st.lists(
        st.tuples(*[st.sampled_from([0.0, 1.0, -2.0, 0.5])] * 2),
        min_size=total,
        max_size=total,
    )
    features = {
        name: draw(rows) for name in draw(st.sampled_from([[], ["a"], ["a", "b"]]))
    }
    values = st.lists(st.sets(st.integers(0, 3)), min_size=total, max_size=total)
    return num_old, features, draw(values)


@settings(deadline=None, max_examples=60)
@given(catalogues(), st.integers(1, 4), st.sampled_from([1, 2**20]))
def test_neighbours_are_those_of_the_largest_sums_of_cosines(catalogue, k, block):
    num_old, features, item_values = catalogue
    old, new = range(num_old), range(num_old, len(item_values))
    item_similarity.MAX_SCORES = block
    neighbor, like = similar_items(make(features, item_values, 4), num_old, k)
    item_similarity.MAX_SCORES = 2**25
    assert neighbor.shape == like.shape == (len(new), min(k, num_old))
    vectors = []
    for x in features.values():
        known = [any(row) for row in x]
        count = max(sum(known[:num_old]), 1)
        mean = [sum(x[i][d] for i in old) / count for d in range(2)]
        vectors.append(
            [
                [a - b for a, b in zip(row, mean, strict=True)] if there else [0.0, 0.0]
                for row, there in zip(x, known, strict=True)
            ]
        )
    numbers = [sum(v in item_values[i] for i in old) for v in range(4)]
    rarity = [math.log(num_old / max(n, 1)) for n in numbers]
    vectors.append(
        [[rarity[v] * (v in values) for v in range(4)] for values in item_values]
    )
    for row, i in enumerate(new):
        scores = [sum(cosine(x[i], x[j]) for x in vectors) for j in old]
        best = sorted(scores, reverse=True)[:k]
        found = [scores[j] for j in neighbor[row].tolist()]
        assert len(set(neighbor[row].tolist())) == len(found)
        for a, b in zip(sorted(found, reverse=True), best, strict=True):
            assert abs(a - b) < 1e-4
        for score, there in zip(found, like[row].tolist(), strict=True):
            assert there == (score > 0) or abs(score) < 1e-4


def test_a_graph_without_values_and_features_says_nothing():
    data = HeteroData()
    data["item"].num_nodes = 3
    neighbor, like = similar_items(data, 2, 5)
    assert neighbor.shape == (1, 2)
    assert not like.any()


def test_double_precision_as_the_default_changes_nothing():
    features = {"a": [[1.0, 0.0], [0.5, 1.0], [0.0, 2.0]]}
    data = make(features, [{0}, {1}, {1}], 2)
    expected = similar_items(data, 2, 2)
    torch.set_default_dtype(torch.float64)
    try:
        found = similar_items(data, 2, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, expected))
