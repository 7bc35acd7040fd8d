"""What each head adds, and how its weight is best chosen, on validation alone.

Of a trained run, the likely items of validation users are scored part by part
(``CandidatePool``). Weights are fitted on one half of the users and Recall@20 and its
standard error are taken on the other, both ways, so that no weight is judged by the
users it was chosen for. Beside the heads of the package stand ideas that may come to
something: weights that depend on how many items a user has, the product of two factors
as a factor, and the lift of one value after another.

    mars-pyg train --dataset baby --root DATA --run-dir RUN ...
    python benchmarks/heads.py RUN
    python benchmarks/heads.py --table
    python benchmarks/heads.py --quick           # synthetic data, half a minute
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg import FactorAffinity, HeadedRecommender
from mars_pyg.config import make_config
from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path
from mars_pyg.heads import ScoreHead
from mars_pyg.item_values import item_value_edges
from mars_pyg.runs import load_run, train
from mars_pyg.training.candidate_pool import CandidatePool
from mars_pyg.training.head_weights import fit_pool, maximum_likelihood
from mars_pyg.user_items import UserItems

RESULTS = Path(__file__).parent / "results" / "heads.json"
QUICK = {"num_users": 200, "num_items": 100, "max_epochs": 5, "text_model": "tfidf"}
K = 20
Fit = Callable[[CandidatePool], Tensor]


class CrossedAffinity(FactorAffinity):
    """The affinity for the product of two factors, as a factor of its own."""

    name = "crossed"

    def __init__(self, data: HeteroData, first: int, second: int) -> None:
        item, value = item_value_edges(data)
        factor, num_values = data["value"].factor, data["value"].num_nodes
        table = torch.full((2, data["item"].num_nodes), -1)
        for row, k in enumerate((first, second)):
            own = factor[value] == k
            table[row, item[own]] = value[own]
        known = (table >= 0).all(dim=0).nonzero().view(-1)
        pairs = table[0, known] * num_values + table[1, known]
        names, pair = pairs.unique(return_inverse=True)
        crossed = HeteroData()
        crossed["user"].num_nodes = data["user"].num_nodes
        crossed["item"].num_nodes = data["item"].num_nodes
        crossed["value"].num_nodes = names.numel()
        crossed["value"].factor = torch.zeros_like(names)
        crossed["value"].factor_name = [
            " x ".join(data["value"].factor_name[k] for k in (first, second))
        ]
        crossed["item", "crossed_value", "value"].edge_index = torch.stack(
            [known, pair]
        )
        edges = data["user", "interacts", "item"].edge_index
        crossed["user", "interacts", "item"].edge_index = edges
        super().__init__(crossed)


class ValueTransition(ScoreHead):
    """The mean log lift of an item's values after the values of a user's items.

    The lift of two values is how much more often users have both, on two items, than
    if they were independent, shrunk by ten users. Same values are left out.
    """

    name = "transition"

    def __init__(self, data: HeteroData) -> None:
        super().__init__(["value to value lift"])
        train = UserItems.from_data(data, "train")
        item, value = item_value_edges(data)
        shape = data["item"].num_nodes, data["value"].num_nodes
        values = torch.zeros(shape)
        values[item, value] = 1
        ratings = torch.zeros(train.num_users, shape[0])
        ratings[train.rows(), train.item] = 1
        count = ratings @ values
        has = (count > 0).float()
        # Two items, not one that has both values.
        both = has.t() @ has - (values.t() * ratings.sum(0)) @ values
        expected = torch.outer(has.sum(0), has.sum(0)) / train.num_users
        lift = ((both.clamp(min=0) + 10) / (expected + 10)).log()
        lift.fill_diagonal_(0)
        number = values.sum(dim=1, keepdim=True).clamp(min=1)
        self.values, self.lift = values / number, lift

    def score(self, history: UserItems) -> Tensor:
        """See :class:`ScoreHead`."""
        own = torch.zeros(history.num_users, self.values.size(1))
        own.index_add_(0, history.rows(), self.values[history.item])
        own = own / history.count.clamp(min=1)[:, None]
        return own @ self.lift @ self.values.t() * self.weight

    def pair_parts(
        self,
        history: UserItems,
        row: Tensor,
        item: Tensor,
        leave_out: Tensor | None = None,
    ) -> Tensor:
        """See :class:`ScoreHead`."""
        return (self.score(history) / self.weight)[row, item][:, None]


def main() -> None:
    """Measure the parts of a run, or print what is recorded."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", type=Path, help="folder of a trained run")
    parser.add_argument("--num-users", type=int, default=12_000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        folder = Path(tempfile.mkdtemp())
        train(make_config(dict(QUICK)), folder / "run", progress=False)
        arguments.run = folder / "run"
        if arguments.output == RESULTS:
            arguments.output = folder / "heads.json"
    if not arguments.table:
        if arguments.run is None:
            parser.error("the folder of a trained run is needed")
        add_record(arguments.output, measure(arguments.run, arguments.num_users))
    print(table(json.loads(arguments.output.read_text())))


@torch.no_grad()
def measure(run_dir: Path, num_users: int) -> dict:
    """Recall of the parts of a run, alone and together."""
    run = load_run(run_dir)
    headed = isinstance(run.recommender, HeadedRecommender)
    heads = run.recommender.head_list() if headed else []
    if not any(isinstance(head, FactorAffinity) for head in heads):
        raise DataError(
            "the run has no affinity among its heads",
            mend="give one that was trained with --heads affinity,ease or with more",
            file=run_dir,
        )
    factors = run.data["value"].factor_name
    extra: list[ScoreHead] = [ValueTransition(run.data)]
    if {"brand", "product_type"} <= set(factors):
        pair = factors.index("brand"), factors.index("product_type")
    else:
        pair = 0, len(factors) - 1
    extra.append(CrossedAffinity(run.data, *pair))
    recommender = HeadedRecommender(run.recommender.base, run.data, heads + extra)
    pool = CandidatePool.from_recommender(recommender, run.data, num_users=num_users)
    groups = {"model": [0]}
    for head in recommender.head_list():
        start = 1 + sum(map(len, list(groups.values())[1:]))
        groups[head.name] = list(range(start, start + len(head.parts)))
    package = [head.name for head in heads]
    sets = {"model alone": ["model"]}
    sets |= {f"model + {name}": ["model", name] for name in package}
    sets["heads alone"] = package
    sets["all"] = ["model", *package]
    sets |= {
        f"all but {name}": ["model", *(other for other in package if other != name)]
        for name in package
    }
    rows = {}
    for name, members in sets.items():
        columns = [column for member in members for column in groups[member]]
        rows[name] = cross_fit(select(pool, columns), fit_pool)
    every = [column for member in sets["all"] for column in groups[member]]
    rows["all, one fit"] = cross_fit(select(pool, every), maximum_likelihood)
    rows["all, then searched by recall"] = cross_fit(select(pool, every), search)
    rows["all, one weight for the factors"] = cross_fit(
        merged(select(pool, every), len(groups["affinity"])), fit_pool
    )
    rows["all, weights by the user's items"] = cross_fit(
        with_activity(select(pool, every), run.recommender, run.data, num_users),
        fit_pool,
    )
    for head in extra:
        columns = every + groups[head.name]
        rows[f"all + {head.parts[0]}"] = cross_fit(select(pool, columns), fit_pool)
    return {
        "dataset": run.config.dataset,
        "model": run.config.model,
        "seed": run.config.seed,
        "users": pool.valid.size(0),
        "valid recall@20": rows,
    }


def cross_fit(pool: CandidatePool, fit: Fit) -> dict[str, float]:
    """Recall of each half of the users by weights of the other, and its error."""
    recalls = []
    for half in (0, 1):
        with torch.enable_grad():
            weight = fit(users(pool, half))
        recalls.append(users(pool, 1 - half).user_recall(weight, K))
    recall = torch.cat(recalls)
    error = recall.std() / recall.numel() ** 0.5
    return {
        "recall": round(float(recall.mean()), 4),
        "standard error": round(float(error), 4),
    }


def search(pool: CandidatePool) -> Tensor:
    """Improve the fitted weights by Recall itself, one weight at a time."""
    weight = fit_pool(pool)
    best = pool.recall(weight, K)
    generator = torch.Generator().manual_seed(0)
    for step in (2.0, 1.4, 1.2):
        for part in torch.randperm(pool.num_parts, generator=generator).tolist():
            for factor in (step, 1 / step):
                trial = weight.clone()
                trial[part] *= factor
                recall = pool.recall(trial, K)
                if recall > best:
                    best, weight = recall, trial
    return weight


def select(pool: CandidatePool, columns: list[int]) -> CandidatePool:
    """Some parts alone."""
    return replace(
        pool,
        parts=pool.parts[:, :, columns].contiguous(),
        positive=pool.positive[:, columns].contiguous(),
        deviation=pool.deviation[columns],
    )


def users(pool: CandidatePool, half: int) -> CandidatePool:
    """Every other user."""
    kept = torch.arange(pool.valid.size(0)) % 2 == half
    place = kept.cumsum(0) - 1
    own = kept[pool.row]
    return replace(
        pool,
        parts=pool.parts[kept],
        valid=pool.valid[kept],
        row=place[pool.row[own]],
        positive=pool.positive[own],
        found=pool.found[own],
    )


def merged(pool: CandidatePool, num_factors: int) -> CandidatePool:
    """The affinities of all factors, which follow the model, as one part."""

    def merge(parts: Tensor) -> Tensor:
        # Parts of unit deviation are brought back to what they were.
        affinity = parts[..., 1 : 1 + num_factors] * pool.deviation[1 : 1 + num_factors]
        rest = parts[..., 1 + num_factors :]
        return torch.cat([parts[..., :1], affinity.sum(-1, keepdim=True), rest], -1)

    positive = merge(pool.positive)
    return replace(
        pool,
        parts=merge(pool.parts),
        positive=positive,
        deviation=torch.ones(positive.size(1)),
    )


def with_activity(
    pool: CandidatePool,
    recommender: HeadedRecommender,
    data: HeteroData,
    num_users: int,
) -> CandidatePool:
    """Each part once more, times the centred logarithm of the user's items."""
    held_out = UserItems.from_data(data, "val")
    user = held_out.count.nonzero().view(-1)
    order = torch.randperm(len(user), generator=torch.Generator().manual_seed(0))
    user = user[order[:num_users].sort().values]
    activity = recommender.history.count[user].float().log1p()
    activity = activity - activity.mean()
    return replace(
        pool,
        parts=torch.cat([pool.parts, pool.parts * activity[:, None, None]], dim=2),
        positive=torch.cat(
            [pool.positive, pool.positive * activity[pool.row, None]], dim=1
        ),
        deviation=pool.deviation.repeat(2),
    )


def add_record(path: Path, record: dict) -> None:
    """Add a record; one of the same run gives way to it."""
    keys = ("dataset", "model", "seed")
    records = json.loads(path.read_text()) if path.is_file() else []
    kept = [r for r in records if any(r[key] != record[key] for key in keys)]
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps([*kept, record], indent=1) + "\n")


def table(records: list[dict]) -> str:
    """The recalls, a column for each record."""
    heads = [f"{r['dataset']} ({r['users']:,} users)" for r in records]
    lines = ["| valid R@20 | " + " | ".join(heads) + " |"]
    lines.append("|---|" + "---|" * len(heads))
    for name in records[0]["valid recall@20"]:
        cells = []
        for record in records:
            row = record["valid recall@20"].get(name)
            text = f"{row['recall']:.4f} ± {row['standard error']:.4f}" if row else ""
            cells.append(text.replace("0.", "."))
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
