"""Training runs in a folder: configuration, checkpoint and metrics side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData, InMemoryDataset

from mars_pyg.config import TrainConfig, make_config, read_config, write_config
from mars_pyg.datasets import FactorDataset
from mars_pyg.datasets.storage import GraphDataset
from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path, only_writer, user_path
from mars_pyg.heads import ContentSimilarity, HeadedRecommender, ScoreOffset
from mars_pyg.heads.build import build_heads, check_heads, usable_heads
from mars_pyg.nn import MARS, LightGCN, Recommender
from mars_pyg.option_groups import HeadOptions
from mars_pyg.run_files import (
    CHECKPOINT,
    CONFIG,
    HEADS,
    METRICS,
    STARTED,
    RunFiles,
    load_heads,
    read_heads,
    write_heads,
)
from mars_pyg.training.evaluation import check_held_out, evaluate
from mars_pyg.training.head_weights import fit_head_weights
from mars_pyg.transforms import AddItemCooccurrence, AddItemKNN, AddTextFeatures


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
    similarity = ContentSimilarity.name in config.head_names
    if config.model_class is not MARS and not similarity:
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
    clusters = config.factor_source == "clusters"  # Of the features of the texts.
    is_wanted = similarity or clusters or wanted is None or "text" in wanted
    if is_wanted and any(text.strip() for text in texts):
        stored = isinstance(dataset, GraphDataset)
        cache_dir = dataset.processed_dir if stored else None
        data = AddTextFeatures(config.text_model, cache_dir)(data)
    features = [
        key
        for key in data["item"].to_dict()
        if key.startswith("x_") and (wanted is None or key.removeprefix("x_") in wanted)
    ]
    if config.model_class is not MARS:
        return data
    if features and "structure" in str(config.item_graphs):
        data = AddItemKNN(k=config.num_neighbors, attrs=features)(data)
    if config.cooccurrence:
        data = AddItemCooccurrence(k=config.num_neighbors)(data)
    return data


def build_recommender(config: TrainConfig, data: HeteroData) -> LightGCN | None:
    """Make the model of a configuration, its parameters drawn from the seed.

    Returns:
        The model without heads; :obj:`None` where the heads score alone.

    Raises:
        DataError: If the data lacks what the model needs.
    """
    if config.model_class is None:
        return None
    # The caller's generators stay as they were.
    with _options_as_data(), torch.random.fork_rng([]):
        torch.manual_seed(config.seed)
        return config.model_class(data, **config.model_arguments())


def train(
    config: TrainConfig,
    run_dir: str | PathLike[str],
    *,
    resume: bool = False,
    progress: bool | Callable[[str], None] = True,
) -> dict[str, Any]:
    r"""Trains the model of a configuration, adds its heads, and evaluates it once.

    Writes ``config.yaml``, the resolved configuration, before and ``metrics.json``
    after the training, beside what :func:`~mars_pyg.training.fit` writes, and
    ``heads.pt``, the heads with their weights.

    Args:
        config: The configuration.
        run_dir: The run's folder.
        resume: Whether to continue the run in :obj:`run_dir`, if there is one; only
            :obj:`max_epochs` and :obj:`accelerator` may differ from its configuration,
            where the data is, and the options of heads that are not made yet.
            (default: :obj:`False`)
        progress: See :func:`~mars_pyg.training.fit`. (default: :obj:`True`)

    Returns:
        What ``metrics.json`` holds: the metrics of ``val`` and ``test``; with a model
        ``best_epoch``, ``epochs``, ``seconds_per_epoch`` and ``peak_mib``; with heads
        ``weights``, those of the parts, and ``model_val``, the metrics without heads.

    Raises:
        DataError: If the data or the configuration is wrong, or the folder holds a run
            that is not to be continued, or one that is being trained.
    """
    folder = user_path(run_dir)
    with ExitStack() as stack:
        if folder.is_dir():  # Else it is made when the data is found to be right.
            stack.enter_context(only_writer(folder))
        started = _check_folder(config.resolve(), folder, resume)
        data = load_data(config)
        for split in ("val", "test"):
            # A training must not end in an evaluation that is not possible.
            check_held_out(data, split)
        with _options_as_data((MemoryError,)):
            check_heads(data, config.head_names, config.ease_solver)
        model = build_recommender(config, data)
        stack.enter_context(only_writer(folder))
        if (folder / HEADS).exists():
            # Those of other data are refused before anything is written.
            _make_heads(config, data, model, folder)
        if not started:
            write_config(config.resolve(), folder / CONFIG)
        return _train(config, data, model, folder, resume, progress)


def _check_folder(config: TrainConfig, folder: Path, resume: bool) -> bool:
    """Say whether the folder holds a run, and refuse one that does not go on."""
    started = any((folder / name).exists() for name in (STARTED, HEADS))
    if started:
        if not resume:
            raise DataError(
                "the folder already holds a run",
                mend="continue it with --resume, or choose another --run-dir",
                file=folder,
            )
        _check_same(config, folder)
    elif (folder / CONFIG).exists() and not _is_resolved(folder / CONFIG):
        raise DataError(
            "the folder holds a configuration that is of no run",
            mend="give it with --config, and another --run-dir",
            file=folder / CONFIG,
        )
    return started


def _is_resolved(path: Path) -> bool:
    """Whether a file is what a run writes that is then interrupted."""
    try:
        config = make_config(read_config(path), path)
    except DataError:
        return False
    return config.resolve().model_dump() == config.model_dump()


def _train(
    config: TrainConfig,
    data: HeteroData,
    model: LightGCN | None,
    folder: Path,
    resume: bool,
    progress: bool | Callable[[str], None],
) -> dict[str, Any]:
    """Train the model and fit the heads; see :func:`train`."""
    metrics: dict[str, Any] = {}
    if model is not None:
        if config.heads_in_loss:
            _join_heads(config, data, model, folder)
        metrics = _fit(config, data, model, folder, resume, progress)
        model.score_offset = None
    # A continued run may have got other 'max_epochs', once fit() has accepted them.
    write_config(config.resolve(), folder / CONFIG)
    recommender: Recommender | None = model
    if config.head_names:
        best_epoch = metrics.get("best_epoch", 0)
        recommender, weights = _fit_heads(config, data, model, folder, best_epoch)
        if model is not None:
            metrics["model_val"] = metrics["val"]
        metrics["val"] = _evaluate(config, data, recommender, "val")
        metrics["weights"] = weights
    assert recommender is not None
    metrics["test"] = _evaluate(config, data, recommender, "test")
    with atomic_path(folder / METRICS) as temporary:
        temporary.write_text(json.dumps(metrics, indent=1) + "\n")
    return metrics


def _fit(
    config: TrainConfig,
    data: HeteroData,
    model: Recommender,
    folder: Path,
    resume: bool,
    progress: bool | Callable[[str], None],
) -> dict[str, Any]:
    """Train the model, and say what it came to."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from mars_pyg.training.fitting import fit

    # Lightning asks for the library of an accelerator by name.
    errors = (ValueError, MisconfigurationException, ModuleNotFoundError)
    with _options_as_data(errors):
        result = fit(
            model,
            data,
            run_dir=folder,
            resume=resume,
            progress=progress,
            **config.training_arguments(),
        )
    return {
        "val": result.val,
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "seconds_per_epoch": result.seconds_per_epoch,
        "peak_mib": round(result.peak_mib),
    }


