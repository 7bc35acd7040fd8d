"""What a training that goes on must have in common with its checkpoint."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.parameter import is_lazy
from torch_geometric.data import HeteroData

from mars_pyg.content_digest import check_content, content_digests
from mars_pyg.errors import DataError
from mars_pyg.files import load_tensors
from mars_pyg.nn.recommender import Recommender
from mars_pyg.training.callbacks import RunSettings
from mars_pyg.user_items import check_digest


def model_arguments(recommender: Recommender) -> dict[str, Any]:
    """The plain arguments that a recommender was made with, if it keeps them."""
    found: dict[str, Any] = {}
    for module in recommender.modules():
        kinds = type(module).__mro__ if isinstance(module, Recommender) else ()
        for kind in kinds:
            names = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
            for name in names:
                value = getattr(module, name, ())
                if value is None or isinstance(value, bool | int | float | str):
                    found.setdefault(name, value)
        if hasattr(module, "score_offset"):
            # It is given after the model is made, and as easily forgotten.
            offset = module.score_offset
            known = None if offset is None else type(offset).__name__
            found["score_offset"] = getattr(offset, "scale", known)
    return found


def check_resumed(
    path: Path, recommender: Recommender, data: HeteroData, settings: dict[str, Any]
) -> int:
    """Refuse other data, another model or other options than a checkpoint's.

    Options are unknown of a checkpoint that was written before they were noted.

    Args:
        path: The checkpoint.
        recommender: The model that is to go on.
        data: The graph that it is to train on.
        settings: The options of :func:`~mars_pyg.training.fit`, the name of the model
            and its :func:`model_arguments`.

    Returns:
        The number of its epochs.

    Raises:
        DataError: If something is not as it was.
    """
    checkpoint = load_tensors(path, "delete the run's folder and train anew")
    # A model of other data has other shapes, and it is not the model that is wrong.
    check_digest(checkpoint["interactions"], data)
    known = checkpoint.get(RunSettings.KEY, {})
    options = {
        name: value
        for name, value in settings.items()
        if name not in ("model", "arguments")
    }
    _check_same(options, known, path.parent)
    prefix = "recommender."
    found = {
        name.removeprefix(prefix): list(tensor.shape)
        for name, tensor in checkpoint["state_dict"].items()
        if name.startswith(prefix) and isinstance(tensor, Tensor)
    }
    # A lazy layer takes the shape that it had.
    wanted = {
        name: found.get(name) if is_lazy(x) else list(x.shape)
        for name, x in recommender.state_dict().items()
        if isinstance(x, Tensor)
    }
    names = sorted(
        name for name in {*found, *wanted} if found.get(name) != wanted.get(name)
    )
    kind = type(recommender).__name__
    content = checkpoint.get("content", {})
    if names and content.keys() == content_digests(data, [recommender]).keys():
        check_content(content, data, [recommender])
    if names or known.get("model", kind) != kind:
        what = f"its {names[0]!r} is another" if names else f"it is no {kind}"
        raise DataError(
            f"the run is not of this model: {what}",
            mend="make the model with the arguments that it had, or choose another "
            "folder",
            file=path.parent,
        )
    _check_same(settings["arguments"], known.get("arguments", {}), path.parent)
    epoch: int = checkpoint["epoch"]
    return epoch + 1


def _check_same(options: dict[str, Any], known: dict[str, Any], folder: Path) -> None:
    """Refuse options that are not those of a run, as far as these are known."""
    for name, value in options.items():
        if known.get(name, value) != value:
            raise DataError(
                f"the run was trained with '{name}' of {known[name]!r}, not {value!r}",
                mend="give the options that it had, or choose another folder",
                file=folder,
                field=name,
            )
