"""Training runs in a folder: configuration, checkpoint and metrics side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from torch_geometric import seed_everything
from torch_geometric.data import HeteroData, InMemoryDataset

from mars_pyg.config import TrainConfig, make_config, read_config, write_config
from mars_pyg.datasets.storage import GraphDataset
from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path, load_tensors
from mars_pyg.nn import MARS, Recommender
from mars_pyg.training.evaluation import check_held_out, evaluate
from mars_pyg.training.user_items import check_digest
from mars_pyg.transforms import AddItemCooccurrence, AddItemKNN, AddTextFeatures

CONFIG, METRICS, CHECKPOINT, STARTED = (
    "config.yaml",
    "metrics.json",
    "best.ckpt",
    "last.ckpt",
)


@dataclass(frozen=True)
class Run:
    """A trained recommender, and what it was trained on and with."""

    config: TrainConfig
    data: HeteroData
    recommender: Recommender


def load_dataset(config: TrainConfig) -> InMemoryDataset:
    """Load the dataset of a configuration.

    Raises:
        DataError: If the data is not valid.
    """
    with _options_as_data():
        dataset: InMemoryDataset = config.dataset_class(**config.dataset_arguments())
    return dataset


def load_data(config: TrainConfig) -> HeteroData:
    """Load the graph of a configuration, with what its model needs of features.

    Raises:
        DataError: If the data is not valid.
    """
    dataset = load_dataset(config)
    data = dataset[0]
    if config.model_class is not MARS:
        return data
    config = config.resolve()
    if "factors" in str(config.item_graphs) and "value" not in data.node_types:
        raise DataError(
            f"the items have no factors for the graphs {config.item_graphs!r}",
            mend="name columns of the items that are factors with --factor-columns, "
            "put profiles into the folder, or choose --item-graphs structure or a "
            "--model without content",
            field="item_graphs",
        )
    wanted = config.modalities
    texts = data["item"].get("text", [])
    if (wanted is None or "text" in wanted) and any(text.strip() for text in texts):
        stored = isinstance(dataset, GraphDataset)
        cache_dir = dataset.processed_dir if stored else None
        data = AddTextFeatures(config.text_model, cache_dir)(data)
    features = [
        key
        for key in data["item"].to_dict()
        if key.startswith("x_") and (wanted is None or key.removeprefix("x_") in wanted)
    ]
    if features and "structure" in str(config.item_graphs):
        data = AddItemKNN(k=config.num_neighbors, attrs=features)(data)
    if config.cooccurrence:
        data = AddItemCooccurrence(k=config.num_neighbors)(data)
    return data


def build_recommender(config: TrainConfig, data: HeteroData) -> Recommender:
    """Make the model of a configuration, its parameters drawn from the seed.

    Raises:
        DataError: If the data lacks what the model needs.
    """
    seed_everything(config.seed)
    with _options_as_data():
        return config.model_class(data, **config.model_arguments())


def train(
    config: TrainConfig,
    run_dir: str | PathLike[str],
    *,
    resume: bool = False,
    progress: bool | Callable[[str], None] = True,
) -> dict[str, Any]:
    r"""Trains the model of a configuration, and evaluates it once.

    Writes ``config.yaml``, the resolved configuration, before and ``metrics.json``
    after the training, beside what :func:`~mars_pyg.training.fit` writes.

    Args:
        config: The configuration.
        run_dir: The run's folder.
        resume: Whether to continue the run in :obj:`run_dir`, if there is one; only
            :obj:`max_epochs` and :obj:`accelerator` may differ from its configuration.
            (default: :obj:`False`)
        progress: See :func:`~mars_pyg.training.fit`. (default: :obj:`True`)

    Returns:
        What ``metrics.json`` holds: the metrics of ``val`` and ``test``,
        ``best_epoch``, ``epochs``, ``seconds_per_epoch`` and ``peak_mib``.

    Raises:
        DataError: If the data or the configuration is wrong, or the folder holds a run
            that is not to be continued.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from mars_pyg.training.fitting import fit

    folder = Path(run_dir)
    resolved = config.resolve()
    if (folder / STARTED).exists():
        if not resume:
            raise DataError(
                "the folder already holds a run",
                mend="continue it with --resume, or choose another --run-dir",
                file=folder,
            )
        _check_same(resolved, folder)
    data = load_data(config)
    for split in ("val", "test"):
        # A training must not end in an evaluation that is not possible.
        check_held_out(data, split)
    recommender = build_recommender(config, data)
    if not (folder / STARTED).exists():
        write_config(resolved, folder / CONFIG)
    # Lightning asks for the library of an accelerator by name.
    errors = (ValueError, MisconfigurationException, ModuleNotFoundError)
    with _options_as_data(errors):
        result = fit(
            recommender,
            data,
            run_dir=folder,
            resume=resume,
            progress=progress,
            **config.training_arguments(),
        )
    # A continued run may have got other 'max_epochs', once fit() has accepted them.
    write_config(resolved, folder / CONFIG)
    metrics = {
        "val": result.val,
        "test": evaluate(
            recommender,
            data,
            "test",
            config.k,
            config.chunk_size,
            num_users=config.num_eval_users,
        ),
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "seconds_per_epoch": result.seconds_per_epoch,
        "peak_mib": round(result.peak_mib),
    }
    with atomic_path(folder / METRICS) as temporary:
        temporary.write_text(json.dumps(metrics, indent=1) + "\n")
    return metrics


