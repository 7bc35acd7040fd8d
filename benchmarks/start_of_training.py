"""What keeps content from swamping the ID embeddings at the start of training.

MARS projects the features of content beside the ID embeddings. Trained are the four
combinations of two choices: features as they are with a plain ``Linear``, or scaled
features and a projection that starts as the ID embedding alone; and without or with L2
regularisation of the projected rows. Reported is validation Recall@20 by epoch.

    python benchmarks/start_of_training.py --root DATA --text-model MODEL
    python benchmarks/start_of_training.py --table    # what is recorded
    python benchmarks/start_of_training.py --quick    # synthetic data, a minute
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from figures import markdown
from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData
from training_runs import QUICK, check_arguments

from mars_pyg import MARS
from mars_pyg.config import make_config
from mars_pyg.features import DEFAULT_TEXT_MODEL
from mars_pyg.files import atomic_path
from mars_pyg.runs import load_data
from mars_pyg.training import fit

RESULTS = Path(__file__).parent / "results" / "start_of_training.json"
EPOCHS = range(10, 70, 10)
QUICK_EPOCHS = range(2, 6, 2)


class IDRegularizedMARS(MARS):
    """MARS that regularises the ID embeddings, and not the rows of X."""

    def _bpr_loss(self, *arguments: Tensor) -> Tensor:
        *rest, item_tables = arguments
        return super()._bpr_loss(*rest, item_tables[:1])


def run(data: HeteroData, plain: bool, regularized: bool, epochs: range) -> list[float]:
    """Train one combination; validation Recall@20 at the epochs."""
    seed_everything(0)
    model_class = MARS if regularized else IDRegularizedMARS
    model = model_class(data, semantic_weight=0.0, view_weight=0.0)
    if plain:
        for modality in model.content_modalities:
            known = model.get_buffer(f"known_{modality}")
            setattr(model, f"x_{modality}", data["item"][f"x_{modality}"][known])
        for projection in model.projections.values():
            projection.reset_parameters()
    lines: list[str] = []
    fit(
        model,
        data,
        max_epochs=epochs[-1],
        batch_size=8192,
        learning_rate=4e-3,
        validate_every=epochs[0],
        patience=len(epochs),
        progress=lines.append,
    )
    return [float(line.split()[-1]) for line in lines]


def main() -> None:
    """Train the combinations, write the records, and print the table."""
    arguments = parse_arguments()
    if not arguments.table:
        records = measure(arguments)
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(json.dumps(records, indent=1) + "\n")
    print(table(json.loads(arguments.output.read_text())))


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, help="folder of the Amazon data")
    parser.add_argument("--dataset", default="baby", help="(default: %(default)s)")
    parser.add_argument(
        "--text-model", default=DEFAULT_TEXT_MODEL, help="(default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        help="where the records are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--table", action="store_true", help="print the table of the records and end"
    )
    parser.add_argument(
        "--quick", action="store_true", help="few epochs on synthetic data"
    )
    arguments = parser.parse_args()
    check_arguments(parser, arguments)
    return arguments


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Train the combinations; a record of each."""
    keys = {"dataset": arguments.dataset, "text_model": arguments.text_model}
    keys |= QUICK if arguments.quick else {"root": arguments.root}
    epochs = QUICK_EPOCHS if arguments.quick else EPOCHS
    config = make_config(keys)
    data = load_data(config)
    records = []
    for plain in (True, False):
        for regularized in (False, True):
            record = {
                "dataset": config.dataset,
                "projection": "plain Linear" if plain else "scaled, from the IDs",
                "regularized": "X and IDs" if regularized else "IDs",
                "epochs": list(epochs),
                "valid recall@20": run(data, plain, regularized, epochs),
            }
            print(record, flush=True)
            records.append(record)
    return records


def table(records: list[dict[str, Any]]) -> str:
    """Validation Recall@20 by epoch, a row for each combination."""
    rows = []
    for record in records:
        row = {name: record[name] for name in ("dataset", "projection", "regularized")}
        recall = zip(record["epochs"], record["valid recall@20"], strict=True)
        cells = {f"epoch {k}": f"{value:.4f}".lstrip("0") for k, value in recall}
        rows.append(row | cells)
    return markdown(rows)


if __name__ == "__main__":
    main()
