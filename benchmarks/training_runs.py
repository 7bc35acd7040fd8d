"""Training runs of the benchmarks: a process each, and a record that is kept.

Every run is a process of its own, whose record is added to the results as soon as it
ends: a benchmark that is interrupted goes on where it was, and several may add to the
same results.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from baselines.runs import SETTINGS, describe_baseline, train_baseline
from filelock import FileLock
from machines import describe_machine
from rankings import held_out_places

from mars_pyg.config import TrainConfig, make_config, read_config, write_config
from mars_pyg.errors import DataError
from mars_pyg.features import DEFAULT_TEXT_MODEL
from mars_pyg.files import atomic_path
from mars_pyg.option_groups import HeadOptions
from mars_pyg.runs import CHECKPOINT, CONFIG, STARTED, Run, load_run, train

#: What a record says of a training, beside the metrics.
TRAINING = ("seconds_per_epoch", "peak_mib", "epochs", "best_epoch")
QUICK = {"dataset": "synthetic", "max_epochs": 5, "batch_size": 2048}


@dataclass(frozen=True)
class Job:
    """A run to make.

    Args:
        dataset: The name of the dataset.
        model: The name of the model in the records.
        seed: The seed of the model and the training.
        keys: The keys of the configuration, and of a baseline its name,
            ``baseline``, and its ``arguments``.
        point: Those of its keys or arguments that a search chooses, by which its
            folder is named.
        validation_only: Whether the test split is left alone.
        keep_places: Whether the places of the held-out items are kept.
        training: What its folder is named by, where that is not the model.
        twins: Other names of runs that differ in the heads alone, which are fitted
            after the training: where one is there, its training is taken over, unless
            its settings turn out to be others.
    """

    dataset: str
    model: str
    seed: int
    keys: dict[str, Any]
    point: dict[str, Any] = field(default_factory=dict)
    validation_only: bool = False
    keep_places: bool = False
    training: str = ""
    twins: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str, int]:
        """What its record is found by."""
        return self.dataset, self.model, self.seed

    @property
    def folder(self) -> str:
        """The name of the run's folder."""
        return self._folder(self.training or self.model)

    @property
    def twin_folders(self) -> list[str]:
        """The folders of the runs of the same training."""
        return [self._folder(name) for name in self.twins]

    def _folder(self, name: str) -> str:
        point = "".join(f"-{key}-{value}" for key, value in self.point.items())
        return f"{self.dataset}-{name}{point}-{self.seed}"

    def all_keys(self) -> dict[str, Any]:
        """The keys with those of the point."""
        if "baseline" in self.keys:
            arguments = {**self.keys["arguments"], **self.point}
            return {**self.keys, "arguments": arguments}
        return {**self.keys, **self.point}


def add_arguments(parser: argparse.ArgumentParser, results: Path) -> None:
    """The options that all benchmarks of training runs share."""
    parser.add_argument("--root", type=Path, help="folder of the Amazon data")
    parser.add_argument(
        "--text-model",
        default=DEFAULT_TEXT_MODEL,
        help="sentence-transformers model or path of the text features; "
        "'tfidf' for scikit-learn's TF-IDF (default: %(default)s)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--output",
        type=Path,
        default=results,
        help="where the records are kept (default: %(default)s)",
    )
    parser.add_argument(
        "--runs",
        type=Path,
        help="folder that keeps the runs, and of which interrupted ones go on",
    )
    parser.add_argument(
        "--table", action="store_true", help="print the table of the records and end"
    )
    parser.add_argument(
        "--quick", action="store_true", help="small runs on synthetic data"
    )


