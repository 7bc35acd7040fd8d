"""VBPR: matrix factorisation beside preferences for content."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from baselines.content import register_features
from mars_pyg.nn import BPRLoss, Recommender


class VBPR(Recommender):
    r"""VBPR, from `"VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1510.01784>`_ (He and McAuley, AAAI 2016).

    .. math::
        s(u, i) = \beta_i + \langle \gamma_u, \gamma_i \rangle +
        \langle \theta_u, \mathbf{E} \mathbf{x}_i \rangle +
        \langle \beta', \mathbf{x}_i \rangle, \qquad
        \mathcal{L} = - \ln \sigma (s(u, i) - s(u, j)) + \lambda \| \Theta \|^2

    for the features :math:`\mathbf{x}_i`. The paper's offset and user bias rank
    nothing, and are left out. :math:`\Theta` are the embeddings, biases and projected
    features :math:`\mathbf{E} \mathbf{x}` of a triplet.

    **Departures.** The paper does not regularise :math:`\mathbf{E}`, which it trains by
    stochastic gradient descent; under Adam content then escapes the regularisation, and
    the model overfits. The features of all modalities are concatenated, where the paper
    has images alone. The paper has 20 dimensions, half of them of content; here both
    halves have the width of all baselines. It searches :math:`\lambda` for stochastic
    gradient descent; here it is that of :class:`~mars_pyg.nn.BPR`.

    Args:
        data (HeteroData): The graph, with features :obj:`x_<modality>` of the items.
        embedding_dim (int, optional): Width of :math:`\gamma`, and of :math:`\theta`.
            (default: :obj:`64`)
        regularization (float, optional): :math:`\lambda`. (default: :obj:`0.01`)

    Raises:
        ValueError: If there are no features.
    """

    def __init__(
        self,
        data: HeteroData,
        embedding_dim: int = 64,
        regularization: float = 0.01,
    ) -> None:
        super().__init__(data["user"].num_nodes, data["item"].num_nodes)
        self.modalities = register_features(self, data)
        self.regularization = regularization
        # Of a user, gamma and theta side by side.
        self.user_embedding = torch.nn.Embedding(self.num_users, 2 * embedding_dim)
        self.item_embedding = torch.nn.Embedding(self.num_items, embedding_dim)
        self.item_bias = torch.nn.Parameter(torch.empty(self.num_items))
        width = sum(x.size(1) for x in self._features())
        self.projection = torch.nn.Linear(width, embedding_dim, bias=False)
        self.content_bias = torch.nn.Linear(width, 1, bias=False)
        self.bpr = BPRLoss()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew; biases start at zero."""
        for module in (self.user_embedding, self.item_embedding, self.projection):
            torch.nn.init.xavier_uniform_(module.weight)
        torch.nn.init.zeros_(self.item_bias)
        torch.nn.init.zeros_(self.content_bias.weight)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The users ``[U, 2 d + 1]`` and the items; the last column is the bias."""
        x = torch.cat(self._features(), dim=1)
        bias = self.item_bias[:, None] + self.content_bias(x)
        user = self.user_embedding.weight
        return (
            torch.cat([user, user.new_ones(self.num_users, 1)], dim=1),
            torch.cat([self.item_embedding.weight, self.projection(x), bias], dim=1),
        )

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """BPR loss of a batch of triplets; see :class:`~mars_pyg.nn.Recommender`."""
        users, items = self()
        rows = users[user]
        bpr = self.bpr(
            (rows * items[positive]).sum(dim=1), (rows * items[negative]).sum(dim=1)
        )
        pairs = torch.cat([positive, negative])
        width = self.item_embedding.embedding_dim
        content = items[:, width : 2 * width]
        squares = (
            self.user_embedding(user).square().sum()
            + self.item_embedding(pairs).square().sum()
            + self.item_bias[pairs].square().sum()
            + content[pairs].square().sum()
        )
        return {"loss": bpr + self.regularization * squares / user.numel(), "bpr": bpr}

    def _features(self) -> list[Tensor]:
        return [self.get_buffer(f"x_{modality}") for modality in self.modalities]
