"""Users that were never seen, from their histories."""

from __future__ import annotations

import torch

from mars_pyg import (
    BPR,
    HeadedRecommender,
    LightGCN,
    Popularity,
    SyntheticFactorDataset,
)
from mars_pyg.nn.fold_in import FoldIn
from mars_pyg.user_items import UserItems


def naive(item, histories):
    rows = []
    for history in histories:
        total = torch.zeros(item.size(1), dtype=item.dtype)
        for j in history:
            total += item[j]
        rows.append(total / max(len(history), 1) ** 0.5)
    return torch.stack(rows)


def test_equals_a_naive_loop():
    item = torch.randn(7, 3, dtype=torch.float64)
    histories = [[1, 4, 6], [], [0]]
    history = UserItems(torch.tensor([0, 3, 3, 4]), torch.tensor([1, 4, 6, 0]), 7)
    torch.testing.assert_close(FoldIn(item)(history), naive(item, histories))


def test_a_planted_linear_map_is_found():
    torch.manual_seed(0)
    data = SyntheticFactorDataset(num_users=200, num_items=60, seed=2)[0]
    train = UserItems.from_data(data, "train")
    items = torch.randn(60, 4, dtype=torch.float64)
    planted = torch.randn(4, 4, dtype=torch.float64)
    users = FoldIn(items @ planted)(train)
    found = FoldIn.fit(users, items, train)(train)
    # Ridge shrinks a little.
    torch.testing.assert_close(found, users, atol=0.02, rtol=0.02)


def test_recommenders_fold_in():
    data = SyntheticFactorDataset(num_users=50, num_items=30, seed=2)[0]
    torch.manual_seed(0)
    base = BPR(data, embedding_dim=4).requires_grad_(False)
    train = UserItems.from_data(data, "train")
    history = train.take(torch.tensor([3, 7]))
    expected = FoldIn.fit(*base(), train)(history)
    torch.testing.assert_close(base.fold_in(history, base(), train), expected)
    headed = HeadedRecommender(base, data, [Popularity(data)]).requires_grad_(False)
    torch.testing.assert_close(headed.fold_in(history, headed(), train), expected)
    alone = HeadedRecommender(None, data, [Popularity(data)]).requires_grad_(False)
    assert alone.fold_in(history, alone(), train).shape == (2, 0)


def test_light_gcn_folds_in_what_its_propagation_brings():
    data = SyntheticFactorDataset(num_users=80, num_items=30, seed=2)[0]
    torch.manual_seed(0)
    model = LightGCN(data, embedding_dim=4, num_layers=2).double().requires_grad_(False)
    train = UserItems.from_data(data, "train")
    # Without embeddings of users, a user is what comes from their items.
    model.user_embedding.weight.zero_()
    users, items = model()
    found = model.fold_in(train, (users, items), train)
    torch.testing.assert_close(found, users, atol=1e-3, rtol=1e-2)
    # It is not what comes from the items' representations.
    other = FoldIn.fit(users, items, train)(train)
    assert (other - users).abs().max() > 10 * (found - users).abs().max()
