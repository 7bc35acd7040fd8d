"""The numba engine where values are too many for its tables."""

from __future__ import annotations

import pytest
import torch
from dense_propagation import Edges, build, compare
from hypothesis import given, settings
from hypothesis import strategies as st

from mars_pyg.kernels import FactorGraph, factor_graph, factor_propagate, parallel

numba_engine = pytest.importorskip("mars_pyg.kernels.numba_engine")


@st.composite
def edges_of_many_values(draw: st.DrawFn) -> Edges:
    """Factors of few values and of many, most of which are had by an item or two."""
    num_items = draw(st.integers(1, 40))
    sizes = draw(st.lists(st.sampled_from([1, 3, 60]), min_size=1, max_size=4))
    factor = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    if draw(st.booleans()):
        factor = factor[torch.randperm(len(factor), generator=torch.manual_seed(0))]
    values = st.integers(0, len(factor) - 1)
    edges = draw(
        st.lists(st.tuples(st.integers(0, num_items - 1), values), max_size=200)
    )
    if draw(st.booleans()):
        single = {(item, int(factor[v])): (item, v) for item, v in edges}
        edges = list(single.values())
    edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()
    return edge_index, factor, num_items, len(sizes)


@settings(deadline=None, max_examples=80)
@given(
    edges=edges_of_many_values(),
    width=st.sampled_from([1, 8, 72]),
    structured=st.booleans(),
    near=st.booleans(),
)
def test_few_and_many_values(
    edges: Edges, width: int, structured: bool, near: bool
) -> None:
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factor_graph, "MAX_SLOTS", 4)
        patch.setattr(factor_graph, "MIN_COUNT", 3)
        patch.setattr(parallel, "MIN_WORK", 1)
        if not near:
            patch.setattr(numba_engine, "MAX_NEAR", 0)
            patch.setattr(numba_engine, "MAX_CACHED", 0)
        torch.set_num_threads(3)
        try:
            compare(build(edges, "numba"), width, structured, "numba")
        finally:
            torch.set_num_threads(before)


def graph_of_many_values(several: bool) -> FactorGraph:
    """More values than have slots, beside a factor of eight values."""
    size, rare = 1500, factor_graph.MAX_SLOTS + 1000
    generator = torch.Generator().manual_seed(0)
    item = torch.arange(size).repeat(4 if several else 1)
    value = torch.randint(8, 8 + rare, item.shape, generator=generator)
    edge_index = torch.cat(
        [
            torch.stack([item, value]),
            torch.stack([torch.arange(size), torch.arange(size) % 8]),
        ],
        dim=1,
    )
    factor = (torch.arange(8 + rare) >= 8).long()
    graph = build((edge_index, factor, size, 2), "numba")
    assert sorted(graph.slot[graph.slot >= 0].tolist()) == list(range(8))
    return graph


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 2e-5), (torch.bfloat16, 3e-2)],
)
def test_more_values_than_slots(
    several: bool, dtype: torch.dtype, tolerance: float
) -> None:
    graph = graph_of_many_values(several)
    compare(graph, 64, True, "numba", dtype, tolerance)
    compare(graph, 64, False, "numba", dtype, tolerance)


def test_gradient_of_the_gate_alone() -> None:
    graph = graph_of_many_values(several=True)
    x = torch.randn(graph.num_items, 16, dtype=torch.float64)
    gate = torch.rand(graph.num_items, 2, dtype=torch.float64, requires_grad=True)
    gradients = [
        torch.autograd.grad(factor_propagate(x, graph, gate, engine=engine).sum(), gate)
        for engine in ("numba", "reference")
    ]
    torch.testing.assert_close(*gradients)