def check_arguments(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> None:
    """Refuse what can't be run, and send quick records to a folder of their own."""
    if arguments.quick:
        if arguments.output == parser.get_default("output"):
            folder = Path(tempfile.mkdtemp())
            arguments.output = folder / arguments.output.name
    elif not arguments.table and arguments.root is None:
        parser.error("--root, the folder of the Amazon data, is needed")


def record_jobs(arguments: argparse.Namespace, jobs: Iterable[Job]) -> None:
    """Run each job, unless it has a record of the same settings."""
    for job in jobs:
        settings = describe(make(arguments, job), job)
        name = f"{job.dataset} {job.model} seed {job.seed}"
        known = {record_key(record): record for record in read_records(arguments)}
        is_kept = (
            not job.keep_places or places_file(arguments.output, *job.key).is_file()
        )
        if is_kept and job.key in known and known[job.key]["config"] == settings:
            print(f"{name}: recorded before")
            continue
        print(name, flush=True)
        make_record = run if arguments.quick else run_process
        record = make_record(arguments, job)
        for twin in job.twins:
            other = known.get((job.dataset, twin, job.seed), {})
            record = take_times(record, other)
        add_record(arguments.output, record)


def run_process(arguments: argparse.Namespace, job: Job) -> dict[str, Any]:
    """Run once in a process of its own, so that its peak memory is its own."""
    with tempfile.TemporaryDirectory() as temporary:
        task, result = Path(temporary) / "job.json", Path(temporary) / "record.json"
        paths = {
            name: str(path) if path is not None else None
            for name, path in (("root", arguments.root), ("runs", arguments.runs))
        }
        task.write_text(
            json.dumps(
                {
                    "job": asdict(job),
                    "arguments": {
                        **paths,
                        "text_model": arguments.text_model,
                        "quick": arguments.quick,
                        "output": str(arguments.output),
                    },
                }
            )
        )
        subprocess.run([sys.executable, __file__, str(task), str(result)], check=True)
        return json.loads(result.read_text())


def main() -> None:
    """One job in this process."""
    task = json.loads(Path(sys.argv[1]).read_text())
    arguments = argparse.Namespace(**task["arguments"])
    for name in ("root", "runs", "output"):
        path = getattr(arguments, name)
        setattr(arguments, name, None if path is None else Path(path))
    record = run(arguments, Job(**task["job"]))
    Path(sys.argv[2]).write_text(json.dumps(record))


def run(arguments: argparse.Namespace, job: Job) -> dict[str, Any]:
    """Train and test one model, and keep where it ranks what was held out."""
    config = make(arguments, job)
    with tempfile.TemporaryDirectory() as temporary:
        metrics, trained = train_job(arguments, job, arguments.runs or Path(temporary))
    if job.keep_places:
        places = held_out_places(trained.recommender, trained.data)
        with atomic_path(places_file(arguments.output, *job.key)) as path:
            places.to_parquet(path, compression="zstd", index=False)
    record: dict[str, Any] = {
        "dataset": job.dataset,
        "model": job.model,
        "seed": job.seed,
        "valid": metrics["val"],
    }
    if not job.validation_only:
        record["test"] = metrics["test"]
    record["config"] = describe(config, job)
    if "epochs" in metrics:
        record |= {name: metrics[name] for name in TRAINING}
        if record["seconds_per_epoch"] is None:
            # There was no epoch left to train.
            record["peak_mib"] = None
        else:
            record["seconds_per_epoch"] = round(record["seconds_per_epoch"], 3)
        # The trainer takes a GPU where there is one.
        on_gpu = config.accelerator != "cpu" and torch.cuda.is_available()
        record["machine"] = describe_machine("cuda" if on_gpu else "cpu")
    if "weights" in metrics:
        record["weights"] = {
            name: round(weight, 4) for name, weight in metrics["weights"].items()
        }
    return record


def train_job(
    arguments: argparse.Namespace, job: Job, runs: Path
) -> tuple[dict[str, Any], Run]:
    """Train and test one model, as far as its folder in ``runs`` holds no more."""
    config, keys, folder = make(arguments, job), job.all_keys(), runs / job.folder
    for twin in job.twin_folders:
        take_training(config, job, folder, runs / twin)
    if "baseline" in keys:
        return train_baseline(
            keys["baseline"],
            keys["arguments"],
            config,
            folder,
            show,
            test=not job.validation_only,
        )
    metrics = train(config, folder, resume=True, progress=show)
    return metrics, load_run(folder)


def take_training(config: TrainConfig, job: Job, folder: Path, twin: Path) -> None:
    """Start from what another run has trained, unless there is something already.

    Nothing is taken of a run that was trained with other settings.
    """
    if (folder / STARTED).exists() or not (twin / STARTED).is_file():
        return
    if training_settings(twin) != settings_of_training(all_settings(config, job)):
        show(f"{twin.name} was trained with other settings")
        return
    folder.mkdir(parents=True, exist_ok=True)
    if (twin / CONFIG).is_file():
        write_config(config.resolve(), folder / CONFIG)
    # The last file is the one by which a run is known to have been started.
    for file in (CHECKPOINT, STARTED):
        with atomic_path(folder / file) as temporary:
            shutil.copyfile(twin / file, temporary)


def training_settings(folder: Path) -> dict[str, Any]:
    """What a run was trained with, as its folder says; nothing where it does not."""
    if (folder / SETTINGS).is_file():
        return settings_of_training(json.loads((folder / SETTINGS).read_text()))
    if not (folder / CONFIG).is_file():
        return {}
    try:
        config = make_config(read_config(folder / CONFIG))
    except DataError:
        # Of another version, which had other options.
        return {}
    return settings_of_training(resolved_keys(config))


def all_settings(config: TrainConfig, job: Job) -> dict[str, Any]:
    """The resolved keys of a job, and of a baseline its arguments."""
    keys, own = resolved_keys(config), job.all_keys()
    if "baseline" in own:
        keys = describe_baseline(own["baseline"], own["arguments"], keys)
    # As they are read back.
    settings: dict[str, Any] = json.loads(json.dumps(keys))
    return settings


def resolved_keys(config: TrainConfig) -> dict[str, Any]:
    """The keys with every default, without options that are not given."""
    return config.resolve().model_dump(mode="json", exclude_none=True)


def settings_of_training(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that weights depend on: the heads come after the training.

    Where its loss knows them they do not.
    """
    left_out = {"root", "accelerator", "engine"}
    if not settings.get("heads_in_loss"):
        left_out |= HeadOptions.model_fields.keys()
    kept = {name: key for name, key in settings.items() if name not in left_out}
    return {**kept, "text_model": Path(settings["text_model"]).name}


def take_times(record: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Complete a record that has no time by that of the run that did the training."""
    names = ("seconds_per_epoch", "peak_mib", "machine")
    epochs = record.get("epochs"), other.get("epochs")
    if record.get("seconds_per_epoch") or epochs[0] != epochs[1]:
        return record
    return record | {name: other[name] for name in names if name in other}


def places_file(output: Path, dataset: str, model: str, seed: int) -> Path:
    """Where the places of the held-out items of a run are kept."""
    return output.with_suffix("") / f"{dataset}-{model}-{seed}.parquet"


def make(arguments: argparse.Namespace, job: Job) -> TrainConfig:
    """The configuration of a run."""
    keys = {"dataset": job.dataset, "seed": job.seed}
    keys["text_model"] = arguments.text_model
    if arguments.root is not None:
        keys["root"] = arguments.root
    own = job.all_keys().items()
    keys |= {name: key for name, key in own if name not in ("baseline", "arguments")}
    return make_config(keys | (QUICK if arguments.quick else {}))


def describe(config: TrainConfig, job: Job) -> dict[str, object]:
    """Everything that a result depends on: the resolved keys, but for local paths."""
    # The data's own profiles are read, so that those of the package do not matter; no
    # epoch has as many steps as would make batches grow.
    paths = {"root", "profiles"}
    left_out = paths | {"accelerator", "engine", "shipped_profiles", "max_steps"}
    keys = config.resolve().model_dump(mode="json", exclude_none=True, exclude=left_out)
    if not keys["heads"]:
        del keys["heads"]
    keys["text_model"] = Path(config.text_model).name
    own = job.all_keys()
    if "baseline" in own:
        keys = describe_baseline(own["baseline"], own["arguments"], keys)
    return keys


def read_records(source: argparse.Namespace | Path) -> list[dict[str, Any]]:
    """Read the records, none where there is no file."""
    path = source if isinstance(source, Path) else source.output
    return json.loads(path.read_text()) if path.is_file() else []


def record_key(record: dict[str, Any]) -> tuple[str, str, int]:
    """What a record is found by."""
    return record["dataset"], record["model"], record["seed"]


def add_record(path: Path, record: dict[str, Any]) -> None:
    """Add a record; one of the same dataset, model and seed gives way to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        others = [r for r in read_records(path) if record_key(r) != record_key(record)]
        with atomic_path(path) as temporary:
            text = json.dumps([*others, record], indent=1)
            temporary.write_text(text + "\n")


def show(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


if __name__ == "__main__":
    main()
