from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import DatasetAdapter

from mars_pyg.errors import DataError
from mars_pyg.transforms import AddItemKNN, item_cells


def catalogue(**features: Tensor) -> HeteroData:
    data = HeteroData()
    data["item"].num_nodes = len(next(iter(features.values())))
    for name, x in features.items():
        data["item"][name] = x
    return data


def knn(data: HeteroData, **options: object) -> Tensor:
    edge_index: Tensor = AddItemKNN(**options)(data)[  # type: ignore[arg-type]
        "item", "similar", "item"
    ].edge_index
    return edge_index


def similarity(x: Tensor) -> Tensor:
    """Cosines in float64, pair by pair; zero where a row is zero."""
    x = x.double()
    norm = x.norm(dim=1)
    result = torch.zeros(len(x), len(x), dtype=torch.double)
    for i in range(len(x)):
        for j in range(len(x)):
            if norm[i] > 0 and norm[j] > 0:
                result[i, j] = (x[i] @ x[j]) / (norm[i] * norm[j])
    return result


def check(edge_index: Tensor, sim: Tensor, missing: Tensor, k: int) -> None:
    """Check that each item has its k nearest, up to ties on the grid."""
    num_items = len(sim)
    assert edge_index.dtype == torch.long
    assert edge_index.unique(dim=1).size(1) == edge_index.size(1)
    assert (edge_index[1].diff() >= 0).all()
    for item in range(num_items):
        chosen = edge_index[0, edge_index[1] == item]
        assert item in chosen
        if missing[item]:
            assert len(chosen) == 1
            continue
        candidates = ~missing
        assert len(chosen) == min(k, int(candidates.sum()))
        assert candidates[chosen].all()
        left = candidates.clone()
        left[chosen] = False
        others = chosen[chosen != item]
        if left.any() and len(others):
            assert sim[item, others].min() >= sim[item, left].max() - 2e-5


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 30),
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(0, 2**16),
)
def test_equals_naive_search(n: int, d: int, k: int, block: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Few distinct numbers make ties and rows of zeros.
    x = torch.randint(-1, 2, (n, d), generator=generator).float()
    x[:, 0] *= 1 + torch.rand(n, generator=generator)
    edge_index = knn(catalogue(x_text=x), k=k, block_size=block, seed=seed)
    check(edge_index, similarity(x), (x == 0).all(dim=1), k)


def test_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [3.0, 0.3], [0.0, 2.0], [-1.0, 0.1]])
    edges = knn(catalogue(x_text=x), k=2).t().tolist()
    # From the neighbour to the item: 0 and 1 choose one another, 3 chooses 2.
    assert {(0, 0), (1, 0), (1, 1), (0, 1), (2, 2), (1, 2), (3, 3), (2, 3)} == {
        (a, b) for a, b in edges
    }


@pytest.mark.parametrize("block_size", [1, 7, 1024])
def test_block_size_does_not_matter(block_size: int) -> None:
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    expected = knn(catalogue(x_text=x), k=4)
    assert torch.equal(knn(catalogue(x_text=x), k=4, block_size=block_size), expected)


def test_several_features() -> None:
    generator = torch.Generator().manual_seed(0)
    text, image = torch.randn(2, 25, 5, generator=generator)
    image[3:6] = 0
    text[5:7] = 0
    data = catalogue(x_text=text, x_image=image * 100)
    sim = 0.75 * similarity(text) + 0.25 * similarity(image)
    missing = torch.zeros(25, dtype=torch.bool)
    missing[5] = True
    weights = {"x_text": 3.0}
    check(knn(data, k=6, weights=weights), sim, missing, 6)
    # Naming the features that are there is the same, naming one leaves the other out.
    attrs = ["x_text", "x_image"]
    assert torch.equal(
        knn(data, k=6, attrs=attrs, weights=weights), knn(data, k=6, weights=weights)
    )
    check(knn(data, attrs=["x_image"]), similarity(image), (image == 0).all(1), 10)


def test_ties_are_spread_evenly() -> None:
    # Three texts with 200, 100 and 50 items; the first two are near to one another.
    text = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    generator = torch.Generator().manual_seed(3)
    kind = torch.tensor([0] * 200 + [1] * 100 + [2] * 50)
    kind = kind[torch.randperm(350, generator=generator)]
    for k in (2, 10):
        edge_index = knn(catalogue(x_text=text[kind]), k=k)
        assert (kind[edge_index[0]] == kind[edge_index[1]]).all()
        degree = edge_index[0].bincount(minlength=350)
        assert degree.sum() == 350 * k
        assert degree.min() >= k - 1
        assert degree.max() <= k + 1


