"""Equations 3 to 8 by comparing items pair by pair: the tests' oracle."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor


def values_by_factor(
    edge_index: Tensor, factor: Tensor, num_items: int, num_factors: int
) -> list[list[set[int]]]:
    """For each factor and item, the set of the item's values."""
    values: list[list[set[int]]] = [
        [set() for _ in range(num_items)] for _ in range(num_factors)
    ]
    for item, value in edge_index.t().tolist():
        values[int(factor[value])][item].add(value)
    return values


def clique_adjacency(values: list[set[int]]) -> Tensor:
    """Eq. 3 and 4 of one factor."""
    n = len(values)
    adjacency = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            adjacency[i, j] = float(bool(values[i] & values[j]))
    degree = [float(row.sum()) for row in adjacency]
    for i in range(n):
        for j in range(n):
            if adjacency[i, j]:
                adjacency[i, j] = 1 / math.sqrt(degree[i] * degree[j])
    return adjacency


def hypergraph_adjacency(values: list[set[int]]) -> Tensor:
    """D_i^-1/2 B D_v^-1 B^T D_i^-1/2 of one factor, entry by entry."""
    n = len(values)
    adjacency = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            for value in values[i] & values[j]:
                holders = sum(value in other for other in values)
                scale = math.sqrt(len(values[i]) * len(values[j]))
                adjacency[i, j] += 1 / (holders * scale)
    return adjacency


def adjacencies(
    edge_index: Tensor,
    factor: Tensor,
    num_items: int,
    num_factors: int,
    mode: str = "hypergraph",
) -> list[Tensor]:
    build = clique_adjacency if mode == "clique" else hypergraph_adjacency
    return [
        build(values)
        for values in values_by_factor(edge_index, factor, num_items, num_factors)
    ]


def structure_adjacency(edge_index: Tensor, num_items: int) -> Tensor:
    """The weights of PyG's gcn_norm without self loops, edge by edge."""
    degree = [0] * num_items
    for _, target in edge_index.t().tolist():
        degree[target] += 1
    adjacency = torch.zeros(num_items, num_items, dtype=torch.float64)
    for source, target in edge_index.t().tolist():
        if degree[source] and degree[target]:
            adjacency[target, source] += 1 / math.sqrt(degree[source] * degree[target])
    return adjacency


def dense_factor_conv(
    x: Tensor,
    edge_index: Tensor,
    factor: Tensor,
    num_factors: int,
    gate: Tensor | None = None,
    mode: str = "hypergraph",
) -> Tensor:
    """Eq. 6, and the factors' part of Eq. 7 with a gate."""
    graphs = adjacencies(edge_index, factor, x.size(0), num_factors, mode)
    if gate is None:
        if not graphs:
            return x.new_zeros(x.size(0), 0, x.size(1))
        return torch.stack([graph @ x for graph in graphs], dim=1)
    out = x * 0
    for k, graph in enumerate(graphs):
        out = out + gate[:, k : k + 1] * (graph @ x)
    return out


def dense_mars_conv(
    z: Tensor,
    w_0: Tensor | None,
    w_g: Tensor,
    edge_index: Tensor,
    factor: Tensor,
    num_factors: int,
    struct_edge_index: Tensor | None = None,
    mode: str = "hypergraph",
) -> tuple[Tensor, Tensor]:
    """Eq. 5 to 8, an item at a time; the output and the gate."""
    x = z if w_0 is None else z @ w_0.t()
    num_items = x.size(0)
    values = values_by_factor(edge_index, factor, num_items, num_factors)
    terms = [
        graph @ x
        for graph in adjacencies(edge_index, factor, num_items, num_factors, mode)
    ]
    if struct_edge_index is None:
        terms = [x * 0, *terms]
    else:
        terms = [structure_adjacency(struct_edge_index, num_items) @ x, *terms]
    rows, gates = [], []
    for i in range(num_items):
        present = [] if struct_edge_index is None else [0]
        present += [k + 1 for k in range(num_factors) if values[k][i]]
        row = x[i] * 0
        gate = [z.new_zeros(()) for _ in range(num_factors + 1)]
        if present:
            logits = [w_g[k] @ x[i] for k in present]
            top = max(float(logit.detach()) for logit in logits)
            exponentials = [(logit - top).exp() for logit in logits]
            for k, exponential in zip(present, exponentials, strict=True):
                gate[k] = exponential / sum(exponentials)
                row = row + gate[k] * terms[k][i]
        rows.append(row)
        gates.append(torch.stack(gate))
    if not rows:
        return x * 1, z.new_zeros(0, num_factors + 1)
    return torch.stack(rows), torch.stack(gates)


@st.composite
def factor_graphs(
    draw: st.DrawFn, single: bool = False, max_items: int = 7, max_factors: int = 4
) -> tuple[int, int, Tensor, Tensor]:
    """Items, factors, edges [2, E] and factor [V], of any odd shape."""
    num_items = draw(st.integers(0, max_items))
    num_factors = draw(st.integers(0, max_factors))
    factor: list[int] = []
    if num_factors:
        factor = draw(st.lists(st.integers(0, num_factors - 1), max_size=8))
    edges: list[tuple[int, int]] = []
    if num_items and factor:
        pair = st.tuples(st.integers(0, num_items - 1), st.integers(0, len(factor) - 1))
        edges = draw(st.lists(pair, max_size=24))
    if single:
        chosen: dict[tuple[int, int], int] = {}
        for item, value in edges:
            chosen.setdefault((item, factor[value]), value)
        edges = [(i, v) for i, v in edges if chosen[i, factor[v]] == v]
    edge_index = torch.tensor(edges, dtype=torch.int64).view(-1, 2).t()
    return num_items, num_factors, edge_index, torch.tensor(factor, dtype=torch.int64)


@st.composite
def structure_graphs(draw: st.DrawFn, num_items: int) -> Tensor | None:
    """No structure graph, or edges from neighbours to items [2, E]."""
    if draw(st.booleans()):
        return None
    if num_items == 0:
        return torch.empty(2, 0, dtype=torch.int64)
    pair = st.tuples(st.integers(0, num_items - 1), st.integers(0, num_items - 1))
    edges = draw(st.lists(pair, max_size=16))
    return torch.tensor(edges, dtype=torch.int64).view(-1, 2).t()


def random(*shape: int, seed: int = 0) -> Tensor:
    """Float64 normal numbers that require a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(
        *shape, dtype=torch.float64, generator=generator
    ).requires_grad_()


def assert_equal_with_gradients(
    actual: Tensor,
    expected: Tensor,
    inputs: list[Tensor],
    atol: float = 1e-10,
) -> None:
    """Compare two outputs, and the gradients of all inputs, to an absolute 1e-10."""
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)
    weight = torch.linspace(-1, 2, actual.numel(), dtype=actual.dtype).view_as(actual)
    gradients = []
    for out in (actual, expected):
        # An output that is empty or all zeros need not hang on its inputs.
        nothing = sum((variable * 0).sum() for variable in inputs)
        gradients.append(
            torch.autograd.grad(
                (out * weight).sum() + nothing, inputs, retain_graph=out is expected
            )
        )
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)
