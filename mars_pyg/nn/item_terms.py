"""An item's representation as a sum of vectors that each say something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Term:
    """A summand of an item's representation.

    Args:
        source: What it comes from: :obj:`"collaborative"`, the interactions of all
            users; :obj:`"structure"`, items of similar content; :obj:`"cooccurrence"`,
            items that are chosen together; :obj:`"factors"`, items that share a value
            of a factor; :obj:`"clusters"`, the same of clusters in the place of a
            factor; or :obj:`"content"`, the item's own features.
        factor: The factor, of :obj:`"factors"` and :obj:`"clusters"`.
            (default: :obj:`None`)
    """

    source: str
    factor: int | None = None


@dataclass(frozen=True)
class ItemTerms:
    r"""The items' representations, split into terms.

    .. math::
        s(u, i) = \langle \mathbf{e}_u, \mathbf{g}_i \rangle = \sum_{t=1}^{T} \langle
        \mathbf{e}_u, \mathbf{g}_i^{(t)} \rangle, \qquad
        \mathbf{g}_i = \sum_{t=1}^{T} \mathbf{g}_i^{(t)}

    Args:
        users: The users' representations ``[U, d]``.
        terms: What each of the ``T`` terms is.
        vectors: Gives the terms :math:`\mathbf{g}_i^{(t)}` of items ``[P]``, int64, as
            ``[P, T, d]``.
    """

    users: Tensor
    terms: Sequence[Term]
    vectors: Callable[[Tensor], Tensor]
