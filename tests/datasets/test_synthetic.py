import pytest
import torch

from mars_pyg.datasets import SyntheticFactorDataset

INTERACTS = ("user", "interacts", "item")


@pytest.fixture(scope="module")
def data():
    return SyntheticFactorDataset(seed=3)[0]


def test_form(data):
    assert data.validate()
    assert all(store.edge_index.is_contiguous() for store in data.edge_stores)
    assert len(SyntheticFactorDataset(20, 10)) == 1
    assert data["user"].num_nodes == 2000 == len(set(data["user"].id))
    assert data["item"].num_nodes == 1000 == len(set(data["item"].id))
    assert set(data["value"].factor_name) >= {"product_type", "color", "brand"}
    splits = [data[INTERACTS][f"{s}edge_index"] for s in ("", "val_", "test_")]
    edges = torch.cat(splits, dim=1)
    assert edges.unique(dim=1).size(1) == edges.size(1)
    count = torch.bincount(edges[0], minlength=2000)
    assert count.min() >= 5
    tenth = (count // 10).clamp(min=1)
    for held_out in splits[1:]:
        assert torch.equal(torch.bincount(held_out[0], minlength=2000), tenth)


def test_planted_tastes_can_be_found_in_the_interactions(data):
    """Users take items with their values far more often than popularity explains."""
    values = data["value"].num_nodes
    has = torch.zeros(1000, values)
    item, value = data["item", "text_value", "value"].edge_index
    has[item, value] = 1
    user, chosen = data[INTERACTS].edge_index
    share = has[chosen].mean(dim=0)  # Of all interactions, with a value.
    likes = data["user", "prefers", "value"].edge_index
    mine = torch.zeros(2000, values).index_add_(0, user, has[chosen])
    mine /= torch.bincount(user, minlength=2000)[:, None]
    lift = mine[likes[0], likes[1]].mean() / share[likes[1]].mean()
    assert lift > 2
    other = likes[1][torch.randperm(likes.size(1), generator=torch.manual_seed(0))]
    assert mine[likes[0], other].mean() / share[other].mean() < 1.3


def test_popularity_is_skewed(data):
    count = torch.bincount(data[INTERACTS].edge_index[1], minlength=1000)
    top = count.sort(descending=True).values[:100].sum() / count.sum()
    assert 0.2 < top < 0.6


def test_rates_of_profiles():
    data = SyntheticFactorDataset(
        200, 4000, num_factors=6, missing_rate=0.3, multiple_rate=0.5, no_text_rate=0.2
    )[0]
    has_text = torch.tensor([bool(title) for title in data["item"].title])
    assert has_text.float().mean() == pytest.approx(0.8, abs=0.03)
    assert torch.equal(has_text, (data["item"].x_text != 0).any(dim=1))
    item, value = data["item", "text_value", "value"].edge_index
    assert has_text[item].all()
    factor = data["value"].factor[value]
    count = torch.zeros(4000, 6).index_put_(
        (item, factor), torch.ones(len(item)), accumulate=True
    )[has_text]
    assert (count > 0).float().mean() == pytest.approx(0.7, abs=0.02)
    several = (count > 1).any(dim=0)
    names = data["value"].factor_name
    assert [names[k] for k in several.nonzero().view(-1)] == ["usage_scenario"]
    known = count[:, names.index("usage_scenario")]
    assert (known > 1).sum() / (known > 0).sum() == pytest.approx(0.5, abs=0.04)
    seen = data["value"].factor[data["item", "image_value", "value"].edge_index[1]]
    assert {names[k] for k in seen.unique()} == {
        "product_type",
        "material",
        "style",
        "color",
    }


def test_titles_name_the_values_when_nothing_is_wrong():
    data = SyntheticFactorDataset(
        50, 30, missing_rate=0, error_rate=0, multiple_rate=0, no_text_rate=0
    )[0]
    for item, value in data["item", "text_value", "value"].edge_index.t().tolist():
        assert data["value"].name[value] in data["item"].text[item]
    assert data["item"].text[0].startswith(data["item"].title[0])


def test_same_seed_same_bits():
    first, second = (SyntheticFactorDataset(60, 40, seed=5)[0] for _ in range(2))
    other = SyntheticFactorDataset(60, 40, seed=6)[0]
    assert first["item"].title == second["item"].title
    assert first["item"].title != other["item"].title
    for store in first.stores:
        for key, tensor in store.items():
            if isinstance(tensor, torch.Tensor):
                assert torch.equal(tensor, second[store._key][key])


@pytest.mark.parametrize("num_items", [2, 3, 10])
@pytest.mark.parametrize("num_factors", [1, 2, 6])
def test_tiny_catalogues(num_items, num_factors):
    data = SyntheticFactorDataset(7, num_items, num_factors=num_factors)[0]
    assert data.validate()
    edges = data[INTERACTS].edge_index
    assert edges[1].max() < num_items


def test_transform_is_applied():
    data = SyntheticFactorDataset(20, 10, transform=lambda data: data.stores)
    assert isinstance(data[0], list)


@pytest.mark.parametrize(
    "argument",
    [
        {"num_items": 1},
        {"num_users": 0},
        {"num_interactions": 3},
        {"num_factors": 7},
        {"taste_strength": 1.5},
        {"missing_rate": -0.1},
    ],
)
def test_rejects_arguments_out_of_bounds(argument):
    with pytest.raises(ValueError, match=next(iter(argument))):
        SyntheticFactorDataset(**{"num_users": 10, "num_items": 10, **argument})