def _join_heads(
    config: TrainConfig, data: HeteroData, model: LightGCN, folder: Path
) -> None:
    """Let the loss of the model know the heads.

    Validation stays that of the model alone: with the heads it is best at the start,
    when the model says nothing, and training would stop there.
    """
    # What is near in content the model knows itself, and it takes most of the time.
    # Before heads are kept, which would make it a run that only goes on as it is.
    if set(usable_heads(data, config.head_names)) <= {ContentSimilarity.name}:
        raise DataError(
            "'heads_in_loss' needs another head than the similarity of content",
            mend="change 'heads', or leave it out",
        )
    heads = _make_heads(config, data, model, folder).head_list()
    known = [head for head in heads if not isinstance(head, ContentSimilarity)]
    fit_head_weights(HeadedRecommender(None, data, known), data)
    assert config.heads_in_loss is not None
    model.score_offset = ScoreOffset(data, known, config.heads_in_loss)


def _fit_heads(
    config: TrainConfig,
    data: HeteroData,
    model: Recommender | None,
    folder: Path,
    best_epoch: int,
) -> tuple[HeadedRecommender, dict[str, float]]:
    """Choose the weights of the heads on validation, and keep them."""
    recommender = _make_heads(config, data, model, folder)
    weights = fit_head_weights(recommender, data)
    write_heads(recommender, data, folder, best_epoch)
    return recommender, weights


