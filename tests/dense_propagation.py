"""Factor propagation by dense matrices, which the fused engines are compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from mars_pyg.kernels import FactorGraph, factor_propagate
from mars_pyg.kernels.reference import reference_adjacency

#: Edges, the factor of each value, and the numbers of items and factors.
Edges = tuple[Tensor, Tensor, int, int]


def device(engine: str) -> str:
    """Triton runs on a GPU where there is one, and else in its interpreter."""
    return "cuda" if engine == "triton" and torch.cuda.is_available() else "cpu"


def build(edges: Edges, engine: str) -> FactorGraph:
    """The graph, on the device of the engine."""
    edge_index, factor, *sizes = edges
    place = device(engine)
    return FactorGraph.from_edge_index(edge_index.to(place), factor.to(place), *sizes)


def expected(
    graph: FactorGraph, x: Tensor, gate: Tensor, structure: Tensor | None
) -> Tensor:
    """Eq. 6 and 7 by dense matrices, in float64."""
    out = torch.zeros_like(x)
    weights = gate
    if structure is not None:
        out, weights = gate[:, :1] * structure, gate[:, 1:]
    adjacency = reference_adjacency(graph, "hypergraph")
    for k in range(graph.num_factors):
        out = out + weights[:, k : k + 1] * (adjacency[k] @ x)
    return out


def compare(
    graph: FactorGraph,
    width: int,
    structured: bool,
    engine: str,
    dtype: torch.dtype = torch.float64,
    tolerance: float = 1e-10,
) -> None:
    """Compare the output and every gradient with the dense ones."""
    torch.manual_seed(width)

    def normal(columns: int) -> Tensor:
        numbers = torch.randn(graph.num_items, columns, dtype=dtype)
        return numbers.to(device(engine), torch.float64)

    x = normal(width).requires_grad_()
    gate = normal(graph.num_factors + structured).requires_grad_()
    structure = normal(width).requires_grad_() if structured else None
    gradient = normal(width)
    inputs = [t for t in (x, gate, structure) if t is not None]
    out = expected(graph, x, gate, structure)
    if not out.requires_grad:
        return
    want = [out, *torch.autograd.grad(out, inputs, gradient, allow_unused=True)]

    given = [None if t is None else t.detach().to(dtype) for t in (x, gate, structure)]
    for tensor in given:
        if tensor is not None:
            tensor.requires_grad_()
    got_out = factor_propagate(given[0], graph, *given[1:], engine=engine)
    assert got_out.dtype == dtype
    got_out.backward(gradient.to(dtype))
    got = [got_out, *[t.grad for t in given if t is not None]]
    for one, other in zip(got, want, strict=True):
        if other is None:
            assert not one.any()
            continue
        torch.testing.assert_close(
            one.double(), other, atol=tolerance, rtol=tolerance, check_dtype=False
        )
