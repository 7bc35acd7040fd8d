"""The similarity of content, against the mean of cosines."""

import pytest
import torch
from factor_data import make_data

from mars_pyg import ContentSimilarity, DataError
from mars_pyg.user_items import UserItems


@pytest.fixture
def data():
    data = make_data(
        4, 5, [0], [set()] * 5, [(0, 0), (0, 1), (0, 4), (1, 2), (2, 4), (2, 3)]
    )
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 6, generator=generator)
    x[4] = 0  # A missing row.
    data["item"].x_text = x
    data["item"].x_image = torch.randn(5, 3, generator=generator)
    return data


def naive(x, history, item):
    known = [i for i in range(len(x)) if x[i].any()]
    centred = x - x[known].mean(dim=0)
    near = [j for j in history if j in known]
    if item not in known or not near:
        return 0.0
    cosines = [torch.cosine_similarity(centred[j], centred[item], dim=0) for j in near]
    return float(sum(cosines) / len(near))


def test_scores_are_means_of_cosines(data):
    head = ContentSimilarity(data).double().requires_grad_(False)
    assert head.parts == ["image similarity", "text similarity"]
    head.weight.data = torch.tensor([0.3, 2.0], dtype=torch.float64)
    history = UserItems.from_data(data, "train")
    owned = [[0, 1, 4], [2], [3, 4], []]
    row, item = torch.cartesian_prod(torch.arange(4), torch.arange(5)).t()
    expected = torch.tensor(
        [
            [naive(data["item"][f"x_{m}"], owned[u], i) for m in ("image", "text")]
            for u, i in zip(row.tolist(), item.tolist(), strict=True)
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(
        head.pair_parts(history, row, item), expected, atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(
        head.score(history).view(-1), expected @ head.weight, atol=1e-6, rtol=1e-5
    )


def test_a_positive_is_left_out_of_its_own_history(data):
    head = ContentSimilarity(data).requires_grad_(False)
    history = UserItems.from_data(data, "train")
    row, item = history.rows(), history.item
    parts = head.pair_parts(history, row, item, torch.ones_like(row).bool())
    for place, (u, i) in enumerate(zip(row.tolist(), item.tolist(), strict=True)):
        others = [j for j in history.take(torch.tensor([u])).item.tolist() if j != i]
        for column, modality in enumerate(("image", "text")):
            expected = naive(data["item"][f"x_{modality}"], others, i)
            assert float(parts[place, column]) == pytest.approx(expected, abs=1e-5)


def test_items_without_features_are_refused(data):
    del data["item"].x_text, data["item"].x_image
    with pytest.raises(ValueError, match="AddTextFeatures"):
        ContentSimilarity(data)


def test_pairs_in_many_parts_are_the_same(data, monkeypatch):
    head = ContentSimilarity(data)
    history = UserItems.from_data(data, "train")
    row, item = torch.cartesian_prod(torch.arange(4), torch.arange(5)).t()
    whole = head.pair_parts(history, row, item)
    monkeypatch.setattr("mars_pyg.heads.content_similarity.MAX_FEATURES", 1)
    assert torch.equal(head.pair_parts(history, row, item), whole)
    assert head.pair_parts(history, row[:0], item[:0]).shape == (0, 2)


def test_features_of_other_types_are_read_and_broken_ones_refused(data):
    history = UserItems.from_data(data, "train")
    x = (data["item"].x_text * 10).round()
    data["item"].x_text = x
    expected = ContentSimilarity(data).score(history)
    for dtype in (torch.float16, torch.int64, torch.float64):
        data["item"].x_text = x.to(dtype)
        torch.testing.assert_close(ContentSimilarity(data).score(history), expected)
    x[2, 1] = torch.nan
    data["item"].x_text = x
    with pytest.raises(DataError, match=r"x_text.*item 2 are not finite"):
        ContentSimilarity(data)
