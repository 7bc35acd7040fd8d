"""The engines that fuse the gate with the propagation, against dense matrices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
import torch
from dense_propagation import Edges, build, compare, device
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mars_pyg.kernels import (
    FactorGraph,
    factor_graph,
    factor_propagate,
    parallel,
    value_chunks,
)
from mars_pyg.kernels.fused_operator import graph_tensors
from mars_pyg.kernels.propagate import has_engine

needs_numba = pytest.mark.skipif(not has_engine("numba"), reason="needs numba")
needs_triton = pytest.mark.skipif(not has_engine("triton"), reason="needs triton")
each_engine = pytest.mark.parametrize(
    "engine",
    [
        pytest.param("numba", marks=needs_numba),
        pytest.param("triton", marks=needs_triton),
    ],
)


def num_items(engine: str) -> int:
    """The size of the large graphs; the interpreter is slow."""
    return 100 if engine == "triton" else 2000


@st.composite
def edges_of_graphs(draw: st.DrawFn, single: bool = False) -> Edges:
    """Graphs with missing, repeated and several values, and with nothing at all."""
    num_items = draw(st.integers(0, 12))
    num_factors = draw(st.integers(0, 4))
    num_values = draw(st.integers(0, 7)) if num_factors else 0
    factor = draw(
        st.lists(
            st.integers(0, max(num_factors - 1, 0)),
            min_size=num_values,
            max_size=num_values,
        )
    )
    edges: list[tuple[int, int]] = []
    if num_items and num_values:
        items, values = st.integers(0, num_items - 1), st.integers(0, num_values - 1)
        edges = draw(st.lists(st.tuples(items, values), max_size=40))
    if single:
        edges = list({(item, factor[v]): (item, v) for item, v in edges}.values())
    edge_index = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).t()
    factors = torch.tensor(factor, dtype=torch.int64)
    return edge_index, factors, num_items, num_factors


@each_engine
@settings(deadline=None, max_examples=150)
@given(edges=edges_of_graphs(), width=st.integers(0, 9), structured=st.booleans())
def test_equals_dense_matrices(
    engine: str, edges: Edges, width: int, structured: bool
) -> None:
    compare(build(edges, engine), width, structured, engine)


@each_engine
@settings(deadline=None, max_examples=50)
@given(edges=edges_of_graphs(single=True), structured=st.booleans())
def test_one_value_per_factor(engine: str, edges: Edges, structured: bool) -> None:
    graph = build(edges, engine)
    assert graph.incidence.weight is None
    compare(graph, 8, structured, engine)


def large_graph(engine: str, several: bool = False) -> FactorGraph:
    """Graph of many items under three factors, some values of which are frequent."""
    size = num_items(engine)
    num_values = 3 * size // 20
    generator = torch.Generator().manual_seed(0)
    item = torch.arange(size).repeat(4 if several else 3)
    frequent = torch.rand(item.shape, generator=generator) < 0.3
    value = torch.randint(num_values, item.shape, generator=generator)
    factor = torch.arange(num_values) % 3
    value = torch.where(frequent, value % 9, value)
    if not several:
        # The value's factor is that of the block of items.
        value = value - value % 3 + torch.arange(3).repeat_interleave(size)
        value = value.clamp(max=num_values - 1)
    known = torch.rand(item.shape, generator=generator) < 0.8
    return build((torch.stack([item, value])[:, known], factor, size, 3), engine)


def large_inputs(engine: str, width: int, terms: int = 3) -> tuple[Tensor, Tensor]:
    """Items and gate for a large graph, on the device of the engine."""
    x = torch.randn(num_items(engine), width, device=device(engine))
    gate = torch.rand(num_items(engine), terms, device=device(engine))
    return x.requires_grad_(), gate.requires_grad_()


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three threads, however little the work is."""
    monkeypatch.setattr(parallel, "MIN_WORK", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@each_engine
@pytest.mark.parametrize("width", [1, 7, 32, 64, 100, 128, 130])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.usefixtures("threads")
def test_widths_and_threads(engine: str, width: int, several: bool) -> None:
    compare(large_graph(engine, several), width, True, engine)


@each_engine
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize("structured", [False, True])
def test_precision(
    engine: str, dtype: torch.dtype, tolerance: float, structured: bool
) -> None:
    compare(large_graph(engine), 64, structured, engine, dtype, tolerance)


@needs_numba
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.usefixtures("threads")
def test_rare_values_are_read_where_they_are(
    monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    monkeypatch.setattr(factor_graph, "MAX_SLOTS", 8)
    graph = large_graph("numba", several)
    slots = graph.slot[graph.slot >= 0]
    assert sorted(slots.tolist()) == list(range(8))
    compare(graph, 40, True, "numba")


@needs_numba
def test_all_values_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_graph, "MAX_SLOTS", 8)
    monkeypatch.setattr(factor_graph, "MIN_COUNT", 10**6)
    graph = large_graph("numba")
    assert (graph.slot == -1).all()
    compare(graph, 16, False, "numba")


@needs_triton
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("min_count", [1, 4])
def test_tiles_of_items(
    monkeypatch: pytest.MonkeyPatch, several: bool, min_count: int
) -> None:
    monkeypatch.setattr(value_chunks, "MIN_TILED_ITEMS", 1)
    monkeypatch.setattr(value_chunks, "TILE_ITEMS", 30)
    monkeypatch.setattr(value_chunks, "MIN_TILE_COUNT", min_count)
    monkeypatch.setattr(value_chunks, "MAX_ENTRIES", 5)
    compare(large_graph("triton", several), 40, True, "triton")


@needs_numba
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_past_the_caches(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    engine = pytest.importorskip("mars_pyg.kernels.numba_engine")
    monkeypatch.setattr(engine, "MAX_CACHED", 0)
    compare(large_graph("numba"), 96, True, "numba", dtype, tolerance=2e-2)


@needs_numba
def test_bfloat16_rounds_as_torch_does() -> None:
    # One item and one value: the output is the input times the gate.
    graph = FactorGraph.from_edge_index(
        torch.zeros(2, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64), 1, 1
    )
    special = [0.0, -0.0, float("inf"), -float("inf"), float("nan"), 3.3e38, 1e-40]
    values = [*special, *torch.randn(200, generator=torch.manual_seed(0)).tolist()]
    x = torch.tensor([values], dtype=torch.bfloat16)
    gate = torch.full((1, 1), 1 / 3)
    out = factor_propagate(x, graph, gate, engine="numba")
    want = (x.float() * gate).to(torch.bfloat16)
    torch.testing.assert_close(out, want, rtol=0, atol=0, equal_nan=True)


@each_engine
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("max_slots", [factor_graph.MAX_SLOTS, 8])
def test_same_bits_from_run_to_run(
    monkeypatch: pytest.MonkeyPatch, engine: str, max_slots: int
) -> None:
    monkeypatch.setattr(factor_graph, "MAX_SLOTS", max_slots)
    graph = large_graph(engine, several=max_slots == 8)
    x, gate = large_inputs(engine, 64)

    def run() -> list[Tensor]:
        out = factor_propagate(x, graph, gate, engine=engine)
        return [out, *torch.autograd.grad(out.square().sum(), [x, gate])]

    first = run()
    for _ in range(5):
        assert all(map(torch.equal, first, run()))


@each_engine
def test_views_and_other_dtypes_of_the_gate(engine: str) -> None:
    graph = large_graph(engine)
    items, gates = large_inputs(engine, 64, 6)
    x = items.detach().t().contiguous().t().requires_grad_()
    gate = gates.detach().double()[:, ::2].requires_grad_()
    out = factor_propagate(x, graph, gate, engine=engine)
    out.sum().backward()  # an expanded gradient
    want = factor_propagate(x, graph, gate, engine="reference")
    torch.testing.assert_close(out, want, atol=1e-5, rtol=1e-5)
    assert gate.grad is not None
    assert gate.grad.dtype == torch.float64


@each_engine
@pytest.mark.parametrize("structured", [False, True])
def test_operator_contract(engine: str, structured: bool) -> None:
    graph = large_graph(engine)
    x, gate = large_inputs(engine, 4, 3 + structured)
    structure = large_inputs(engine, 4)[0] if structured else None
    torch.library.opcheck(
        getattr(torch.ops.mars_pyg, f"{engine}_factor_propagate").default,
        (x, gate, structure, *graph_tensors(graph)),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@each_engine
def test_gradcheck(engine: str) -> None:
    edge_index = torch.tensor([[0, 0, 1, 2, 0, 1], [0, 1, 0, 1, 2, 2]])
    graph = build((edge_index, torch.tensor([0, 0, 1]), 4, 2), engine)

    def run(x: Tensor, gate: Tensor, structure: Tensor) -> Tensor:
        return factor_propagate(x, graph, gate, structure, engine=engine)

    inputs = [
        torch.randn(4, 3, dtype=torch.float64, device=device(engine)).requires_grad_()
        for _ in range(3)
    ]
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def _compiled(function: Callable) -> Callable:
    return torch.compile(function, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize(
    ("engine", "name"),
    [
        pytest.param("numba", "auto", marks=needs_numba),
        pytest.param("triton", "triton", marks=needs_triton),
    ],
)
def test_compiles_as_one_graph(engine: str, name: str) -> None:
    graph = large_graph(engine)
    x, gate = large_inputs(engine, 8)

    def run(x: Tensor, gate: Tensor) -> Tensor:
        return factor_propagate(x, graph, gate, engine=name).square()

    out = _compiled(run)(x, gate)
    torch.testing.assert_close(out, run(x, gate))
    out.sum().backward()
    assert x.grad is not None


@each_engine
def test_autocast_and_checkpointing(engine: str) -> None:
    graph = large_graph(engine)
    weight = torch.randn(8, 8, device=device(engine), requires_grad=True)
    x, gate = (tensor.detach() for tensor in large_inputs(engine, 8))

    def run(weight: Tensor) -> Tensor:
        return factor_propagate(x @ weight, graph, gate, engine=engine)

    with torch.autocast(device(engine), torch.bfloat16):
        out = run(weight)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), run(weight), atol=0.05, rtol=0.05)
    plain = torch.autograd.grad(run(weight).square().sum(), weight)
    again = torch.utils.checkpoint.checkpoint(run, weight, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(again.square().sum(), weight), plain)


@needs_numba
def test_auto_takes_it_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    graph = large_graph("numba")
    x, gate = torch.randn(2000, 8), torch.rand(2000, 3)
    with caplog.at_level(logging.DEBUG, "mars_pyg"):
        out = factor_propagate(x, graph, gate)
    assert "engine 'numba'" in caplog.text
    assert torch.equal(out, factor_propagate(x, graph, gate, engine="numba"))


@each_engine
def test_what_it_cannot_do_is_refused(engine: str) -> None:
    graph = large_graph("numba")
    x = torch.randn(2000, 8)
    with pytest.raises(ValueError, match="needs a gate"):
        factor_propagate(x, graph, engine=engine)
    with pytest.raises(ValueError, match="float16"):
        factor_propagate(x.half(), graph, torch.rand(2000, 3), engine=engine)
    if engine == "numba":
        with pytest.raises(ValueError, match="'x' is on meta"):
            factor_propagate(x.to("meta"), graph, torch.rand(2000, 3), engine=engine)
    with pytest.raises(ValueError, match="'structure' needs a gate"):
        factor_propagate(x, graph, None, x)
    with pytest.raises(ValueError, match="'structure' must have the shape"):
        factor_propagate(x, graph, torch.rand(2000, 4), x[:, :4])
    with pytest.raises(ValueError, match=r"'gate' must have shape \[2000, 4\]"):
        factor_propagate(x, graph, torch.rand(2000, 3), x)
