"""Parts of work that take memory by what they hold."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def split_by_count(
    count: Tensor, most: int, *tensors: Tensor
) -> Iterator[tuple[Tensor, ...]]:
    """Split tensors where what their rows hold comes to a number.

    Args:
        count: What each row holds ``[P]``, int64.
        most: What a part holds at most, but for its first row.
        tensors: Tensors of ``P`` rows.

    Yields:
        The same rows of each tensor.
    """
    part = count.cumsum(0).div_(most, rounding_mode="floor")
    sizes = part.unique_consecutive(return_counts=True)[1].tolist()
    return zip(*(tensor.split(sizes) for tensor in tensors), strict=True)