def load_run(run_dir: str | PathLike[str]) -> Run:
    """Load the best recommender of a run, with its data.

    Raises:
        DataError: If the folder holds no run, or the data is no longer what the run
            was trained on.
    """
    folder = Path(run_dir)
    for name in (CONFIG, CHECKPOINT):
        if not (folder / name).is_file():
            raise DataError(
                f"the folder holds no trained run: there is no {name}",
                mend="train one with 'mars-pyg train', or give the folder of one",
                file=folder,
            )
    config = make_config(read_config(folder / CONFIG), folder / CONFIG)
    data = load_data(config)
    recommender = build_recommender(config, data)
    mend = "train anew, or bring the file back"
    checkpoint = load_tensors(folder / CHECKPOINT, mend)
    if not isinstance(checkpoint, dict) or "interactions" not in checkpoint:
        raise DataError(
            "the file is no checkpoint of a recommender",
            mend=mend,
            file=folder / CHECKPOINT,
        )
    check_digest(checkpoint["interactions"], data)
    state = {
        name.removeprefix("recommender."): value
        for name, value in checkpoint["state_dict"].items()
    }
    try:
        recommender.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(
            f"the weights do not fit the model: {error}",
            mend="bring the features and factors back as they were, or train anew",
            file=folder / CHECKPOINT,
        ) from None
    return Run(config, data, recommender.eval())


def newest_run(root: str | PathLike[str]) -> Path:
    """Find the run below a folder that was trained last.

    Raises:
        DataError: If there is none.
    """
    found = sorted(
        Path(root).glob(f"*/{CHECKPOINT}"), key=lambda path: path.stat().st_mtime
    )
    if not found:
        raise DataError(
            "there is no trained run",
            mend="train one with 'mars-pyg train', or give --run-dir",
            file=root,
        )
    return found[-1].parent


@contextmanager
def _options_as_data(
    errors: tuple[type[Exception], ...] = (ValueError,),
) -> Iterator[None]:
    """Report an option that a class refuses as a fault of the configuration."""
    try:
        yield
    except DataError:
        raise
    except errors as error:
        raise DataError(
            str(error), mend="change the option; see 'mars-pyg train --help'"
        ) from error


def _check_same(config: TrainConfig, folder: Path) -> None:
    """Refuse to continue a run with another configuration."""
    path = folder / CONFIG
    before = make_config(read_config(path), path).resolve().model_dump()
    for name, value in config.model_dump().items():
        if name not in ("max_epochs", "accelerator") and value != before[name]:
            raise DataError(
                f"the run was started with {before[name]!r}, not {value!r}",
                mend="continue it with its own configuration, or choose another "
                "--run-dir",
                file=path,
                field=name,
            )
