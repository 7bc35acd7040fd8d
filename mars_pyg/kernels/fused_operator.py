"""The fused factor propagation as an operator of torch, whatever computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mars_pyg.kernels.factor_graph import FactorGraph
from mars_pyg.kernels.precision import sum_dtype
from mars_pyg.kernels.sparse import SparseMatrix, inverse_permutation
from mars_pyg.kernels.torch_engine import torch_gradients

#: The graph as an operator takes it: plain tensors, see :func:`graph_tensors`.
_GRAPH = (
    "Tensor ptr, Tensor col, Tensor? weight, Tensor ptr_t, Tensor col_t, "
    "Tensor? weight_t, Tensor perm, Tensor factor, Tensor inverse_count, Tensor slot"
)
_FORWARD = f"(Tensor x, Tensor gate, Tensor? structure, {_GRAPH}) -> (Tensor, Tensor)"
_BACKWARD = (
    "(Tensor gradient, Tensor gate, Tensor? structure, Tensor mean, bool need_x, "
    f"{_GRAPH}) -> (Tensor, Tensor, Tensor)"
)
_NUM_GRAPH = 10


def graph_tensors(graph: FactorGraph) -> tuple[Tensor | None, ...]:
    """The tensors of a graph, in the order in which the operators take them."""
    matrix = graph.incidence
    return (
        matrix.ptr,
        matrix.col,
        matrix.weight,
        matrix.ptr_t,
        matrix.col_t,
        matrix.weight_t,
        matrix.perm,
        graph.factor,
        graph.inverse_count,
        graph.slot,
    )


def graph_parts(tensors: Sequence[Tensor]) -> tuple[SparseMatrix, Tensor, Tensor]:
    """The incidence of a graph's tensors, the values' factors and inverse counts."""
    ptr, col, weight, ptr_t, col_t, weight_t, perm, factor, inverse_count, _ = tensors
    perm_t = inverse_permutation(perm)
    matrix = SparseMatrix(ptr, col, weight, ptr_t, col_t, weight_t, perm, perm_t)
    return matrix, factor, inverse_count


def register(engine: str, forward: Callable, backward: Callable) -> None:
    r"""Register an engine as the operator ``mars_pyg::<engine>_factor_propagate``.

    So :func:`torch.compile` meets no graph break, and autograd takes the formula

    .. math::
        \frac{\partial \mathcal{L}}{\partial \alpha_i^{(k)}} = \langle \mathbf{g}_i,
        \mathbf{H}_{f_k}(i) \rangle, \qquad
        \frac{\partial \mathcal{L}}{\partial \mathbf{X}} = \sum_k
        \hat{\mathbf{A}}_{f_k} \mathrm{diag}(\alpha^{(k)}) \, \mathbf{G}

    which needs the values' means and nothing else of the forward pass. Gradients that
    are differentiated again are taken by the torch engine's operators.

    Args:
        engine: Its name.
        forward: Takes ``x`` ``[N, d]``, ``gate`` ``[N, K]`` in the dtype of the sums,
            or ``[N, K + 1]`` with ``structure`` ``[N, d]``, and the tensors of the
            graph; returns the output ``[N, d]`` and the values' means ``[V, d]``.
        backward: Takes the gradient of the output, ``gate``, ``structure``, the means,
            whether the gradient of ``x`` is needed, and the tensors of the graph;
            returns the gradients of ``x``, ``gate`` and ``structure``, those that there
            are not being empty.
    """
    name = f"mars_pyg::{engine}_factor_propagate"
    operator = torch.library.custom_op(name, forward, mutates_args=(), schema=_FORWARD)
    gradient_operator = torch.library.custom_op(
        f"{name}_backward", backward, mutates_args=(), schema=_BACKWARD
    )

    @operator.register_fake
    def _(x: Tensor, gate: Tensor, structure: Any, *graph: Any) -> tuple:
        num_values = graph[7].shape[0]
        mean = x.new_empty((num_values, x.shape[1]), dtype=sum_dtype(x.dtype))
        return torch.empty_like(x, memory_format=torch.contiguous_format), mean

    @gradient_operator.register_fake
    def _(
        gradient: Tensor, gate: Tensor, structure: Any, mean: Any, need_x: bool, *_: Any
    ) -> tuple:
        def like(tensor: Tensor, needed: bool) -> Tensor:
            return tensor.new_empty(tensor.shape if needed else (0,))

        return (
            like(gradient, need_x),
            like(gate, True),
            like(gradient, structure is not None),
        )

    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        _, gate, structure, *graph = inputs
        ctx.save_for_backward(gate, structure, output[1], *graph)
        ctx.set_materialize_grads(False)

    def differentiate(
        ctx: Any, gradient: Tensor | None, of_mean: Tensor | None
    ) -> tuple:
        gate, structure, mean, *graph = ctx.saved_tensors
        need_x, need_gate, need_structure, *_ = ctx.needs_input_grad
        gradient_x = gradient_gate = gradient_structure = None
        if gradient is not None and torch.is_grad_enabled():
            gradient_x, gradient_gate, gradient_structure = torch_gradients(
                gradient, gate, structure, mean, *graph_parts(graph)
            )
        elif gradient is not None:
            gradient_x, gradient_gate, gradient_structure = gradient_operator(
                gradient, gate, structure, mean, need_x, *graph
            )
        if of_mean is not None and need_x:
            # Gradients read the means, so that derivatives of a gradient reach them.
            matrix, _, inverse_count = graph_parts(graph)
            scaled = of_mean * inverse_count.to(of_mean.dtype)[:, None]
            of_items = matrix.matmul(scaled)
            gradient_x = of_items if gradient_x is None else gradient_x + of_items
        return (
            gradient_x if need_x else None,
            gradient_gate if need_gate else None,
            gradient_structure if need_structure else None,
            *[None] * _NUM_GRAPH,
        )

    operator.register_autograd(differentiate, setup_context=setup_context)


def fused_propagate(
    engine: str,
    x: Tensor,
    graph: FactorGraph,
    gate: Tensor,
    structure: Tensor | None = None,
) -> Tensor:
    """Run the operator of an engine; see :func:`mars_pyg.kernels.factor_propagate`."""
    operator = getattr(torch.ops.mars_pyg, f"{engine}_factor_propagate")
    gate = gate.to(sum_dtype(x.dtype))
    if structure is not None:
        structure = structure.to(x.dtype)
    return operator(x, gate, structure, *graph_tensors(graph))[0]
