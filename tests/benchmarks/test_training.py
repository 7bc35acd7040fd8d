"""The benchmark of training runs, and its rivals compute the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "training.py"


def test_quick(tmp_path: Path) -> None:
    output = tmp_path / "training.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", f"--output={output}"],
        check=True,
        capture_output=True,
        text=True,
    )
    records = {record["task"]: record for record in json.loads(output.read_text())}
    assert set(records) == {
        "pyg_lightgcn",
        "lightgcn",
        "mars",
        "mars_letter",
        "mars_letter_bf16",
        "plain_ranking",
        "ranking",
    }
    assert all(record["seconds"] > 0 for record in records.values())
    ours, plain = (records[name]["recall@20"] for name in ("ranking", "plain_ranking"))
    assert abs(ours - plain) < 1e-6
    assert "of pyg_lightgcn" in done.stdout
    assert "backward" in done.stdout
