"""The ways to propagate items over factor graphs that the scaling benchmark times.

Each is a module that is prepared for a problem once, and then takes items ``[N, d]``
and gates ``[N, K]`` and returns the fused sum over the factors ``[N, d]``.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from scaling_problems import Problem
from torch import Tensor
from torch.nn import Module
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, HypergraphConv, SAGEConv, SimpleConv
from torch_geometric.transforms import AddMetaPaths
from torch_geometric.utils import scatter, to_torch_csr_tensor

from mars_pyg.kernels import factor_propagate
from mars_pyg.kernels.reference import reference_adjacency


class Method(Module):
    """A way to propagate; see the module."""

    label: ClassVar[str]
    #: Whether it is one of our engines.
    ours: ClassVar[bool] = False
    #: Whether it computes the factor propagation, so that it must agree.
    same: ClassVar[bool] = True

    def __init__(self, problem: Problem) -> None:
        super().__init__()

    @staticmethod
    def least_bytes(problem: Problem) -> int:
        """Memory that it needs for sure; more than there is is not even tried."""
        return 0


class DenseClique(Method):
    """Eq. 3, 4 and 6 by a dense adjacency for each factor, made beforehand."""

    label = "dense clique"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.adjacency = reference_adjacency(problem.graph(), dtype=problem.x.dtype)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Propagate."""
        out = torch.zeros_like(x)
        for k, adjacency in enumerate(self.adjacency):
            out = out + gate[:, k : k + 1] * (adjacency @ x)
        return out

    @staticmethod
    def least_bytes(problem: Problem) -> int:
        """The adjacencies."""
        return problem.num_factors * problem.num_items**2 * problem.x.itemsize


