"""Candidates for the weights of heads are scored in bounded memory."""

import torch

from mars_pyg import BPR, HeadedRecommender, Popularity, SyntheticFactorDataset
from mars_pyg.training import candidate_pool
from mars_pyg.training.candidate_pool import CandidatePool


def test_pairs_are_scored_in_parts(monkeypatch):
    class Watched(Popularity):
        def pair_parts(self, history, row, item, leave_out=None):
            sizes.append(row.numel())
            return super().pair_parts(history, row, item, leave_out)

    sizes: list[int] = []
    data = SyntheticFactorDataset(num_users=50, num_items=20, seed=1)[0]
    recommender = HeadedRecommender(BPR(data, 4), data, [Watched(data)])
    whole = CandidatePool.from_recommender(recommender, data)
    assert len(sizes) == 1
    sizes.clear()
    monkeypatch.setattr(candidate_pool, "MAX_PAIRS", 500)
    parts = CandidatePool.from_recommender(recommender, data)
    assert max(sizes) == 500
    assert torch.equal(parts.parts, whole.parts)
    assert torch.equal(parts.positive, whole.positive)
