"""The losses of MARS: recommendation, semantic factor prediction, view consistency."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.models.lightgcn import BPRLoss

__all__ = ["BPRLoss", "MARSLoss", "SemanticFactorLoss", "ViewConsistencyLoss"]


class SemanticFactorLoss(torch.nn.Module):
    r"""The semantic factor prediction loss of the MARS paper (Eq. 10).

    .. math::
        \mathcal{L}_{\text{sem}} = - \frac{1}{N} \sum_{i=1}^{N} \sum_{j=1}^{V} m_{ij}
        \left[ y_{ij} \log \hat{y}_{ij} + (1 - y_{ij}) \log (1 - \hat{y}_{ij}) \right]

    with :math:`m_{ij} = 0` where nothing is known of the item under the factor of value
    :math:`j`, which leaves the label out.

    Shapes:
        - **input:** logits :math:`(N, V)`, multi-hot labels :math:`(N, V)`, mask of the
          known labels :math:`(N, V)`, bool *(optional)*
        - **output:** a scalar; 0 without items
    """

    def forward(
        self, logits: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Sum over the values, mean over the items."""
        if logits.shape != target.shape:
            raise ValueError(
                f"'target' must have the shape of 'logits', {list(logits.shape)} "
                f"(got {list(target.shape)})"
            )
        loss = F.binary_cross_entropy_with_logits(
            logits, target.to(logits.dtype), reduction="none"
        )
        if mask is not None:
            if mask.shape != logits.shape:
                raise ValueError(
                    f"'mask' must have the shape of 'logits', {list(logits.shape)} "
                    f"(got {list(mask.shape)})"
                )
            # Not a product: a masked logit may be infinite.
            loss = loss.masked_fill(~mask.bool(), 0.0)
        return loss.sum() / max(logits.size(0), 1)


class ViewConsistencyLoss(torch.nn.Module):
    r"""The cross-modal view consistency loss of the MARS paper (Eq. 12).

    .. math::
        \mathcal{L}_{\text{view}} = \frac{1}{N} \sum_{i=1}^{N} \sum_{m < m'}
        \| \mathbf{H}_i^{m} - \mathbf{H}_i^{m'} \|^2

    over any number of views but none; a single one gives 0.

    Shapes:
        - **input:** views, each :math:`(N, d)`
        - **output:** a scalar
    """

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Sum over the pairs of views, mean over the items."""
        if not views:
            raise ValueError("'views' must hold at least one view")
        loss = views[0].new_zeros(())
        for first, second in combinations(views, 2):
            if first.shape != second.shape:
                raise ValueError(
                    f"All views must have one shape "
                    f"(got {list(first.shape)} and {list(second.shape)})"
                )
            # Keeps no difference for the backward pass.
            loss = loss + F.mse_loss(first, second, reduction="sum")
        return loss / max(views[0].size(0), 1)


class MARSLoss(torch.nn.Module):
    r"""The objective of the MARS paper (Eq. 13).

    .. math::
        \mathcal{L} = \mathcal{L}_{\text{rec}} + \lambda \mathcal{L}_{\text{sem}} +
        \eta \mathcal{L}_{\text{view}}

    Args:
        semantic_weight (float, optional): :math:`\lambda`. (default: :obj:`0.001`)
        view_weight (float, optional): :math:`\eta`. (default: :obj:`0.01`)
    """

    def __init__(
        self, semantic_weight: float = 0.001, view_weight: float = 0.01
    ) -> None:
        super().__init__()
        for name, weight in (
            ("semantic_weight", semantic_weight),
            ("view_weight", view_weight),
        ):
            if not weight >= 0:
                raise ValueError(f"'{name}' must not be negative (got {weight})")
        self.semantic_weight = semantic_weight
        self.view_weight = view_weight

    def forward(
        self,
        recommendation: Tensor,
        semantic: Tensor | None = None,
        view: Tensor | None = None,
    ) -> Tensor:
        """Add up the parts; a part that is :obj:`None` is left out."""
        loss = recommendation
        if semantic is not None:
            loss = loss + self.semantic_weight * semantic
        if view is not None:
            loss = loss + self.view_weight * view
        return loss

    def __repr__(self) -> str:
        return (
            f"{self.__class__.__name__}(semantic_weight={self.semantic_weight}, "
            f"view_weight={self.view_weight})"
        )
