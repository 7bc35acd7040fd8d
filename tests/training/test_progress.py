"""What a run shows: a bar where it is seen, lines elsewhere, or nothing."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from torch_geometric.data import HeteroData

from mars_pyg.nn.recommender import Recommender
from mars_pyg.training import fit

OPTIONS: dict[str, Any] = {
    "max_epochs": 3,
    "batch_size": 64,
    "validate_every": 2,
    "k": (5,),
    "monitor": "recall@5",
    "accelerator": "cpu",
}


class Stream(io.StringIO):
    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@contextmanager
def streams(is_terminal: bool) -> Iterator[tuple[Stream, Stream]]:
    """Standard error, perhaps on a terminal, and standard output in a file."""
    # In the test, not in a fixture: pytest sets its own streams after the fixtures.
    error, output = Stream(is_terminal), Stream(False)
    with redirect_stderr(error), redirect_stdout(output):
        yield error, output


def test_bar(data: HeteroData, model: Recommender) -> None:
    with streams(True) as (error, output):
        result = fit(model, data, **OPTIONS)
    shown = error.getvalue()
    assert "Epoch 2:" in shown
    assert "train/loss=" in shown
    # The metric that chooses, of the last epoch; all four would be too long.
    score = re.findall(r"val/recall@5=([\d.]+)", shown)[-1]
    assert float(score) == pytest.approx(result.val["recall@5"], abs=1e-3)
    assert "ndcg" not in shown
    assert "v_num" not in shown
    # Validation is one step, and has no bar.
    assert "Validation" not in shown
    # What a user sends to a file is the result, not the bar.
    assert output.getvalue() == ""


def test_the_bar_changes_nothing(
    data: HeteroData, model: Recommender, tmp_path: Path
) -> None:
    start = deepcopy(model.state_dict())
    logs = []
    # Batches enough that the bar is refreshed within an epoch.
    options = {**OPTIONS, "batch_size": 4, "max_epochs": 4}
    for is_terminal in (True, False):
        model.load_state_dict(start)
        folder = tmp_path / str(is_terminal)
        with streams(is_terminal):
            fit(model, data, run_dir=folder, **options)
        logs.append((folder / "logs" / "metrics.csv").read_text())
    assert logs[0] == logs[1]


def test_no_bar_where_it_is_not_seen(data: HeteroData, model: Recommender) -> None:
    with streams(False) as (error, output):
        fit(model, data, **OPTIONS)
    form = r"epoch    {}  loss \d\.\d{{4}}  bpr .*  validation recall@5 \d\.\d{{4}}\n"
    assert re.fullmatch(form.format(2) + form.format(3), error.getvalue())
    assert output.getvalue() == ""


def test_silence(
    data: HeteroData,
    model: Recommender,
    caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:
    level = logging.getLogger("lightning.pytorch").level
    with streams(True) as (error, output), caplog.at_level(logging.INFO, "mars_pyg"):
        fit(model, data, progress=False, **OPTIONS)
    assert caplog.messages == []
    assert [str(warning.message) for warning in recwarn] == []
    assert error.getvalue() == output.getvalue() == ""
    assert logging.getLogger("lightning.pytorch").level == level
