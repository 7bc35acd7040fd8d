"""Clusters of the features in the place of factor values."""

from __future__ import annotations

import torch
from torch import Tensor


def cluster_values(x: Tensor, factor: Tensor, seed: int = 0) -> Tensor:
    """Assign each item a cluster of its features under every factor, by k-means.

    The ablation *r/p SF* of the MARS paper: as many factors, each with as many values,
    but the values are clusters that nobody can name. Factors differ by the seed of
    their k-means. Items without features, rows of zeros, get no value.

    Args:
        x: Features ``[N, D]``.
        factor: Factor of each value ``[V]``, int64.
        seed: Seed of the first factor's k-means. (default: :obj:`0`)

    Returns:
        Edges from items to values ``[2, E]``, int64.
    """
    from sklearn.cluster import MiniBatchKMeans

    item = (x != 0).any(dim=1).nonzero().view(-1)
    known = torch.nn.functional.normalize(x[item].float(), dim=1).numpy()
    edges = [torch.empty(2, 0, dtype=torch.int64)]
    for k in factor.unique().tolist():
        values = (factor == k).nonzero().view(-1)
        num_clusters = min(values.numel(), item.numel())
        if num_clusters == 0:
            continue
        k_means = MiniBatchKMeans(num_clusters, random_state=seed + k, n_init=3)
        cluster = torch.from_numpy(k_means.fit_predict(known)).long()
        edges.append(torch.stack([item, values[cluster]]))
    return torch.cat(edges, dim=1)