def _make_heads(
    config: TrainConfig, data: HeteroData, model: Recommender | None, folder: Path
) -> HeadedRecommender:
    """Make the heads, or load those that the folder has: EASE is solved once."""
    known = (folder / HEADS).exists()
    recommender = _add_heads(config, data, model, fit=not known)
    if known:
        path = folder / HEADS
        load_heads(recommender, read_heads(path), path, data)
    else:
        write_heads(recommender, data, folder, best_epoch=None)
    return recommender


def _add_heads(
    config: TrainConfig, data: HeteroData, model: Recommender | None, fit: bool
) -> HeadedRecommender:
    with _options_as_data((ValueError, MemoryError)):
        heads = build_heads(data, **config.head_arguments(), fit=fit)
        return HeadedRecommender(model, data, heads)


def _evaluate(
    config: TrainConfig, data: HeteroData, recommender: Recommender, split: str
) -> dict[str, float]:
    return evaluate(
        recommender,
        data,
        split,
        config.k,
        config.chunk_size,
        num_users=config.num_eval_users,
    )


def load_run(run_dir: str | PathLike[str]) -> Run:
    """Load the best recommender of a run, with its heads and data.

    Raises:
        DataError: If the folder holds no run, or one that is not finished, or the data
            is no longer what the run was trained on.
    """
    files = RunFiles.read(user_path(run_dir))
    config = files.config
    root = config.dataset_arguments().get("root")
    if root is not None and not Path(root).is_dir():
        # Where there is no folder of Amazon data, it would be downloaded anew.
        raise DataError(
            f"there is no folder {root}, which the run was trained on",
            mend="bring the data back, or write here where it is now",
            file=files.folder / CONFIG,
            field="dataset" if config.dataset_class is FactorDataset else "root",
        )
    data = load_data(config)
    if config.model_class is None:
        check_heads(data, config.head_names)
    recommender: Recommender | None = build_recommender(config, data)
    if recommender is not None:
        files.load_model(recommender, data)
    if files.heads is not None:
        headed = _add_heads(config, data, recommender, fit=False)
        load_heads(headed, files.heads, files.folder / HEADS, data)
        recommender = headed
    assert recommender is not None
    return Run(config, data, recommender.eval())


def newest_run(root: str | PathLike[str]) -> Path:
    """Find the run below a folder that was trained last.

    Folders that :func:`load_run` would refuse for their files are passed over.

    Raises:
        DataError: If there is none.
    """
    found = sorted(
        (
            path
            for name in (CHECKPOINT, HEADS)
            for path in user_path(root).glob(f"*/{name}")
        ),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    problem: DataError | None = None
    for folder in dict.fromkeys(path.parent for path in found):
        try:
            RunFiles.read(folder)
        except DataError as error:
            # What is wrong with the newest one is what the user has to know.
            problem = problem or error
        else:
            return folder
    raise problem or DataError(
        "there is no trained run",
        mend="train one with 'mars-pyg train', or give --run-dir",
        file=root,
    )


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
    # Data may have moved: what is in it is known by digests.
    free = {"max_epochs", "accelerator", "dataset", "root", "profiles", "text_model"}
    if not (folder / HEADS).exists() and not before["heads_in_loss"]:
        # They come after the model, and what they cannot do is found then.
        free |= HeadOptions.model_fields.keys() - {"heads_in_loss"}
    for name, value in config.model_dump().items():
        if name not in free and value != before[name]:
            raise DataError(
                f"the run was started with {before[name]!r}, not {value!r}",
                mend="continue it with its own configuration, or choose another "
                "--run-dir",
                file=path,
                field=name,
            )