def test_neighbours_from_a_group_of_ties_differ() -> None:
    # A hundred different items are all as near to fifty equal ones.
    x = torch.cat([torch.eye(100), torch.zeros(100, 1)], dim=1)
    x = torch.cat([x, torch.ones(50, 101)])
    edge_index = knn(catalogue(x_text=x), k=5)
    outside = edge_index[:, edge_index[1] < 100]
    degree = outside[0].bincount(minlength=150)
    assert degree[:100].tolist() == [1] * 100
    assert degree[100:].sum() == 400
    # Even would be eight each; without a rule four items would have a hundred.
    assert degree[100:].max() <= 24


def test_seed() -> None:
    x = torch.ones(60, 3)
    first = knn(catalogue(x_text=x), k=5, seed=1)
    assert torch.equal(first, knn(catalogue(x_text=x), k=5, seed=1))
    assert torch.equal(first, knn(catalogue(x_text=x), k=5, seed=np.int64(1)))
    assert not torch.equal(first, knn(catalogue(x_text=x), k=5, seed=2))


def test_scale_of_features_does_not_matter() -> None:
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    scale = torch.logspace(-30, 30, 20)[:, None]
    assert torch.equal(
        knn(catalogue(x_text=x), k=3), knn(catalogue(x_text=x * scale), k=3)
    )


def test_more_neighbours_than_items_and_no_items() -> None:
    assert knn(catalogue(x_text=torch.ones(3, 2)), k=10).size(1) == 9
    assert knn(catalogue(x_text=torch.ones(0, 2))).size() == (2, 0)


def test_functional_name_and_validate() -> None:
    (data,) = list(DatasetAdapter([catalogue(x_a=torch.ones(2, 2))]).add_item_knn(k=1))
    assert data["item", "similar", "item"].edge_index.tolist() == [[0, 1], [0, 1]]
    assert data.validate()


def test_faults() -> None:
    x = torch.ones(4, 2)
    for bad in (torch.nan, torch.inf):
        broken = x.clone()
        broken[2, 1] = bad
        with pytest.raises(DataError, match="item 2") as caught:
            knn(catalogue(x_text=broken))
        assert caught.value.field == "x_text"
    with pytest.raises(DataError, match="no x_image"):
        knn(catalogue(x_text=x), attrs=["x_image"])
    with pytest.raises(DataError, match=r"no x_\*"):
        knn(catalogue(features=x))
    with pytest.raises(DataError, match="4 rows"):
        knn(catalogue(x_text=x, x_image=torch.ones(3, 2)))
    for sparse in (x.to_sparse(), x.to_sparse_csr()):
        with pytest.raises(DataError, match=r"x_text.*sparse.*to_dense"):
            knn(catalogue(x_text=sparse))
    with pytest.raises(ValueError, match="k must be"):
        AddItemKNN(k=0)
    with pytest.raises(ValueError, match="block_size"):
        AddItemKNN(block_size=0)
    with pytest.raises(ValueError, match="at least one"):
        AddItemKNN(attrs=[])
    with pytest.raises(ValueError, match="positive"):
        AddItemKNN(weights={"x_text": 0})
    with pytest.raises(ValueError, match="not among"):
        AddItemKNN(attrs=["x_text"], weights={"x_image": 1})


def test_approximate_search_finds_most_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(60, 16, generator=generator)
    x = centers[torch.randint(60, (6000,), generator=generator)]
    x = x + 0.7 * torch.randn(6000, 16, generator=generator)
    x[::50] = 0
    data = catalogue(x_text=x)
    exact, found = (
        knn(data, k=5, search=search) for search in ("exact", "approximate")
    )
    # Everything holds that holds of the exact graph, but for the choice.
    assert found.shape == exact.shape
    assert (found[1].diff() >= 0).all()
    assert found.unique(dim=1).size(1) == found.size(1)
    assert torch.equal(found[1].bincount(), exact[1].bincount())
    alone = found[:, (found[1] % 50) == 0]
    assert torch.equal(alone[0], alone[1])
    assert ((found[0] == found[1]).sum()) == 6000
    keys = [edges[0] * 6000 + edges[1] for edges in (exact, found)]
    assert torch.isin(*keys).float().mean() > 0.9
    assert torch.equal(found, knn(data, k=5, search="approximate"))


