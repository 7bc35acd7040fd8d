"""Ranking all items for users, and the metrics of the ranking."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.kernels.precision import sum_dtype
from mars_pyg.nn.recommender import Recommender, check_graph, device_of
from mars_pyg.user_items import UserItems, split_edges

#: Scores that are held at once, 256 MiB of them in single precision.
MAX_SCORES = 2**26


def evaluate(
    recommender: Recommender,
    data: HeteroData,
    split: str = "val",
    k: int | Sequence[int] = (10, 20),
    chunk_size: int = 1024,
    mask_validation: bool = False,
    num_users: int | None = None,
) -> dict[str, float]:
    r"""Computes Recall and NDCG of a recommender over the full catalogue.

    .. math::
        \mathrm{Recall@}K = \frac{|T_u \cap R_u|}{|R_u|}, \qquad
        \mathrm{NDCG@}K = \frac{\sum_{p : T_{u,p} \in R_u} 1 / \log_2(p + 1)}
        {\sum_{p=1}^{\min(|R_u|, K)} 1 / \log_2(p + 1)}

    for the top :math:`T_{u,1}, \ldots, T_{u,K}` of all items that the user has not
    trained on and the user's held-out items :math:`R_u`, averaged over the users who
    have a held-out item.

    Args:
        recommender: The model; its mode (training or not) is left as it was.
        data: The graph with the splits; see
            :class:`~mars_pyg.user_items.UserItems`.
        split: :obj:`"val"` or :obj:`"test"`. (default: :obj:`"val"`)
        k: The cuts :math:`K`, or a single one. (default: :obj:`(10, 20)`)
        chunk_size: Number of users that are scored at once; see :func:`rank`.
            (default: :obj:`1024`)
        mask_validation: Whether validation items are no candidates at test. Published
            figures leave them in. (default: :obj:`False`)
        num_users: Average over so many of the users, always the same ones, drawn at
            random; over all of them where there are no more. (default: :obj:`None`,
            all)

    Returns:
        :obj:`"recall@10"`, :obj:`"ndcg@10"` and so on.

    Raises:
        DataError: If the split is missing or empty.
        FloatingPointError: If scores are not numbers.
    """
    # Where torchmetrics is installed, PyG's metrics import it, and it matplotlib.
    from torch_geometric.metrics import (
        LinkPredMetricCollection,
        LinkPredNDCG,
        LinkPredRecall,
    )

    _check_split(split)
    cuts = check_cuts(k)
    check_graph(recommender, data)
    check_held_out(data, split)
    held_out = UserItems.from_data(data, split)
    user = held_out.count.nonzero().view(-1)
    if num_users is not None:
        if num_users < 1:
            raise ValueError(f"'num_users' must be positive (got {num_users})")
        order = torch.randperm(len(user), generator=torch.Generator().manual_seed(0))
        user = user[order[:num_users].sort().values]
    masked = ("train", "val") if mask_validation and split == "test" else ("train",)
    seen = UserItems.from_data(data, *masked)
    # The metrics add up in the default precision, which a trainer may have set to half.
    with _default_dtype(sum_dtype(torch.get_default_dtype())):
        metrics = LinkPredMetricCollection(
            {
                name: metric
                for cut in sorted(set(cuts))
                for name, metric in (
                    (f"recall@{cut}", LinkPredRecall(cut)),
                    (f"ndcg@{cut}", LinkPredNDCG(cut)),
                )
            }
        )
        for chunk, _, item in rank(recommender, user, max(cuts), seen, chunk_size):
            held_out, metrics = held_out.to(chunk.device), metrics.to(chunk.device)
            metrics.update(item, held_out.select(chunk))
        return {name: float(value) for name, value in metrics.compute().items()}


def check_cuts(k: int | Sequence[int]) -> tuple[int, ...]:
    """Take a single cut for a sequence of one.

    Args:
        k: The cuts, or a single one.

    Raises:
        ValueError: If there is none, or one is not positive.
    """
    cuts = tuple(k) if isinstance(k, Iterable) else (k,)
    if not cuts or min(cuts) < 1:
        raise ValueError(f"'k' must hold positive cuts (got {list(cuts)})")
    return cuts


def _check_split(split: str) -> None:
    # Of train, what is ranked would be all but the user's items.
    if split not in ("val", "test"):
        raise ValueError(f"'split' must be 'val' or 'test' (got {split!r})")


def evaluate_users(
    recommender: Recommender,
    data: HeteroData,
    split: str = "val",
    k: int = 20,
    chunk_size: int = 1024,
) -> tuple[Tensor, Tensor, Tensor]:
    """Recall and NDCG of each user, of which :func:`evaluate` gives the means.

    Two recommenders are compared over users, pair by pair.

    Args:
        recommender: The model; its mode (training or not) is left as it was.
        data: The graph with the splits.
        split: :obj:`"val"` or :obj:`"test"`. (default: :obj:`"val"`)
        k: The cut. (default: :obj:`20`)
        chunk_size: See :func:`evaluate`. (default: :obj:`1024`)

    Returns:
        The users with a held-out item ``[U']``, and their Recall and NDCG, float64.

    Raises:
        DataError: If the split is missing or empty.
        ValueError: If there is no such split.
    """
    _check_split(split)
    check_graph(recommender, data)
    check_held_out(data, split)
    held_out = UserItems.from_data(data, split).to(torch.device("cpu"))
    user = held_out.count.nonzero().view(-1)
    discount = 1 / torch.arange(2, k + 2, dtype=torch.float64).log2()
    recalls, ndcgs = [], []
    seen = UserItems.from_data(data, "train")
    for chunk, _, item in rank(recommender, user, k, seen, chunk_size):
        chunk, item = chunk.cpu(), item.cpu()
        row, wanted = held_out.select(chunk)
        size = recommender.num_items + 1
        place = torch.arange(chunk.numel())[:, None]
        hit = torch.isin(place * size + item, row * size + wanted).double()
        number = held_out.count[chunk]
        ideal = discount.cumsum(0)[number.clamp(max=k) - 1]
        recalls.append(hit.sum(dim=1) / number)
        ndcgs.append(hit @ discount[: item.size(1)] / ideal)
    return user, torch.cat(recalls), torch.cat(ndcgs)


def check_held_out(data: HeteroData, split: str) -> None:
    """Refuse data that cannot be evaluated on a split.

    Args:
        data: The graph with the splits.
        split: :obj:`"val"` or :obj:`"test"`.

    Raises:
        DataError: If the split is missing or empty.
    """
    if split_edges(data, split).size(1) == 0:
        raise DataError(
            f"no user has an item in the {split} split",
            mend="split the interactions so that some are held out",
        )


def rank(
    recommender: Recommender,
    user: Tensor,
    k: int,
    seen: UserItems | None = None,
    chunk_size: int = 1024,
    *,
    representations: tuple[Tensor, Tensor] | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Find the best items of users, exactly, in chunks of users.

    The representations are computed once, without gradients, in evaluation mode and
    without mixed precision, and scored in single precision at least, so that a score
    does not depend on how the model was trained.

    Args:
        recommender: The model; its mode (training or not) is left as it was.
        user: User indices ``[B]``, int64.
        k: Number of items per user; all items where there are fewer.
        seen: Items that are no candidates for a user. (default: :obj:`None`)
        chunk_size: Number of users that are scored at once, at most: where there are
            many items it is fewer, so that their scores take no more than 256 MiB.
            (default: :obj:`1024`)
        representations: Those of :func:`compute_representations`, where they are known.
            (default: :obj:`None`)

    Yields:
        The users of a chunk ``[C]``, and their scores and items ``[C, min(k, N)]``,
        best first. Where a user has fewer than ``k`` candidates the score is minus
        infinity and the item is ``N``, which is no item.

    Raises:
        FloatingPointError: If scores are not numbers.
    """
    if k < 1 or chunk_size < 1:
        raise ValueError(
            f"'k' and 'chunk_size' must be positive (got {k} and {chunk_size})"
        )
    if representations is None:
        representations = compute_representations(recommender)
    chunk_size = max(
        1, min(int(chunk_size), MAX_SCORES // max(recommender.num_items, 1))
    )
    device = representations[0].device
    seen = None if seen is None else seen.to(device)
    for chunk in user.to(device).split(chunk_size):
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            score = recommender.score(chunk, representations)
        if not score.is_floating_point():
            score = score.double()
        if seen is not None:
            # It may be one row for all users, or memory of the model's own.
            score = score.clone() if score._is_view() else score
            score[seen.select(chunk)] = -torch.inf
        top, item = score.topk(min(k, score.size(1)), dim=1)
        # NaN is larger than any number to topk(), so that it cannot hide.
        if top.isnan().any():
            raise FloatingPointError(
                "the scores are not numbers (NaN): the training has diverged; lower "
                "the learning rate"
            )
        yield chunk, top, item.masked_fill_(top == -torch.inf, score.size(1))


def compute_representations(recommender: Recommender) -> tuple[Tensor, Tensor]:
    """Compute the representations of all users and items for scoring.

    Args:
        recommender: The model; its mode (training or not) is left as it was.

    Returns:
        What :meth:`~mars_pyg.nn.Recommender.forward` returns in evaluation mode and
        without gradients, in single precision at least.
    """
    with inference(recommender):
        # What is returned as it is, such as embeddings, has a gradient of its own.
        user, item = (part.detach() for part in recommender())
    half = (torch.float16, torch.bfloat16)
    return (
        user.float() if user.dtype in half else user,
        item.float() if item.dtype in half else item,
    )


@contextmanager
def inference(recommender: Recommender) -> Iterator[None]:
    """Evaluation mode, without gradients and mixed precision.

    Args:
        recommender: The model; its mode (training or not) is brought back.
    """
    device = device_of(recommender)
    training = [(module, module.training) for module in recommender.modules()]
    recommender.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        recommender.train(training[0][1])
        # Parts may have modes of their own, as a trained base beside new heads has.
        for module, mode in training:
            module.training = mode


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(default)
