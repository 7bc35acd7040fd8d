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
    def fit(cls, users: Tensor, features: Tensor, history: UserItems) -> FoldIn:
        r"""Learn the map from histories to representations of the users of a model.

        .. math::
            \mathbf{p}_j = \mathbf{x}_j \mathbf{W}, \qquad
            \mathbf{W} = \arg\min_{\mathbf{W}} \sum_u \Big\| \mathbf{e}_u -
            \frac{1}{\sqrt{| \mathcal{I}_u |}} \sum_{j \in \mathcal{I}_u}
            \mathbf{x}_j \mathbf{W} \Big\|^2 + \rho \| \mathbf{W} \|^2

        A ridge regression over the users, so that folded-in users have the size of
        learned ones, to which heads were weighted. Time :math:`\mathcal{O}(E f + U f^2
        + f^3)`.

        Args:
            users: The representations of the users :math:`\mathbf{e}_u` ``[U, d]``.
            features: What is known of the items :math:`\mathbf{x}_j` ``[N, f]``.
            history: The items that each user was trained on.
        """
        if features.size(1) == 0:
            return cls(features)
        z = FoldIn(features.double())(history)
        gram = z.t() @ z
        # Never singular, as where no user has an item.
        ridge = RIDGE * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny
        gram.diagonal().add_(ridge)
        weight = torch.linalg.solve(gram, z.t() @ users.double())
        return cls((features.double() @ weight).to(users.dtype))
