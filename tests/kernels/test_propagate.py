"""The one function of the factor propagation, whatever its engine."""

from __future__ import annotations

import pytest
import torch

from mars_pyg.kernels import FactorGraph, factor_propagate
from mars_pyg.kernels.propagate import ENGINES, FUSED, has_engine

# Item 0 has two values in factor 0, item 2 none in factor 1, item 3 none at all.
EDGES = torch.tensor([[0, 0, 1, 2, 0, 1], [0, 1, 0, 1, 2, 2]])
FACTOR = torch.tensor([0, 0, 1])


#: Those that run on the CPU, with a gate and without one.
CPU_ENGINES = [engine for engine in ENGINES if engine not in FUSED]


@pytest.fixture
def graph() -> FactorGraph:
    return FactorGraph.from_edge_index(EDGES, FACTOR, 4, 2)


def test_prepared_form(graph: FactorGraph) -> None:
    assert (graph.num_items, graph.num_factors, graph.num_values) == (4, 2, 3)
    assert graph.edge_index().t().tolist() == [
        [0, 0],
        [0, 1],
        [0, 2],
        [1, 0],
        [1, 2],
        [2, 1],
    ]
    assert graph.present.tolist() == [
        [True, True],
        [True, True],
        [True, False],
        [False, False],
    ]
    assert graph.inverse_count.tolist() == [0.5, 0.5, 0.5]
    root = 0.5**0.5
    assert graph.incidence.weight.tolist() == pytest.approx([root, root, 1, 1, 1, 1])
    assert graph.gate_index.tolist() == [0, 0, 1, 2, 3, 4]


def test_repeated_edges_count_once() -> None:
    twice = FactorGraph.from_edge_index(EDGES.repeat(1, 2), FACTOR, 4, 2)
    once = FactorGraph.from_edge_index(EDGES, FACTOR, 4, 2)
    x = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(
        factor_propagate(x, twice), factor_propagate(x, once), atol=1e-14, rtol=0
    )


@pytest.mark.parametrize("engine", CPU_ENGINES)
@pytest.mark.parametrize("gated", [False, True])
def test_engines_agree(graph: FactorGraph, engine: str, gated: bool) -> None:
    x = torch.randn(4, 3, dtype=torch.float64)
    gate = torch.randn(4, 2, dtype=torch.float64) if gated else None
    torch.testing.assert_close(
        factor_propagate(x, graph, gate, engine=engine),
        factor_propagate(x, graph, gate, engine="reference"),
        atol=1e-12,
        rtol=0,
    )


@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_nothing_at_all(engine: str) -> None:
    none = FactorGraph.from_edge_index(EDGES[:, :0], FACTOR[:0], 0, 0)
    assert factor_propagate(torch.empty(0, 3), none, engine=engine).shape == (0, 0, 3)
    gate = torch.empty(0, 0)
    assert factor_propagate(torch.empty(0, 3), none, gate, engine=engine).shape == (
        0,
        3,
    )
    no_values = FactorGraph.from_edge_index(EDGES[:, :0], FACTOR[:0], 2, 1)
    out = factor_propagate(torch.ones(2, 3), no_values, engine=engine)
    assert out.shape == (2, 1, 3)
    assert not out.any()


def test_wrong_arguments_are_refused(graph: FactorGraph) -> None:
    x = torch.zeros(4, 3)
    for options, message in (
        ({"engine": "fast"}, "'engine'"),
        ({"mode": "cliques"}, "'mode'"),
        ({"mode": "clique", "engine": "torch"}, "needs 'engine=\"reference\"'"),
    ):
        with pytest.raises(ValueError, match=message):
            factor_propagate(x, graph, **options)
    with pytest.raises(ValueError, match="'x' must have shape"):
        factor_propagate(x[:3], graph)
    with pytest.raises(ValueError, match="'gate' must have shape"):
        factor_propagate(x, graph, torch.zeros(4, 3))


@pytest.mark.parametrize("engine", FUSED)
def test_an_engine_that_is_not_installed(
    graph: FactorGraph, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mars_pyg.kernels.propagate._import_engine", lambda _: False)
    assert not has_engine(engine)
    x, gate = torch.randn(4, 3), torch.rand(4, 2)
    with pytest.raises(ValueError, match=f"needs {engine}, which cannot be imported"):
        factor_propagate(x, graph, gate, engine=engine)
    torch.testing.assert_close(
        factor_propagate(x, graph, gate, engine="auto"),
        factor_propagate(x, graph, gate, engine="reference"),
    )


@pytest.mark.parametrize("engine", ["reference", "torch", "numba"])
def test_the_dtype_is_that_of_the_items(graph: FactorGraph, engine: str) -> None:
    x = torch.randn(graph.num_items, 4)
    gate = torch.rand(graph.num_items, graph.num_factors + 1)
    if not has_engine(engine):
        pytest.skip(f"{engine} is not installed")
    for dtype, other in ((torch.bfloat16, x.bfloat16()), (torch.float32, x.double())):
        out = factor_propagate(x.to(dtype), graph, gate.double(), other, engine=engine)
        assert out.dtype == dtype
