"""Interactions: reading, splitting and filtering them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from os import PathLike

import numpy as np
import torch
from torch import Tensor

from mars_pyg.errors import DataError
from mars_pyg.tables import check_repeated_header, read_table, row_of

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


def read_inter(path: str | PathLike[str]) -> tuple[Tensor, Tensor, Tensor]:
    r"""Read interactions that are split already.

    The file is separated by tabs, with the columns ``userID`` and ``itemID``, whole
    numbers from zero, and ``x_label``: 0 train, 1 validation, 2 test. Other columns are
    not read, which is logged.

    Args:
        path: The file to read.

    Returns:
        Users, items and labels, each ``[E]``, int64, in the order of the file.

    Raises:
        DataError: If a column or number is missing or not valid, or a split is empty.
    """
    columns = ["userID", "itemID", "x_label"]
    table = read_table(path, columns)
    others = [name for name in table.columns if name not in columns]
    if others:
        logger.info("%s: columns not read: %s", path, ", ".join(others))
    table = table[columns]
    check_repeated_header(table, path)
    numbers = []
    for name in columns:
        pattern = r"[012]" if name == "x_label" else r"\d{1,18}"
        fault = ~table[name].str.fullmatch(pattern, flags=0).to_numpy(dtype=bool)
        if fault.any():
            index = int(fault.argmax())
            expected = "0, 1 or 2" if name == "x_label" else "a whole number from 0"
            raise DataError(
                f"expected {expected}, got {table[name].iloc[index]!r}",
                mend="correct the field or remove the row",
                file=path,
                row=row_of(index, path),
                field=name,
            )
        numbers.append(torch.from_numpy(table[name].to_numpy().astype(np.int64)))
    user, item, label = numbers
    for index, count in enumerate(label.bincount(minlength=3).tolist()):
        if not count:
            raise DataError(
                f"the {SPLITS[index]} split is empty",
                mend=f"give some interactions the label {index}",
                file=path,
                field="x_label",
            )
    return user, item, label


def split_interactions(
    user: Tensor,
    item: Tensor,
    ratios: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    timestamp: Tensor | None = None,
) -> Tensor:
    r"""Split the interactions of each user into train, validation and test.

    Of :math:`n` interactions of a user, validation and test get
    :math:`\lfloor r n \rfloor` each, but at least one if :math:`n \geq 3`, and train
    the rest, at least one. Of two, one is for train and one for test; a single one is
    for train. A split of ratio zero stays empty.

    Args:
        user: The user of each interaction ``[E]``, int64.
        item: The item of each interaction ``[E]``, int64.
        ratios: The shares of train, validation and test, which add up to one.
            (default: :obj:`(0.8, 0.1, 0.1)`)
        seed: Seed of the random order. (default: :obj:`0`)
        timestamp: When each interaction took place ``[E]``. If given, the oldest of
            each user go to train and the latest to test, and those of the same time
            keep their order; otherwise the order is random. (default: :obj:`None`)

    Returns:
        The split of each interaction ``[E]``, int64: 0 train, 1 validation, 2 test.

    Raises:
        ValueError: If the ratios or shapes are not valid, or a timestamp is NaN.
    """
    if (
        len(ratios) != 3
        or not ratios[0] > 0
        or not min(ratios) >= 0
        # Not greater than: also a NaN is none.
        or not abs(sum(ratios) - 1) <= 1e-6
    ):
        raise ValueError(f"ratios must be three shares that add to 1, got {ratios}")
    if user.dim() != 1 or user.shape != item.shape:
        raise ValueError(
            f"user and item must be vectors of one length, got {list(user.shape)} and "
            f"{list(item.shape)}"
        )
    if timestamp is None:
        generator = torch.Generator().manual_seed(int(seed))
        order = torch.randperm(len(user), generator=generator)
    elif timestamp.shape != user.shape:
        raise ValueError(
            f"timestamp must be like user, got {list(timestamp.shape)} and "
            f"{list(user.shape)}"
        )
    elif timestamp.isnan().any():
        raise ValueError("timestamp holds NaN")
    else:
        order = timestamp.argsort(stable=True)
    order = order[user[order].argsort(stable=True)]
    _, group, size = user[order].unique_consecutive(
        return_inverse=True, return_counts=True
    )
    first = size.cumsum(0) - size
    rank = torch.arange(len(user)) - first[group]

    # The small term keeps 0.29 * 100 from being 28 in floating point.
    num_val, num_test = (
        (ratio * size.double() + 1e-9).long().clamp(min=int(ratio > 0))
        for ratio in ratios[1:]
    )
    num_test = torch.minimum(num_test, size - 1)
    num_val = torch.minimum(num_val, size - 1 - num_test)
    label = torch.empty_like(user)
    label[order] = (rank >= (size - num_val - num_test)[group]).long() + (
        rank >= (size - num_test)[group]
    ).long()
    return label


def k_core(user: Tensor, item: Tensor, k: int) -> Tensor:
    r"""Find the interactions of the :math:`k`-core.

    Users and items with fewer than :math:`k` interactions are taken out until all that
    are left have :math:`k`.

    Args:
        user: The user of each interaction ``[E]``, int64.
        item: The item of each interaction ``[E]``, int64.
        k: The least number of interactions of a user and of an item.

    Returns:
        Which interactions stay ``[E]``, bool.
    """
    mask = torch.ones(len(user), dtype=torch.bool)
    user, item = (index.unique(return_inverse=True)[1] for index in (user, item))
    while mask.any():
        few_users = user[mask].bincount(minlength=len(user)) < k
        few_items = item[mask].bincount(minlength=len(item)) < k
        kept = mask & ~few_users[user] & ~few_items[item]
        if torch.equal(kept, mask):
            break
        mask = kept
    return mask
