"""Clusters of the features in the place of factor values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mars_pyg.errors import DataError
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.reasoner import FactorReasoner
from mars_pyg.factors.schema import Factor, FactorSchema


class ClusterReasoner(FactorReasoner):
    """Takes clusters of the features for values, by k-means.

    The ablation *r/p SF* of the MARS paper, see :func:`cluster_values`: the baseline
    that factors with names have to beat.

    Args:
        num_values: The number of values of each factor.
        modality: The modality of the features. (default: :obj:`"text"`)
        seed: Seed of the first factor's k-means. (default: :obj:`0`)
    """

    def __init__(
        self, num_values: Sequence[int], modality: str = "text", seed: int = 0
    ) -> None:
        super().__init__(modality)
        if not num_values or min(num_values) < 1:
            raise ValueError(
                f"every factor needs at least one value, got {list(num_values)}"
            )
        self.num_values = list(num_values)
        self.seed = seed

    def assign(self, catalogue: ItemCatalogue) -> FactorProfiles:
        """Assign clusters to the items that have features.

        Raises:
            DataError: If the catalogue has no features of the modality.
        """
        if self.modality not in catalogue.features:
            raise DataError(
                f"the catalogue has no {self.modality} features to find clusters in",
                mend="make them with 'mars-pyg features'",
                field=self.modality,
            )
        count = torch.tensor(self.num_values)
        factor = torch.arange(len(count)).repeat_interleave(count)
        names = [
            f"{value:0{len(str(number - 1))}}"
            for number in self.num_values
            for value in range(number)
        ]
        schema = FactorSchema(
            modality=self.modality,
            factors=[
                Factor(
                    name=f"{self.modality} cluster {k}",
                    description="clusters of the features, by k-means",
                    values=[names[value] for value in (factor == k).nonzero()],
                )
                for k in range(len(count))
            ],
        )
        item, value = cluster_values(
            catalogue.features[self.modality], factor, self.seed
        )
        return FactorProfiles.from_assignments(
            schema,
            len(catalogue),
            item,
            factor[value],
            [names[index] for index in value.tolist()],
        )


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

    device = x.device
    x, factor = x.detach().cpu(), factor.cpu()
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
    return torch.cat(edges, dim=1).to(device)
