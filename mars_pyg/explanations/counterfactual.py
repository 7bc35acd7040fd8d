"""Ranks without one item of a user's history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mars_pyg.heads import ScoreHead
from mars_pyg.training.evaluation import MAX_SCORES
from mars_pyg.user_items import UserItems


@dataclass(frozen=True)
class Ranks:
    """Where items stand: with the whole history, then without each of its items.

    Args:
        rank: Places, from one ``[H + 1, P]``, int64.
        score: Scores ``[H + 1, P]``.
    """

    rank: Tensor
    score: Tensor


def ranks_without(
    heads: Sequence[ScoreHead],
    users: Tensor,
    items: Tensor,
    history: Tensor,
    item: Tensor,
    seen: Tensor,
) -> Ranks:
    """Rank items by their scores over a history, and over it without each item.

    Args:
        heads: The heads, which read the history.
        users: The user's representations, with the whole history and without each of
            its items ``[H + 1, d]``.
        items: The items' representations ``[N, d]``.
        history: The distinct items of the user ``[H]``, int64, ascending.
        item: The items to rank ``[P]``, int64.
        seen: Items that are no candidates, but for those of :obj:`item`.

    Returns:
        Their ranks and scores.
    """
    num_items, length = items.size(0), history.numel()
    chunk_size = max(1, MAX_SCORES // max(num_items, length, 1))
    # The first row takes nothing out.
    taken = torch.arange(-1, length, device=history.device)
    ranks: list[Tensor] = []
    scores: list[Tensor] = []
    for chunk in taken.split(chunk_size):
        score = users[chunk + 1] @ items.t()
        histories = _histories(history, chunk, num_items)
        for head in heads:
            score += head.score(histories)
        own = score[:, item]
        score[:, seen] = -torch.inf
        whole = own[0] if not scores else scores[0][0]
        above = [
            _above(score, column, is_fallen, place)
            for place, column, is_fallen in zip(
                item.tolist(), own.t(), (own < whole).t(), strict=True
            )
        ]
        ranks.append(1 + torch.stack(above, dim=1) if above else own.long())
        scores.append(own)
    return Ranks(torch.cat(ranks), torch.cat(scores))


def _above(score: Tensor, own: Tensor, is_fallen: Tensor, item: int) -> Tensor:
    """How many items are before one ``[C]``: with it, where its score has fallen.

    Where nothing of its score is left, it is no longer before the others without one.

    Args:
        score: The scores of all items ``[C, N]``.
        own: Those of the item ``[C]``.
        is_fallen: Whether they are less than with the whole history ``[C]``.
        item: The item.
    """
    level = (score == own[:, None]).index_fill_(
        1, torch.tensor([item], device=score.device), False
    )
    before = (score > own[:, None]) | (level & is_fallen[:, None])
    return before.sum(dim=1)


def _histories(history: Tensor, taken: Tensor, num_items: int) -> UserItems:
    """The history without the item at each place of ``taken``; -1 takes none."""
    place = torch.arange(history.numel(), device=history.device)
    kept = place != taken[:, None]
    ptr = torch.cat([kept.new_zeros(1, dtype=torch.int64), kept.sum(1).cumsum(0)])
    return UserItems(ptr, history.expand(kept.shape)[kept], num_items)
