"""Factor propagation: one function, several engines."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from mars_pyg.kernels.factor_graph import FactorGraph
from mars_pyg.kernels.fused_operator import fused_propagate
from mars_pyg.kernels.reference import reference_propagate
from mars_pyg.kernels.torch_engine import torch_propagate

ENGINES = ("auto", "triton", "numba", "torch", "reference")
MODES = ("hypergraph", "clique")
#: Engines that fuse the gate with the propagation, and the dtypes that they know.
FUSED = ("triton", "numba")
FUSED_DTYPES = (torch.float32, torch.float64, torch.bfloat16)

logger = logging.getLogger(__name__)


def check_engine(engine: str, mode: str) -> None:
    """Refuse an unknown engine or mode, or one that cannot run here, by its name."""
    if engine not in ENGINES:
        raise ValueError(f"'engine' must be one of {list(ENGINES)} (got {engine!r})")
    if mode not in MODES:
        raise ValueError(f"'mode' must be one of {list(MODES)} (got {mode!r})")
    if mode == "clique" and engine not in ("auto", "reference"):
        raise ValueError(
            "'mode=\"clique\"' is dense and needs 'engine=\"reference\"'; with one "
            "value per item 'mode=\"hypergraph\"' is equal to it on every engine"
        )
    if not has_engine(engine):
        package = "mars-pyg[fast]" if engine == "numba" else engine
        raise ValueError(
            f"'engine={engine!r}' needs {engine}, which cannot be imported; install it "
            f"with 'pip install {package}', or choose 'engine=\"auto\"'"
        )


# torch.compile takes the results of the next two for constants, and traces no import.
@torch.compiler.assume_constant_result
def choose_engine(device: str, dtype: torch.dtype, gated: bool) -> str:
    """The fastest engine that is installed, for a device and a dtype."""
    engine = {"cpu": "numba", "cuda": "triton"}.get(device, "torch")
    # Without a gate the output is [N, K, d], which is for analysis and not for speed.
    if not gated or dtype not in FUSED_DTYPES or not has_engine(engine):
        engine = "torch"
    logger.debug("factor propagation on %s in %s: engine %r", device, dtype, engine)
    return engine


@torch.compiler.assume_constant_result
def has_engine(engine: str) -> bool:
    """Whether an engine can be used here; those that need a compiler are imported."""
    return engine not in FUSED or _import_engine(engine)


@cache
def _import_engine(engine: str) -> bool:
    try:
        import_module(f"mars_pyg.kernels.{engine}_engine")
    except ImportError as error:
        logger.debug("no engine %r: %s", engine, error)
        return False
    return True


def factor_propagate(
    x: Tensor,
    graph: FactorGraph,
    gate: Tensor | None = None,
    structure: Tensor | None = None,
    *,
    engine: str = "auto",
    mode: str = "hypergraph",
) -> Tensor:
    r"""Propagate items over all factor graphs of a view, optionally fused by a gate.

    .. math::
        \mathbf{H}_{f_k} = \hat{\mathbf{A}}_{f_k} \mathbf{X}, \qquad
        \mathbf{H}_i = \alpha_i^{\text{struct}} \mathbf{H}_{\text{struct}}(i) +
        \sum_{k=1}^{K} \alpha_i^{(k)} \mathbf{H}_{f_k}(i)

    (Eq. 3, 4, 6 and 7 of the MARS paper). With one value per item, row :math:`i` of
    :math:`\mathbf{H}_{f_k}` is the mean of :math:`\mathbf{X}` over the items that share
    the value; an item without a value gets zeros.

    Args:
        x: Items ``[N, d]``, floating point.
        graph: The prepared factor graphs.
        gate: Weight of each factor for each item ``[N, K]``, or, beside
            :obj:`structure`, of the structure term and each factor ``[N, K + 1]``.
            (default: :obj:`None`)
        structure: The structure term :math:`\mathbf{H}_{\text{struct}}` ``[N, d]``.
            (default: :obj:`None`)
        engine: ``"numba"`` runs on the CPU and ``"triton"`` on CUDA, both with a gate
            and in float32, float64 or bfloat16, at about the speed of memory;
            ``"torch"`` is sparse and works everywhere; ``"reference"`` is dense and for
            small data; ``"auto"`` takes the fastest that is installed and says which in
            a debug log. (default: ``"auto"``)
        mode: ``"hypergraph"``, or ``"clique"``, which is dense and differs only for
            several values per item. (default: ``"hypergraph"``)

    Returns:
        ``[N, d]`` with a gate, else ``[N, K, d]``; in the dtype of ``x``, with sums in
        float32 for half precision.

    Raises:
        ValueError: If the engine, the mode or a shape is wrong.
    """
    check_engine(engine, mode)
    check_shapes(x, graph, gate, structure)
    if engine == "auto":
        engine = choose_engine(x.device.type, x.dtype, gate is not None)
    if mode == "clique":
        engine = "reference"
    if engine in FUSED:
        if gate is None or x.dtype not in FUSED_DTYPES:
            raise ValueError(
                f"'engine={engine!r}' needs a gate, and 'x' in one of "
                f"{list(FUSED_DTYPES)} (got {x.dtype}); choose 'engine=\"auto\"'"
            )
        if engine == "numba" and x.device.type != "cpu":
            raise ValueError(
                f"'engine=\"numba\"' runs on the CPU, 'x' is on {x.device}; choose "
                "'engine=\"auto\"'"
            )
        return fused_propagate(engine, x, graph, gate, structure)
    weight = gate if structure is None or gate is None else gate[:, 1:]
    if engine == "reference":
        out = reference_propagate(x, graph, weight, mode)
    else:
        out = torch_propagate(x, graph, weight)
    if structure is None or gate is None:
        return out
    return (out + gate[:, :1] * structure).to(x.dtype)


def check_shapes(
    x: Tensor,
    graph: FactorGraph,
    gate: Tensor | None,
    structure: Tensor | None = None,
) -> None:
    """Refuse items and gates that do not belong to the graph."""
    if x.dim() != 2 or x.size(0) != graph.num_items:
        raise ValueError(
            f"'x' must have shape [{graph.num_items}, d], a row an item "
            f"(got {list(x.shape)})"
        )
    if not x.is_floating_point():
        raise ValueError(f"'x' must be floating point (got {x.dtype})")
    if structure is not None and structure.shape != x.shape:
        raise ValueError(
            f"'structure' must have the shape of 'x', {list(x.shape)} "
            f"(got {list(structure.shape)})"
        )
    if gate is None:
        if structure is not None:
            raise ValueError("'structure' needs a gate")
        return
    shape = (graph.num_items, graph.num_factors + (structure is not None))
    if gate.shape != shape:
        raise ValueError(
            f"'gate' must have shape {list(shape)}, a weight for each item and "
            f"{'factor' if structure is None else 'term'} (got {list(gate.shape)})"
        )
