"""The semantic factor prediction loss with its linear layer, in blocks of items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from mars_pyg.kernels.precision import sum_dtype

#: Logits that are held at once: so few that they stay in the cache of a core, and on a
#: GPU so many that it is busy.
MAX_LOGITS = {"cpu": 2**18, "cuda": 2**24}


def fused_semantic_loss(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    label: tuple[Tensor, Tensor],
    known: Tensor,
    factor: Tensor,
) -> Tensor:
    r"""The loss of :class:`~mars_pyg.nn.SemanticFactorLoss`, summed over the items.

    .. math::
        \sum_i \Big( \sum_k m_{ik} \sum_{v \in A_k} \mathrm{softplus}(z_{iv}) -
        \sum_{v : y_{iv} = 1} z_{iv} \Big), \qquad \mathbf{z}_i = \mathbf{W}
        \mathbf{x}_i + \mathbf{b}

    Neither the logits nor the labels of all items are ever held: with the sum, a block
    of items leaves its part of the gradients behind. Memory is in :math:`O(B d + V d)`
    and not in :math:`O(B V)`.

    Args:
        x: What the linear layer reads ``[B, d]``.
        weight: Its weight ``[V, d]``.
        bias: Its bias ``[V]``.
        label: The row and the value of each label that is one, by rows, each ``[P]``;
            their factors are known.
        known: Whether an item has a value under a factor ``[B, K]``, bool.
        factor: The factor of each value ``[V]``, int64.

    Returns:
        The sum, a scalar; its gradient has no gradient.
    """
    dtype = sum_dtype(weight.dtype)
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        loss: Tensor = _FusedSemanticLoss.apply(x, weight, bias, *label, known, factor)
    return loss


class _FusedSemanticLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        row: Tensor,
        value: Tensor,
        known: Tensor,
        factor: Tensor,
    ) -> Tensor:
        needed = any(ctx.needs_input_grad[:3])
        gradients = [torch.zeros_like(p) for p in (x, weight, bias)] if needed else []
        total = bias.new_zeros(())
        most = MAX_LOGITS.get(x.device.type, MAX_LOGITS["cuda"])
        size = max(most // max(bias.numel(), 1), 1)
        start = torch.arange(0, x.size(0) + size, size, device=row.device)
        bounds = torch.searchsorted(row, start).tolist()
        for place, first in enumerate(range(0, x.size(0), size)):
            block = slice(first, first + size)
            logits = torch.addmm(bias, x[block], weight.t())
            own = slice(bounds[place], bounds[place + 1])
            index = (row[own] - first) * bias.numel() + value[own]
            mask = known[block].index_select(1, factor)
            # Not a product: a masked logit may be infinite.
            total += softplus(logits).masked_fill_(~mask, 0.0).sum()
            total -= logits.view(-1)[index].sum()
            if not needed:
                continue
            gradient = logits.sigmoid_().masked_fill_(~mask, 0.0)
            ones = gradient.new_ones(()).expand(index.numel())
            gradient.view(-1).index_add_(0, index, ones, alpha=-1)
            torch.mm(gradient, weight, out=gradients[0][block])
            gradients[1].addmm_(gradient.t(), x[block])
            gradients[2] += gradient.sum(dim=0)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (gradient * upstream for gradient in ctx.saved_tensors)
        return *gradients, None, None, None, None
