"""All layers of LightGCN as one linear map, which is its own gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mars_pyg.kernels import SparseMatrix


class _Propagation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        user: Tensor,
        item: Tensor,
        matrix: SparseMatrix,
        num_layers: int,
    ) -> tuple[Tensor, Tensor]:
        ctx.matrix, ctx.num_layers = matrix, num_layers
        transposed = matrix.t()
        users, items = user, item
        for _ in range(num_layers):
            # Horner's rule: no layer is kept, and none is added up apart.
            users, items = (
                matrix.matmul(items).add_(user),
                transposed.matmul(users).add_(item),
            )
        scale = 1 / (num_layers + 1)
        return users.mul_(scale), items.mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return *_Propagation.apply(*gradients, ctx.matrix, ctx.num_layers), None, None


def propagate_layers(
    user: Tensor, item: Tensor, matrix: SparseMatrix, num_layers: int
) -> tuple[Tensor, Tensor]:
    r"""The mean of LightGCN's layers.

    .. math::
        \mathbf{e} = \frac{1}{L + 1} \sum_{l=0}^{L} \mathbf{A}^l \mathbf{e}^{(0)},
        \qquad \mathbf{A} = \begin{bmatrix} & \hat{\mathbf{R}} \\
        \hat{\mathbf{R}}^\top & \end{bmatrix}

    The map is linear and symmetric, so its gradient is the map itself: nothing is kept
    for the backward pass, whatever the number of layers.

    Args:
        user: The users' embeddings ``[U, d]``.
        item: The items' embeddings ``[N, d]``.
        matrix: :math:`\hat{\mathbf{R}}` ``[U, N]``.
        num_layers: :math:`L`.

    Returns:
        The users ``[U, d]`` and the items ``[N, d]``.
    """
    if num_layers == 0:
        return user, item
    return _Propagation.apply(user, item, matrix, num_layers)
