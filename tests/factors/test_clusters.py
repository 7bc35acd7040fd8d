from __future__ import annotations

import pytest
import torch

from mars_pyg.errors import DataError
from mars_pyg.factors import ClusterReasoner, ItemCatalogue
from mars_pyg.factors.clusters import cluster_values


def test_plain_clusters_are_found() -> None:
    # Three directions and a missing row; factor 0 has the values 0 and 3 and 4.
    centres = torch.eye(3).repeat_interleave(10, dim=0)
    x = centres + 0.01 * torch.randn(30, 3)
    x = torch.cat([x, torch.zeros(1, 3)])
    factor = torch.tensor([0, 1, 1, 0, 0])
    edges = cluster_values(x, factor)
    first = edges[:, factor[edges[1]] == 0]
    assert first[0].tolist() == list(range(30))
    groups = first[1].view(3, 10)
    assert all(len(set(group)) == 1 for group in groups.tolist())
    assert set(groups[:, 0].tolist()) == {0, 3, 4}
    second = edges[:, factor[edges[1]] == 1]
    assert set(second[1].tolist()) == {1, 2}
    assert 30 not in edges[0]


def test_scale_does_not_count_and_seed_does_the_same() -> None:
    x = torch.randn(40, 4)
    factor = torch.zeros(3, dtype=torch.int64)
    assert torch.equal(cluster_values(x, factor), cluster_values(x, factor))
    scaled = x * torch.rand(40, 1).add(0.5)
    assert torch.equal(cluster_values(x, factor), cluster_values(scaled, factor))


def test_fewer_items_than_values() -> None:
    factor = torch.zeros(5, dtype=torch.int64)
    edges = cluster_values(torch.eye(2), factor)
    assert edges[0].tolist() == [0, 1]
    assert len(set(edges[1].tolist())) == 2
    assert cluster_values(torch.zeros(2, 3), factor).shape == (2, 0)
    assert cluster_values(torch.eye(2), factor[:0]).shape == (2, 0)


def test_reasoner() -> None:
    x = torch.eye(3).repeat_interleave(4, dim=0)
    x = torch.cat([x, torch.zeros(1, 3)])
    ids = [f"i{number}" for number in range(13)]
    catalogue = ItemCatalogue(ids, features={"image": x})
    profiles = ClusterReasoner([3, 2], "image").assign(catalogue)
    assert profiles.schema.modality == "image"
    assert profiles.value_names == ["0", "1", "2", "0", "1"]
    first = profiles.labels(0)
    assert first.index.tolist() == list(range(12))
    groups = [set(first[start : start + 4]) for start in (0, 4, 8)]
    assert sorted(map(sorted, groups)) == [["0"], ["1"], ["2"]]
    assert len(ClusterReasoner([11], "image").assign(catalogue).value_names[0]) == 2
    with pytest.raises(DataError, match="no text features"):
        ClusterReasoner([3]).assign(catalogue)
    for number in ([], [3, 0]):
        with pytest.raises(ValueError, match="at least one value"):
            ClusterReasoner(number)
