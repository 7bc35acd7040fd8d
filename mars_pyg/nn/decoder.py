"""SemanticDecoder: from an item's embedding to its factor values."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.nn import MLP

from mars_pyg.nn.fused_semantic_loss import fused_semantic_loss


class SemanticDecoder(torch.nn.Module):
    r"""The semantic decoder :math:`\psi` of the MARS paper (Eq. 9).

    .. math::
        \hat{\mathbf{y}}_i = \textrm{sigmoid}(\psi(\mathbf{H}_i))

    The forward pass returns the logits :math:`\psi(\mathbf{H}_i)`, which the loss
    takes; :meth:`predict` names the likeliest value of each factor.

    Args:
        in_channels (int): Size :math:`d` of the item embeddings.
        factor (torch.Tensor): Factor of each value :math:`(V)`, int64.
        hidden_channels (int, optional): Width of a hidden layer; :obj:`None` makes
            :math:`\psi` linear. (default: :obj:`None`)

    Shapes:
        - **input:** item embeddings :math:`(N, d)`
        - **output:** logits :math:`(N, V)`

    Raises:
        ValueError: If :obj:`factor` is no vector of int64, or
            :obj:`hidden_channels` is not positive.
    """

    factor: Tensor

    def __init__(
        self, in_channels: int, factor: Tensor, hidden_channels: int | None = None
    ) -> None:
        super().__init__()
        if factor.dim() != 1 or factor.dtype != torch.int64:
            raise ValueError(
                f"'factor' must be int64 of shape [V] "
                f"(got {factor.dtype}, {list(factor.shape)})"
            )
        if hidden_channels is not None and hidden_channels < 1:
            raise ValueError(
                f"'hidden_channels' must be positive (got {hidden_channels})"
            )
        self.register_buffer("factor", factor, persistent=False)
        channels = [in_channels, factor.numel()]
        if hidden_channels is not None:
            channels.insert(1, hidden_channels)
        self.mlp = MLP(channels, norm=None)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        self.mlp.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """The logits of every value ``[N, V]``."""
        return self.mlp(x)

    def loss(self, x: Tensor, label: tuple[Tensor, Tensor], known: Tensor) -> Tensor:
        """The sum over items of :class:`~mars_pyg.nn.SemanticFactorLoss` (Eq. 10).

        The logits of all values are made block by block, and not kept.

        Args:
            x: Item embeddings ``[N, d]``.
            label: The row and the value of each label that is one, by rows, each
                ``[P]``, int64.
            known: Whether an item has a value under a factor ``[N, K]``, bool.
        """
        *hidden, last = self.mlp.lins
        for layer in hidden:
            x = self.mlp.act(layer(x))
        return fused_semantic_loss(x, last.weight, last.bias, label, known, self.factor)

    def predict(self, x: Tensor) -> Tensor:
        """The likeliest value of each factor ``[N, K]``, -1 where it has none."""
        logits = self(x)
        num_factors = int(self.factor.max()) + 1 if self.factor.numel() else 0
        best = logits.new_full((x.size(0), num_factors), -1, dtype=torch.int64)
        for k in range(num_factors):
            values = (self.factor == k).nonzero().view(-1)
            if values.numel() > 0:
                best[:, k] = values[logits[:, values].argmax(dim=1)]
        return best
