"""The semantic factor prediction loss with its linear layer, in blocks of items."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mars_pyg.kernels.precision import sum_dtype

#: Logits that are held at once: so few that they stay in the cache of a core, and on a
#: GPU so many that it is busy.
MAX_LOGITS = {"cpu": 2**18, "cuda": 2**24}
#: Numbers of which the product is taken before its logarithm: 2^-16 is far from zero.
LOG_GROUP = 16


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
    and not in :math:`O(B V)`. Within autocast the three matrix products of a block are
    of its dtype, and the sums of float32.

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
    device, dtype = x.device.type, sum_dtype(weight.dtype)
    # What is of double precision stays so, as in a linear layer.
    mixed = torch.is_autocast_enabled(device) and dtype == torch.float32
    product_dtype = torch.get_autocast_dtype(device) if mixed else dtype
    x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    with torch.autocast(device, enabled=False):
        loss: Tensor = _FusedSemanticLoss.apply(
            x, weight, bias, *label, known, factor, product_dtype
        )
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
        product_dtype: torch.dtype,
    ) -> Tensor:
        needed = any(ctx.needs_input_grad[:3])
        gradients = [torch.zeros_like(p) for p in (x, weight, bias)] if needed else []
        total = bias.new_zeros(())
        dtype, bias = bias.dtype, bias.to(product_dtype).unsqueeze(1)
        x, weight = x.to(product_dtype), weight.to(product_dtype)
        most = MAX_LOGITS.get(x.device.type, MAX_LOGITS["cuda"])
        size = max(most // max(bias.numel(), 1), 1)
        start = torch.arange(0, x.size(0) + size, size, device=row.device)
        bounds = torch.searchsorted(row, start).tolist()
        ceiling = torch.where(known.t().contiguous(), torch.inf, -torch.inf).to(dtype)
        for place, first in enumerate(range(0, x.size(0), size)):
            block = slice(first, first + size)
            # By values, so that a mask of factors is copied a row at a time.
            logits = torch.addmm(bias, weight, x[block].t()).to(dtype)
            own = slice(bounds[place], bounds[place + 1])
            index = value[own] * logits.size(1) + row[own] - first
            total -= logits.view(-1)[index].sum()
            # Not a product or a sum: a masked logit may be infinite.
            logits.clamp_max_(ceiling[:, block].index_select(0, factor))
            gradient = logits.sigmoid()
            # softplus(z) = max(z, 0) - log(1/2 + |sigmoid(z) - 1/2|)
            total += logits.relu_().sum()
            total -= _sum_of_logs((gradient - 0.5).abs_().add_(0.5))
            if not needed:
                continue
            ones = gradient.new_ones(()).expand(index.numel())
            gradient.view(-1).index_add_(0, index, ones, alpha=-1)
            gradients[2] += gradient.sum(dim=1)
            if product_dtype == dtype:
                torch.mm(gradient.t(), weight, out=gradients[0][block])
                gradients[1].addmm_(gradient, x[block])
                continue
            gradient = gradient.to(product_dtype)
            gradients[0][block] = gradient.t() @ weight
            gradients[1] += gradient @ x[block]
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (gradient * upstream for gradient in ctx.saved_tensors)
        return *gradients, None, None, None, None, None


def _sum_of_logs(x: Tensor) -> Tensor:
    """The sum of the logarithms of numbers in [1/2, 1], one taken for many of them."""
    size = x.size(0) // LOG_GROUP
    grouped = x[: size * LOG_GROUP].view(LOG_GROUP, size, x.size(1))
    rest = x[size * LOG_GROUP :].log().sum()
    return grouped.prod(dim=0).log().sum() + rest
