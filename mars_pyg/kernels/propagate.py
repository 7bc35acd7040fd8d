"""Factor propagation: one function, several engines."""

from __future__ import annotations

from torch import Tensor

from mars_pyg.kernels.factor_graph import FactorGraph
from mars_pyg.kernels.reference import reference_propagate
from mars_pyg.kernels.torch_engine import torch_propagate

ENGINES = ("auto", "torch", "reference")
MODES = ("hypergraph", "clique")


def check_engine(engine: str, mode: str) -> None:
    """Refuse an unknown engine or mode, by its name."""
    if engine not in ENGINES:
        raise ValueError(f"'engine' must be one of {list(ENGINES)} (got {engine!r})")
    if mode not in MODES:
        raise ValueError(f"'mode' must be one of {list(MODES)} (got {mode!r})")
    if mode == "clique" and engine == "torch":
        raise ValueError(
            "'mode=\"clique\"' is dense and needs 'engine=\"reference\"'; with one "
            "value per item 'mode=\"hypergraph\"' is equal to it on every engine"
        )


def factor_propagate(
    x: Tensor,
    graph: FactorGraph,
    gate: Tensor | None = None,
    *,
    engine: str = "auto",
    mode: str = "hypergraph",
) -> Tensor:
    r"""Propagate items over all factor graphs of a view, optionally fused by a gate.

    .. math::
        \mathbf{H}_{f_k} = \hat{\mathbf{A}}_{f_k} \mathbf{X}, \qquad
        \mathbf{H}_i = \sum_{k=1}^{K} \alpha_i^{(k)} \mathbf{H}_{f_k}(i)

    (Eq. 3, 4, 6 and the factors' part of Eq. 7 of the MARS paper). With one value per
    item, row :math:`i` of :math:`\mathbf{H}_{f_k}` is the mean of :math:`\mathbf{X}`
    over the items that share the value; an item without a value gets zeros.

    Args:
        x: Items ``[N, d]``, floating point.
        graph: The prepared factor graphs.
        gate: Weight of each factor for each item ``[N, K]``. (default: :obj:`None`)
        engine: ``"torch"`` is sparse and works everywhere, ``"reference"`` is dense
            and for small data, ``"auto"`` takes the fastest that is installed.
            (default: ``"auto"``)
        mode: ``"hypergraph"``, or ``"clique"``, which is dense and differs only for
            several values per item. (default: ``"hypergraph"``)

    Returns:
        ``[N, d]`` with a gate, else ``[N, K, d]``; in the dtype of ``x``, with sums in
        float32 for half precision.

    Raises:
        ValueError: If the engine, the mode or a shape is wrong.
    """
    check_engine(engine, mode)
    check_shapes(x, graph, gate)
    if engine == "reference" or mode == "clique":
        return reference_propagate(x, graph, gate, mode)
    return torch_propagate(x, graph, gate)


def check_shapes(x: Tensor, graph: FactorGraph, gate: Tensor | None) -> None:
    """Refuse items and gates that do not belong to the graph."""
    if x.dim() != 2 or x.size(0) != graph.num_items:
        raise ValueError(
            f"'x' must have shape [{graph.num_items}, d], a row an item "
            f"(got {list(x.shape)})"
        )
    if gate is not None and gate.shape != graph.present.shape:
        raise ValueError(
            f"'gate' must have shape {list(graph.present.shape)}, a weight for each "
            f"item and factor (got {list(gate.shape)})"
        )
