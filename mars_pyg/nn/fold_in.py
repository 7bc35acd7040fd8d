"""Representations of users whom a recommender has not been trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mars_pyg.user_items import UserItems

#: Ridge of the linear map, as a share of the mean of the diagonal.
RIDGE = 1e-3


@dataclass(frozen=True)
class FoldIn:
    r"""Makes a user's representation of the items of their history.

    .. math::
        \mathbf{e}_u = \frac{1}{\sqrt{| \mathcal{I}_u |}} \sum_{j \in \mathcal{I}_u}
        \mathbf{p}_j

    A user without items gets zeros.

    Args:
        item: What an item says of its users, :math:`\mathbf{p}_j` ``[N, d]``.
    """

    item: Tensor

    def __call__(self, history: UserItems) -> Tensor:
        """Fold histories in.

        Args:
            history: The items of each of ``B`` users.

        Returns:
            Representations ``[B, d]``.
        """
        total = self.item.new_zeros(history.num_users, self.item.size(1))
        total.index_add_(0, history.rows(), self.item[history.item])
        return total * history.count.clamp(min=1).to(total.dtype).rsqrt()[:, None]

    @classmethod
    def fit(cls, representations: tuple[Tensor, Tensor], history: UserItems) -> FoldIn:
        r"""Learn the map from histories to representations of the users of a model.

        .. math::
            \mathbf{p}_j = \frac{\mathbf{g}_j}{\sqrt{d_j}} \mathbf{W}, \qquad
            \mathbf{W} = \arg\min_{\mathbf{W}} \sum_u \| \mathbf{e}_u - \mathbf{z}_u
            \mathbf{W} \|^2 + \rho \| \mathbf{W} \|^2, \qquad
            \mathbf{z}_u = \sum_{j \in \mathcal{I}_u}
            \frac{\mathbf{g}_j}{\sqrt{| \mathcal{I}_u | \, d_j}}

        a ridge regression from one step of LightGCN's propagation, with the number of
        users :math:`d_j` of an item, to what the model has learned of its users. Time
        :math:`\mathcal{O}(E d + U d^2 + d^3)`.

        Args:
            representations: The users ``[U, d]`` and the items ``[N, d]``.
            history: The items that each user was trained on.
        """
        if representations[1].size(1) == 0:
            return cls(representations[1])
        users, items = (x.double() for x in representations)
        count = torch.bincount(history.item, minlength=history.num_items)
        scaled = items * count.clamp(min=1).double().rsqrt()[:, None]
        z = cls(scaled)(history)
        gram = z.t() @ z
        ridge = RIDGE * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny
        gram.diagonal().add_(ridge)
        weight = torch.linalg.solve(gram, z.t() @ users)
        return cls((scaled @ weight).to(representations[1].dtype))
