"""A user of LightGCN without one of their interactions."""

from __future__ import annotations

import torch
from torch import Tensor

from mars_pyg.kernels import SparseMatrix

#: Numbers of the propagated weights that are held at once.
MAX_WEIGHTS = 2**23


def user_without_items(
    user: int,
    item: Tensor,
    user_embedding: Tensor,
    item_embedding: Tensor,
    matrix: SparseMatrix,
    num_layers: int,
) -> Tensor:
    r"""Propagate to a user anew, each time without one of their interactions.

    .. math::
        \mathbf{e}_u = \frac{1}{L + 1} \sum_{l=0}^{L} (\mathbf{A}'^l
        \mathbf{e}^{(0)})_u, \qquad \mathbf{A}' = \mathbf{C} \mathbf{A} \mathbf{C} -
        w'_{uj} (\mathbf{1}_u \mathbf{1}_j^\top + \mathbf{1}_j \mathbf{1}_u^\top)

    where :math:`\mathbf{A}` is normalised by the degrees, and the diagonal
    :math:`\mathbf{C}` corrects those of :math:`u` and :math:`j`, which lose an edge;
    all other entries of it are one. What reaches one user are the rows
    :math:`\mathbf{1}_u^\top \mathbf{A}'^l`, so that no embedding is propagated: time
    :math:`\mathcal{O}(L E)` for each item.

    Args:
        user: The user :math:`u`.
        item: Items :math:`j` of the user ``[H]``, int64, to leave out one by one.
        user_embedding: The users' embeddings ``[U, d]``.
        item_embedding: The items' embeddings ``[N, d]``.
        matrix: :math:`\hat{\mathbf{R}}` ``[U, N]``, normalised.
        num_layers: :math:`L`.

    Returns:
        The user's representations ``[H, d]``.
    """
    size = max(1, MAX_WEIGHTS // (matrix.num_rows + matrix.num_cols))
    parts = [
        _without(user, chunk, user_embedding, item_embedding, matrix, num_layers)
        for chunk in item.split(size)
    ]
    return torch.cat(parts)


def _without(
    user: int,
    item: Tensor,
    user_embedding: Tensor,
    item_embedding: Tensor,
    matrix: SparseMatrix,
    num_layers: int,
) -> Tensor:
    start, stop = matrix.ptr[user : user + 2].tolist()
    assert matrix.weight is not None
    # An interaction that is given twice counts twice, and goes as a whole.
    own = matrix.col[start:stop].long() == item[:, None]
    number = own.sum(dim=1)
    dtype = user_embedding.dtype
    weight = own.to(dtype) @ matrix.weight[start:stop].to(dtype)
    degree = matrix.ptr_t.diff()[item].long()
    of_user = _correction(number.new_tensor(stop - start), number, dtype)
    of_item = _correction(degree, number, dtype)
    weight = weight * of_user * of_item

    column = torch.arange(item.numel(), device=item.device)
    users = weight.new_zeros(matrix.num_rows, item.numel())
    items = weight.new_zeros(matrix.num_cols, item.numel())
    users[user] = 1
    total = user_embedding[user].expand(item.numel(), -1)
    for _ in range(num_layers):
        from_user, from_item = users[user].clone(), items[item, column]
        users[user] *= of_user
        items[item, column] *= of_item
        users, items = matrix.matmul(items), matrix.t().matmul(users)
        users[user] = of_user * users[user] - weight * from_item
        items[item, column] = of_item * items[item, column] - weight * from_user
        total = total + users.t() @ user_embedding + items.t() @ item_embedding
    return total / (num_layers + 1)


def _correction(degree: Tensor, number: Tensor, dtype: torch.dtype) -> Tensor:
    """The root of a degree over what is left of it; zero where nothing is."""
    left = degree - number
    return torch.where(left > 0, degree / left.clamp(min=1), 0.0).to(dtype).sqrt()