def test_approximate_search_of_few_items_is_exact() -> None:
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(1))
    data = catalogue(x_text=x)
    found, exact = (knn(data, search=search) for search in ("approximate", "exact"))
    keys = [(edges[0] * 300 + edges[1]).sort().values for edges in (found, exact)]
    assert torch.equal(*keys)
    nothing = catalogue(x_text=torch.zeros(3, 2))
    assert knn(nothing, search="approximate").tolist() == [[0, 1, 2], [0, 1, 2]]


def test_approximate_search_of_few_cells_is_exact() -> None:
    # Three cells, in the order of which all items are candidates.
    x = torch.randn(1500, 8, generator=torch.Generator().manual_seed(1))
    data = catalogue(x_text=x)
    found, exact = (knn(data, search=search) for search in ("approximate", "exact"))
    keys = [(edges[0] * 1500 + edges[1]).sort().values for edges in (found, exact)]
    assert torch.equal(*keys)


@pytest.mark.parametrize(("min_listed", "max_ties"), [(0, 2**21), (0, 100), (12, 1)])
def test_how_ties_are_ranked_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, min_listed: int, max_ties: int
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.eye(4)[torch.randint(4, (40,), generator=generator)]
    x[:15] = torch.randn(15, 4, generator=generator)
    data = catalogue(x_text=x)
    edge_index = knn(data, k=3, block_size=7)
    monkeypatch.setattr("mars_pyg.transforms.add_item_knn.MIN_LISTED", min_listed)
    monkeypatch.setattr("mars_pyg.transforms.add_item_knn.MAX_TIES", max_ties)
    assert torch.equal(knn(data, k=3, block_size=7), edge_index)


def test_search_is_by_size_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = catalogue(x_text=torch.randn(20, 4))
    assert torch.equal(knn(data), knn(data, search="exact"))
    monkeypatch.setattr("mars_pyg.transforms.add_item_knn.MAX_EXACT", 19)
    assert torch.equal(knn(data), knn(data, search="approximate"))
    with pytest.raises(ValueError, match="search must be one of"):
        AddItemKNN(search="fast")


@pytest.mark.parametrize("seed", [1, 3])
def test_approximate_search_of_items_that_are_nearly_equal(seed: int) -> None:
    # More cells than are compared have the same centre, but for rounding.
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(2, 8, generator=generator)
    group = (torch.rand(12_000, generator=generator) < 0.3).long()
    x = base[group] + 1e-4 * torch.randn(12_000, 8, generator=generator)
    edge_index = knn(catalogue(x_text=x), k=3, search="approximate")
    assert int((edge_index[0] == edge_index[1]).sum()) == 12_000
    assert (group[edge_index[0]] == group[edge_index[1]]).all()


def test_approximate_search_is_linear_in_items_that_are_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(item_cells, "CELL_SIZE", 20)
    monkeypatch.setattr(item_cells, "MAX_CANDIDATES", 300)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1_000, 8, generator=generator)
    x[:800] = x[0]
    unit = torch.nn.functional.normalize(x, dim=1)
    blocks = item_cells.nearby_items(unit, torch.arange(1_000))
    for block, near in blocks:
        candidate = torch.cat(near)
        assert torch.isin(block, candidate).all()
        assert len(candidate.unique()) == len(candidate) <= 300 + 40 + 20
    assert sum(len(block) for block, _ in blocks) == 1_000
    edge_index = knn(catalogue(x_text=x), k=3, search="approximate")
    assert int((edge_index[0] == edge_index[1]).sum()) == 1_000
    # Equal items are near to each other, and none of them to all.
    near = edge_index[0, edge_index[1] < 800]
    assert (near < 800).all()
    assert near.bincount().max() < 40


def test_one_name_is_no_list_of_names() -> None:
    with pytest.raises(TypeError, match=r"'attrs' must be a list.*\['x_text'\]"):
        AddItemKNN(attrs="x_text")


def test_a_weight_of_what_is_not_compared_is_refused() -> None:
    data = catalogue(x_text=torch.ones(3, 2))
    data["item"].size = torch.ones(3, 1)
    with pytest.raises(DataError, match=r"'size'.*not compared"):
        knn(data, weights={"size": 2.0})
