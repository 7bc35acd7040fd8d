"""The item-item graph of nearest neighbours by content."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from tqdm import tqdm

from mars_pyg.errors import DataError
from mars_pyg.modalities import check_features
from mars_pyg.names import names_of
from mars_pyg.transforms.item_cells import nearby_items

SEARCHES = ("auto", "exact", "approximate")
#: The most items that are compared with all others unless it is asked for.
MAX_EXACT = 50_000
#: Similarities that are held at once, 128 MiB of them.
MAX_SCORES = 2**25
#: Those of rows with many ties that are ranked at once.
MAX_TIES = 2**21
#: The largest entries of a row, of which ties are ranked first; twice as many as are
#: asked for if those are more.
MIN_LISTED = 32
#: Similarities that are equal on this grid are ties.
GRID = 1e-5


@functional_transform("add_item_knn")
class AddItemKNN(BaseTransform):
    r"""Links each item to its :math:`k` nearest by cosine similarity of the features
    (functional name: :obj:`add_item_knn`).

    Writes ``('item', 'similar', 'item').edge_index``, which runs from the neighbour
    (row 0) to the item (row 1), is sorted by item, and has no weights. An item is
    always among its own :math:`k`, as in LATTICE and FREEDOM. With several features
    the similarity is the weighted mean of their cosines,

    .. math::
        s_{ij} = \frac{\sum_m w_m \cos(\mathbf{x}^m_i, \mathbf{x}^m_j)}{\sum_m w_m}.

    A row of zeros is a missing feature, whose cosines are zero: an item that has one
    of several features competes by that one. An item that has none is linked to
    itself only, and nobody to it.

    **Ties.** Items with the same text are equally near to all others, and the first
    ten of them would become everybody's neighbours. So similarities are rounded to a
    grid of :math:`10^{-5}`, and among equal ones the largest
    :math:`(r_i + r_j) \bmod 1` wins, where the :math:`r` of items with the same
    features are spread evenly over :math:`[0, 1)`, in random order and from a random
    start. Each item of such a group is then chosen by nearly the same number of
    others.

    **Search.** ``"exact"`` compares all items with all, block by block, in
    :math:`O(N^2)` time and :math:`O(B \cdot N)` memory for ``block_size`` :math:`B`.
    ``"approximate"`` makes cells of some 500 near items by k-means, and compares the
    items of a cell with those of the 16 cells that are nearest to it, an inverted file
    index (`Jégou et al., 2011 <https://doi.org/10.1109/TPAMI.2010.57>`_). ``"auto"`` is
    exact up to 50,000 items.

    Args:
        k: Number of neighbours, the item itself included. With fewer items, all are
            neighbours. (default: :obj:`10`)
        attrs: The features ``[N, D]`` of the items to compare, or :obj:`None` for all
            whose names start with ``x_``. (default: :obj:`None`)
        weights: The weight of each feature; those that are not there weigh one.
            (default: :obj:`None`)
        block_size: Number of items that are compared with all at once; fewer where
            there are many, so that their similarities take no more than 128 MiB.
            (default: :obj:`1024`)
        search: ``"auto"``, ``"exact"`` or ``"approximate"``. (default: ``"auto"``)
        seed: Seed of the order among ties, and of the cells. (default: :obj:`0`)

    Raises:
        DataError: If a feature holds NaN or infinite numbers, is not a matrix with a
            row per item, or is not there.
    """

    def __init__(
        self,
        k: int = 10,
        attrs: Sequence[str] | None = None,
        weights: Mapping[str, float] | None = None,
        block_size: int = 1024,
        search: str = "auto",
        seed: int = 0,
    ) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        if search not in SEARCHES:
            raise ValueError(f"search must be one of {SEARCHES}, got {search!r}")
        attrs = None if attrs is None else names_of("attrs", attrs)
        if attrs is not None and not attrs:
            raise ValueError("attrs must name at least one feature")
        for name, weight in (weights or {}).items():
            if attrs is not None and name not in attrs:
                raise ValueError(f"{name!r} has a weight but is not among the attrs")
            if not 0 < weight < float("inf"):
                raise ValueError(f"the weight of {name!r} must be positive")
        self.k = k
        self.attrs = attrs
        self.weights = dict(weights or {})
        self.block_size = block_size
        self.search = search
        self.seed = int(seed)  # Generators take no integers of numpy.

    def forward(self, data: HeteroData) -> HeteroData:
        """Add the edges to a graph."""
        store = data["item"]
        attrs = self.attrs
        if attrs is None:
            attrs = [name for name, _ in store.items() if name.startswith("x_")]
        if not attrs or not all(name in store for name in attrs + list(self.weights)):
            raise DataError(
                f"the items have no {' and no '.join(attrs or ['x_*'])}",
                mend="add features first, for example by AddTextFeatures",
                field="item",
            )
        for name in self.weights:
            if name not in attrs:
                raise DataError(
                    "it has a weight but is not compared",
                    mend="name it among the attrs, as others than x_* have to be",
                    field=name,
                )
        weights = torch.tensor([self.weights.get(name, 1.0) for name in attrs])
        scale = (weights / weights.sum()).sqrt().tolist()
        x = torch.cat(
            [
                weight * _unit_rows(store[name], name, store.num_nodes)
                for name, weight in zip(attrs, scale, strict=True)
            ],
            dim=1,
        )
        data["item", "similar", "item"].edge_index = self._knn(x)
        return data

    @torch.no_grad()
    def _knn(self, x: Tensor) -> Tensor:
        num_items = x.size(0)
        missing = (x == 0).all(dim=1)
        known, alone = (~missing).nonzero().view(-1), missing.nonzero().view(-1)
        rotation = _spread(x, self.seed)[known]
        x = x[known]
        everything = torch.arange(known.numel(), device=x.device)
        blocks: Sequence[tuple[Tensor, list[Tensor]]]
        if self.search == "approximate" or (
            self.search == "auto" and num_items > MAX_EXACT
        ):
            blocks = nearby_items(x, everything, self.seed)
        else:
            size = max(1, min(self.block_size, MAX_SCORES // max(known.numel(), 1)))
            parts = everything.split(size) if known.numel() else ()
            blocks = [(block, [everything]) for block in parts]
        # Large memory that is asked for and freed in turn with small is cut up.
        sizes = [len(item) * sum(map(len, near)) for item, near in blocks]
        scores = x.new_empty(max(sizes, default=0))
        place = torch.empty_like(everything)
        neighbors, items = [alone], [alone]
        for item, near in tqdm(
            blocks, desc="Nearest items", unit="block", disable=num_items < 50_000
        ):
            candidate = near[0] if len(near) == 1 else torch.cat(near)
            shape = item.numel(), candidate.numel()
            score = scores[: math.prod(shape)].view(shape)
            other = x if candidate is everything else x[candidate]
            torch.mm(x[item], other.t(), out=score)
            place[candidate] = torch.arange(shape[1], device=x.device)
            score.scatter_(1, place[item, None], torch.inf)
            k = min(self.k, shape[1])
            column = _largest(score, k, rotation[item], rotation[candidate])
            neighbors.append(known[candidate[column.view(-1)]])
            items.append(known[item].repeat_interleave(k))
        edge_index = torch.stack([torch.cat(neighbors), torch.cat(items)])
        return edge_index[:, edge_index[1].argsort(stable=True)]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(k={self.k}, attrs={self.attrs}, "
            f"weights={self.weights}, search={self.search!r}, seed={self.seed})"
        )


def _unit_rows(x: Tensor, name: str, num_items: int) -> Tensor:
    x = check_features(x, name, num_items).float()
    # Dividing by the largest entry first keeps the squares in the range of float32.
    x = x / x.abs().amax(dim=1, keepdim=True).clamp(min=1e-38) if x.numel() else x
    return torch.nn.functional.normalize(x, dim=1)


def _largest(
    score: Tensor, k: int, row_rotation: Tensor, column_rotation: Tensor
) -> Tensor:
    """The columns of the ``k`` largest entries of each row, ties by their rotations.

    Args:
        score: The similarities ``[B, C]``.
        k: Entries of a row, at most ``C``.
        row_rotation: The rotations of the rows ``[B]``, double.
        column_rotation: The rotations of the columns ``[C]``, double.

    Returns:
        The columns ``[B, k]``, of the largest entry first.
    """
    num_listed = min(max(MIN_LISTED, 2 * k), score.size(1))
    value, column = score.topk(num_listed, dim=1)
    key = _keys(value, row_rotation[:, None], column_rotation[column])
    result = column.gather(1, key.topk(k, dim=1).indices)
    if num_listed == score.size(1):
        return result
    # Beyond a list that ends so near to its k-th entry there may be more ties with it.
    is_tied = value[:, -1] >= value[:, k - 1] - 2 * GRID
    for rows in is_tied.nonzero().view(-1).split(max(MAX_TIES // score.size(1), 1)):
        key = _keys(score[rows], row_rotation[rows, None], column_rotation)
        result[rows] = key.topk(k, dim=1).indices
    return result


def _keys(score: Tensor, row_rotation: Tensor, column_rotation: Tensor) -> Tensor:
    """What similarities are ranked by: on the grid, and between its lines the ties."""
    key = score.double().div_(GRID).round_()
    return key.add_((row_rotation + column_rotation).frac_())


def _spread(x: Tensor, seed: int) -> Tensor:
    """Draw a number in [0, 1) per row, evenly spaced among rows that are equal."""
    generator = torch.Generator().manual_seed(seed)
    num_rows, width = x.size()
    direction = torch.randn(width, dtype=torch.double, generator=generator)
    order = torch.randperm(num_rows, generator=generator)
    # Equal rows have equal projections, so that sorting these brings them together.
    direction = direction.to(x.device)
    projection = torch.cat([(part * direction).sum(dim=1) for part in x.split(4096)])
    projection = projection.cpu()[order]
    _, group, size = projection.unique(return_inverse=True, return_counts=True)
    by_group = group.argsort(stable=True)
    first = size.cumsum(0) - size
    rank = torch.empty_like(group)
    rank[by_group] = torch.arange(num_rows) - first[group[by_group]]
    start = torch.rand(len(size), dtype=torch.double, generator=generator)
    rotation = torch.empty(num_rows, dtype=torch.double)
    rotation[order] = (start[group] + rank / size[group]).frac()
    return rotation.to(x.device)
