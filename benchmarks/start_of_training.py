"""What keeps content from swamping the ID embeddings at the start of training.

MARS projects the features of content beside the ID embeddings. Trained are the four
combinations of two choices: features as they are with a plain ``Linear``, or scaled
features and a projection that starts as the ID embedding alone; and without or with L2
regularisation of the projected rows. Reported is validation Recall@20 by epoch.

    python benchmarks/start_of_training.py --root DATA --text-model MODEL
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from torch import Tensor
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

from mars_pyg import MARS
from mars_pyg.config import make_config
from mars_pyg.features import DEFAULT_TEXT_MODEL
from mars_pyg.files import atomic_path
from mars_pyg.runs import load_data
from mars_pyg.training import fit

EPOCHS = range(10, 70, 10)


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
            setattr(model, f"x_{modality}", data["item"][f"x_{modality}"])
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
    """Train the combinations, print the table, and write the records."""
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
        default=Path(__file__).parent / "results" / "start_of_training.json",
        help="where the records are kept (default: %(default)s)",
    )
    arguments = parser.parse_args()
    keys = {"dataset": arguments.dataset, "text_model": arguments.text_model}
    if arguments.root is not None:
        keys["root"] = arguments.root
    data = load_data(make_config(keys))
    records = []
    print("projection, regularised | " + " | ".join(f"epoch {e}" for e in EPOCHS))
    for plain in (True, False):
        for regularized in (False, True):
            recall = run(data, plain, regularized, EPOCHS)
            projection = "plain Linear" if plain else "scaled, from the IDs"
            records.append(
                {
                    "dataset": arguments.dataset,
                    "projection": projection,
                    "regularized": "X and IDs" if regularized else "IDs",
                    "epochs": list(EPOCHS),
                    "valid recall@20": recall,
                }
            )
            cells = " | ".join(f"{value:.4f}" for value in recall)
            print(f"{projection}, {records[-1]['regularized']} | {cells}", flush=True)
    with atomic_path(arguments.output) as temporary:
        temporary.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
