"""Likely items of validation users, from which the weights of heads are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.heads import HeadedRecommender
from mars_pyg.training.evaluation import compute_representations
from mars_pyg.user_items import UserItems

#: Scores that are held at once, and pairs of which representations are.
MAX_SCORES, MAX_PAIRS = 2**23, 2**17


@dataclass(frozen=True)
class CandidatePool:
    r"""Likely items of validation users, and the parts of their scores.

    A user's candidates are the best items of the model, of each head, and of all
    together. A held-out item's place among them is its place in the full ranking, as
    long as all that stand above it are candidates.

    Parts are scaled to unit deviation over the candidates; the model's is the first.

    Args:
        parts: The parts of each candidate's score ``[U, C, H]``.
        valid: Whether a place holds a candidate ``[U, C]``.
        row: The user of each held-out item ``[P]``, sorted.
        positive: The parts of the held-out items' scores ``[P, H]``.
        found: Whether a held-out item is a candidate ``[P]``.
        deviation: The deviation of each part before it was scaled ``[H]``; zero for
            one that is the same everywhere, as where there is no model.
    """

    parts: Tensor
    valid: Tensor
    row: Tensor
    positive: Tensor
    found: Tensor
    deviation: Tensor

    @classmethod
    @torch.no_grad()
    def from_recommender(
        cls,
        recommender: HeadedRecommender,
        data: HeteroData,
        num_users: int = 20_000,
        num_candidates: int = 100,
    ) -> CandidatePool:
        """Collect the candidates of validation users.

        Args:
            recommender: The recommender; the weights of its heads do not matter.
            data: The graph with the validation split.
            num_users: Users to take; drawn at random, always the same ones, where there
                are more.
            num_candidates: Candidates of each kind.
        """
        held_out = UserItems.from_data(data, "val")
        user = held_out.count.nonzero().view(-1)
        order = torch.randperm(len(user), generator=torch.Generator().manual_seed(0))
        user = user[order[:num_users].sort().values]
        representations = compute_representations(recommender)
        device = representations[0].device
        held_out, user = held_out.to(device), user.to(device)
        size = max(MAX_SCORES // max(recommender.num_items, 1), 1)
        parts, valid, rows, positives, founds = [], [], [], [], []
        with _unit_weights(recommender):
            for start in range(0, user.numel(), size):
                chunk = user[start : start + size]
                item, new = _candidates(
                    recommender, representations, chunk, num_candidates
                )
                row, positive = held_out.select(chunk)
                place = torch.arange(chunk.numel(), device=device)
                place = place.repeat_interleave(item.size(1))
                table = _pair_parts(
                    recommender,
                    representations,
                    chunk,
                    torch.cat([place, row]),
                    torch.cat([item.flatten(), positive]),
                )
                parts.append(table[: place.numel()].view(*item.shape, -1))
                positives.append(table[place.numel() :])
                valid.append(new)
                rows.append(row + start)
                founds.append(((item[row] == positive[:, None]) & new[row]).any(dim=1))
        pool = cls(
            torch.cat(parts),
            torch.cat(valid),
            torch.cat(rows),
            torch.cat(positives),
            torch.cat(founds),
            torch.empty(0),
        )
        deviation = pool._deviations()
        scale = torch.where(deviation > 0, 1 / deviation, 0)
        # In place: the pool is what takes the memory.
        pool.parts.mul_(scale)
        return replace(pool, positive=pool.positive * scale, deviation=deviation)

    @property
    def num_parts(self) -> int:
        """The number of parts, the model among them."""
        return self.deviation.numel()

    def recall(self, weight: Tensor, k: int) -> float:
        """Recall@K of the held-out items, averaged over the users.

        Args:
            weight: A weight for each part ``[H]``.
            k: The cut.
        """
        return float(self.user_recall(weight, k).mean())

    def user_recall(self, weight: Tensor, k: int) -> Tensor:
        """Recall@K of each user ``[U]``; see :meth:`recall`."""
        score = (self.parts @ weight).masked_fill_(~self.valid, -torch.inf)
        best = score.topk(min(k, score.size(1)), dim=1).values[:, -1]
        positive = self.positive @ weight
        # The held-out item may be the k-th itself, summed in another order.
        hit = positive >= best[self.row] - 1e-5 * best[self.row].abs()
        number = torch.bincount(self.row, minlength=score.size(0))
        recall = torch.zeros_like(best)
        return recall.index_add(0, self.row, hit.to(best.dtype)) / number

    def negative_log_likelihood(self, weight: Tensor) -> Tensor:
        r"""How unlikely the held-out items are as a choice among the candidates.

        .. math::
            - \frac{1}{|P|} \sum_{(u, i) \in P} \log \frac{\exp(s_{ui})}
            {\sum_{j \in C_u} \exp(s_{uj})}

        over the held-out items that are candidates. Those that are not would teach that
        what makes a candidate is bad.

        Args:
            weight: A weight for each part ``[H]``.
        """
        score = (self.parts @ weight).masked_fill(~self.valid, -torch.inf)
        positive = self.positive[self.found] @ weight
        return (score.logsumexp(dim=1)[self.row[self.found]] - positive).mean()

    def best(self, weight: Tensor, num_candidates: int) -> CandidatePool:
        """The pool of each user's best candidates alone.

        Args:
            weight: The weights of the parts that say which are best ``[H]``.
            num_candidates: Candidates to keep of each user.
        """
        score = (self.parts @ weight).masked_fill_(~self.valid, -torch.inf)
        kept = min(num_candidates, score.size(1))
        last = score.topk(kept, dim=1).values[:, -1]
        # A held-out item's score is summed in another order than the candidate's.
        slack = 1e-5 * last.abs()
        positive = self.positive @ weight
        return replace(
            self,
            valid=self.valid & (score >= last[:, None]),
            found=self.found & (positive >= (last - slack)[self.row]),
        )

    def to_raw(self, weight: Tensor) -> Tensor:
        """The weights of the heads' parts as they are, with one for the model.

        Args:
            weight: A weight for each part of unit deviation ``[H]``.

        Returns:
            Weights without the model's ``[H - 1]``.
        """
        raw = torch.where(self.deviation > 0, weight / self.deviation, 0)
        model = raw[0] if self.deviation[0] > 0 else torch.ones_like(raw[0])
        return raw[1:] / model

    def _deviations(self) -> Tensor:
        """The standard deviation of each part over the candidates ``[H]``."""
        number = self.valid.sum()
        columns = []
        for part in self.parts.unbind(2):
            values = part.double().masked_fill(~self.valid, 0)
            mean, square = values.sum() / number, values.square().sum() / number
            deviation = (square - mean.square()).clamp(min=0).sqrt()
            # What is left of a part that is the same everywhere is its rounding.
            least = 1e-9 + 1e-5 * square.sqrt()
            columns.append(torch.where(deviation > least, deviation, 0))
        return torch.stack(columns).to(self.parts.dtype)


@contextmanager
def _unit_weights(recommender: HeadedRecommender) -> Iterator[None]:
    """Give all parts a weight of one for a time."""
    heads = list(recommender.head_list())
    weights = [head.weight.detach().clone() for head in heads]
    try:
        for head in heads:
            head.weight.fill_(1.0)
        yield
    finally:
        for head, weight in zip(heads, weights, strict=True):
            head.weight.copy_(weight)


def _candidates(
    recommender: HeadedRecommender,
    representations: tuple[Tensor, Tensor],
    user: Tensor,
    num_candidates: int,
) -> tuple[Tensor, Tensor]:
    """The candidates of users ``[B, C]``, and whether each is there the first time."""
    history = recommender.history.take(user)
    scores = [representations[0][user] @ representations[1].t()]
    scores += [head.score(history) for head in recommender.head_list()]
    together = torch.zeros_like(scores[0])
    for score in scores:
        together += score / score.std().clamp(min=1e-9)
    kept = min(num_candidates, recommender.num_items)
    items = []
    for score in [*scores, together]:
        # Some heads give one row for all users.
        score = score.clone()
        score[history.rows(), history.item] = -torch.inf
        value, item = score.topk(kept, dim=1)
        items.append(item.masked_fill(value == -torch.inf, recommender.num_items))
    item = torch.cat(items, dim=1).sort(dim=1).values
    new = item < recommender.num_items
    new[:, 1:] &= item[:, 1:] != item[:, :-1]
    return item.masked_fill(~new, 0), new


def _pair_parts(
    recommender: HeadedRecommender,
    representations: tuple[Tensor, Tensor],
    user: Tensor,
    row: Tensor,
    item: Tensor,
) -> Tensor:
    """The parts of pairs ``[P, H]``, the model's first."""
    history = recommender.history.take(user)
    users, items = representations
    tables = []
    # A small catalogue has many users in a chunk, and each a hundred times the pairs.
    for place, other in zip(row.split(MAX_PAIRS), item.split(MAX_PAIRS), strict=True):
        model = (users[user[place]] * items[other]).sum(dim=1, keepdim=True)
        heads = recommender.head_list()
        parts = [head.pair_parts(history, place, other) for head in heads]
        tables.append(torch.cat([model, *parts], dim=1))
    return torch.cat(tables)