class MetaPaths(Method):
    """PyG's ``AddMetaPaths`` makes item–value–item edges; ``SimpleConv`` adds them up.

    The edges are sparse CSR matrices, so that no message is stored.
    """

    label = "AddMetaPaths"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        data = HeteroData()
        data["item"].num_nodes = problem.num_items
        paths = []
        for k, (item, value, size) in enumerate(problem.factors()):
            there = ("item", "has", f"value_{k}")
            back = (f"value_{k}", "of", "item")
            data[f"value_{k}"].num_nodes = size
            weight = item_weight(item, problem).to(problem.x.dtype)
            count = torch.bincount(value, minlength=size).clamp(min=1)
            weight = weight * count[value].to(weight.dtype).rsqrt()
            data[there].edge_index = torch.stack([item, value])
            data[back].edge_index = torch.stack([value, item])
            data[there].edge_weight = data[back].edge_weight = weight
            paths.append([there, back])
        data = AddMetaPaths(paths, weighted=True, drop_orig_edge_types=True)(data)
        size = (problem.num_items, problem.num_items)
        self.adjacency = [
            to_torch_csr_tensor(store.edge_index, store.edge_weight.detach(), size)
            for store in data.edge_stores
        ]
        self.conv = SimpleConv(aggr="sum")

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Propagate."""
        out = torch.zeros_like(x)
        for k, adjacency in enumerate(self.adjacency):
            out = out + gate[:, k : k + 1] * self.conv(x, adjacency)
        return out

    @staticmethod
    def least_bytes(problem: Problem) -> int:
        """The edges and their weights."""
        item, value = problem.edge_index
        pairs = torch.bincount(value).double().square().sum()
        # So many values at most lead to the same pair of items.
        group = item * problem.num_factors + problem.factor[value]
        pairs = float(pairs / torch.bincount(group).max().square())
        return int(pairs * (8 + problem.x.itemsize))


class FactorScatter(Method):
    """PyG's ``scatter`` to the mean of each value, and read-back, factor by factor."""

    label = "per-factor scatter"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.factors: list[tuple[Tensor, Tensor, int, Tensor | None]] = []
        for item, value, size in problem.factors():
            weight = None
            if not one_each(item, problem):
                weight = item_weight(item, problem).to(problem.x.dtype)[:, None]
            self.factors.append((item, value, size, weight))

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Propagate."""
        out = torch.zeros_like(x)
        for k, (item, value, size, weight) in enumerate(self.factors):
            if weight is None:
                mean = scatter(x, value, dim_size=size, reduce="mean")[value]
            else:
                mean = scatter(x[item] * weight, value, dim_size=size, reduce="mean")
                mean = scatter(mean[value] * weight, item, dim_size=x.size(0))
            out = out + gate[:, k : k + 1] * mean
        return out


class FactorHypergraph(Method):
    """PyG's ``HypergraphConv`` for each factor, its weight left out."""

    label = "HypergraphConv per factor"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        channels = problem.x.size(1)
        self.conv = HypergraphConv(channels, channels, bias=False)
        self.conv.lin = torch.nn.Identity()
        self.factors: list[tuple[Tensor, int, Tensor | None]] = []
        for item, value, size in problem.factors():
            root = None
            if not one_each(item, problem):
                degree = torch.bincount(item, minlength=problem.num_items)
                root = degree.clamp(min=1).to(problem.x.dtype).sqrt()[:, None]
            self.factors.append((torch.stack([item, value]), size, root))

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Propagate."""
        out = torch.zeros_like(x)
        for k, (edges, size, root) in enumerate(self.factors):
            # It divides by D_i once, where the paper has the root on both sides.
            source = x if root is None else x / root
            mean = self.conv(source, edges, num_edges=size)
            out = out + gate[:, k : k + 1] * (mean if root is None else mean * root)
        return out


class HeteroSAGE(Method):
    """Two ``SAGEConv`` hops in ``HeteroConv``, item to value and back.

    It has weights and no gate: another function, and timed only.
    """

    label = "HeteroConv of SAGEConv"
    same = False

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        channels = problem.x.size(1)
        there, back = {}, {}
        self.there_edges, self.back_edges, self.sizes = {}, {}, []
        for k, (item, value, size) in enumerate(problem.factors()):
            key = ("item", "has", f"value_{k}")
            there[key] = SAGEConv((channels, channels), channels, root_weight=False)
            self.there_edges[key] = torch.stack([item, value])
            key = (f"value_{k}", "of", "item")
            back[key] = SAGEConv((channels, channels), channels, root_weight=False)
            self.back_edges[key] = torch.stack([value, item])
            self.sizes.append(size)
        self.there, self.back = HeteroConv(there), HeteroConv(back)
        self.to(problem.x.device, problem.x.dtype)

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Pass messages."""
        empty = {
            f"value_{k}": x.new_empty(size, x.size(1))
            for k, size in enumerate(self.sizes)
        }
        values = self.there({"item": x, **empty}, self.there_edges)
        return self.back({"item": x, **values}, self.back_edges)["item"]


class Engine(Method):
    """One of our engines, over the graph prepared once."""

    ours = True
    name: ClassVar[str]

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.graph = problem.graph()

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:
        """Propagate."""
        return factor_propagate(x, self.graph, gate, engine=self.name)


class TorchEngine(Engine):
    """Sparse products."""

    label, name = "mars_pyg torch", "torch"


class NumbaEngine(Engine):
    """Fused loops on the CPU."""

    label, name = "mars_pyg numba", "numba"


class TritonEngine(Engine):
    """Fused loops on CUDA."""

    label, name = "mars_pyg triton", "triton"


METHODS: dict[str, type[Method]] = {
    "dense": DenseClique,
    "metapaths": MetaPaths,
    "scatter": FactorScatter,
    "hypergraph": FactorHypergraph,
    "sage": HeteroSAGE,
    "torch": TorchEngine,
    "numba": NumbaEngine,
    "triton": TritonEngine,
}


def item_weight(item: Tensor, problem: Problem) -> Tensor:
    """One over the root of an item's number of values in a factor, for each edge."""
    return torch.bincount(item, minlength=problem.num_items)[item].double().rsqrt()


def one_each(item: Tensor, problem: Problem) -> bool:
    """Whether every item has one value in a factor."""
    return torch.equal(item, torch.arange(problem.num_items, device=item.device))
