"""Approximate search over a retrieval index, by faiss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mars_pyg.errors import DataError
from mars_pyg.serving.retrieval_index import RetrievalIndex, UserVectors

if TYPE_CHECKING:
    from os import PathLike

#: Up to so many items the index is a plain one, which faiss searches exactly.
MAX_FLAT = 10_000
#: An inverted file searches one of so many of its lists.
LISTS_PER_PROBE = 8
#: Values with more items than this become dense columns, the most frequent first ...
MIN_VALUE_ITEMS = 256
#: ... up to so many of them.
MAX_VALUE_COLUMNS = 256
#: So many candidates are taken from the approximate search for each wanted item.
CANDIDATES_PER_ITEM = 10
MIN_CANDIDATES = 200


class ApproximateSearch:
    r"""Finds candidates by faiss, and ranks them exactly.

    faiss searches the dense components of a :class:`RetrievalIndex`, together with the
    columns of frequent values. The other columns of a user, those of EASE and of rare
    values, have few items each: all of these are candidates too. The scores of all
    candidates are exact, so that only an item that faiss misses is missed.

    Args:
        index: The retrieval index.
        searcher: An index of faiss that :meth:`write` wrote; :obj:`None` to build it.
            (default: :obj:`None`)
        factory: The form of the index that is built, as ``faiss.index_factory`` takes
            it; :obj:`"auto"` for a plain one of up to 10,000 items, and else an
            inverted file. An inverted file searches an eighth of its lists.
            (default: :obj:`"auto"`)

    Raises:
        DataError: If faiss is not installed, cannot make an index of the form, or its
            index is of other vectors.
    """

    def __init__(
        self, index: RetrievalIndex, searcher: Any = None, factory: str = "auto"
    ) -> None:
        column = frequent_values(index)
        self.place = torch.full((index.ptr.numel() - 1,), -1)
        self.place[column] = torch.arange(column.numel())
        self.num_columns = column.numel()
        self.index = index.densify(column)
        self.searcher = self._build(factory) if searcher is None else searcher
        size = (self.searcher.ntotal, self.searcher.d)
        if size != tuple(self.index.dense.shape):
            raise DataError(
                f"the approximate index holds {size[0]} vectors of width {size[1]}, "
                f"not {self.index.dense.size(0)} of width {self.index.dense.size(1)}",
                mend="export again",
            )

    def search(
        self, users: UserVectors, k: int, left_out: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Find the best items of one user.

        Args:
            users: The vectors of the user, of ``B = 1``.
            k: Number of items.
            left_out: Items that are no candidates ``[E]``, int64.

        Returns:
            Scores, best first, and items, each ``[k]`` or less.
        """
        users = self._densify(users)
        number = max(CANDIDATES_PER_ITEM * k, MIN_CANDIDATES) + left_out.numel()
        number = min(number, self.index.num_items)
        query = users.dense.float().contiguous().numpy()
        found = torch.from_numpy(self.searcher.search(query, number)[1][0])
        touched = self.index.sparse_items(users)
        # faiss fills up with -1 where it finds no more.
        item = torch.cat([found[found >= 0], touched]).unique()
        item = item[~torch.isin(item, left_out)]
        score = self.index.dense[item] @ users.dense[0]
        score = score + self.index.sparse_score(users)[0, item]
        top, place = score.topk(min(k, item.numel()))
        return top, item[place]

    def write(self, path: str | PathLike[str]) -> None:
        """Write faiss's index to a file."""
        import_faiss().write_index(self.searcher, str(path))

    def _densify(self, users: UserVectors) -> UserVectors:
        place = self.place[users.column]
        dense = place >= 0
        block = users.dense.new_zeros(users.dense.size(0), self.num_columns)
        block[users.row[dense], place[dense]] = users.value[dense]
        return UserVectors(
            torch.cat([users.dense, block], dim=1),
            users.row[~dense],
            users.column[~dense],
            users.value[~dense],
        )

    def _build(self, factory: str) -> Any:
        faiss = import_faiss()
        vectors = self.index.dense.detach().float().contiguous().numpy()
        if factory == "auto":
            factory = default_factory(self.index.num_items)
        try:
            searcher = faiss.index_factory(
                vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT
            )
            # It may stand behind a transform of the vectors.
            inverted = faiss.try_extract_index_ivf(searcher)
            if inverted is not None:
                inverted.nprobe = max(inverted.nlist // LISTS_PER_PROBE, 1)
            # A form may need more items than there are.
            searcher.train(vectors)
            searcher.add(vectors)
        except RuntimeError as error:
            raise DataError(
                f"faiss cannot make an index {factory!r}: {error}",
                mend="give 'auto', or a string that faiss.index_factory takes",
                field="approximate",
            ) from None
        return searcher


def default_factory(num_items: int) -> str:
    """The form of an index of so many items, for ``faiss.index_factory``."""
    if num_items <= MAX_FLAT:
        return "Flat"
    return f"IVF{round(2 * num_items**0.5)},Flat"


def frequent_values(index: RetrievalIndex) -> Tensor:
    """The columns of the values with most items ``[F]``, int64."""
    count = index.ptr.diff()[: index.factor.numel()]
    top, column = count.topk(min(MAX_VALUE_COLUMNS, count.numel()))
    return column[top > MIN_VALUE_ITEMS]


def read_searcher(path: str | PathLike[str]) -> Any:
    """Read faiss's index from a file.

    Raises:
        DataError: If faiss is not installed, or the file is damaged.
    """
    faiss = import_faiss()
    try:
        return faiss.read_index(str(path))
    except RuntimeError:
        raise DataError(
            "the file is damaged, or was not written by mars_pyg",
            mend="export again",
            file=path,
        ) from None


def import_faiss() -> Any:
    """Import faiss.

    Raises:
        DataError: If it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise DataError(
            "approximate search needs faiss, which is not installed",
            mend="install it with pip install 'mars-pyg[ann]', or search exactly",
        ) from None
    return faiss
