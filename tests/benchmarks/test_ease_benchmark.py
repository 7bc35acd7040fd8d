"""The benchmark of EASE's two forms."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ease.py"


def test_quick(tmp_path: Path) -> None:
    output = tmp_path / "ease.json"
    # Quick is quick, whatever data there is.
    done = subprocess.run(
        [sys.executable, SCRIPT, "--quick", f"--output={output}", "--root=nowhere"],
        check=True,
        capture_output=True,
        text=True,
    )
    records = {record["solver"]: record for record in json.loads(output.read_text())}
    assert set(records) == {"dense", "local"}
    for record in records.values():
        assert record["peak_mib"] >= record["data_mib"] > 0
        assert record["seconds"] > 0
        assert "test" not in record
    recalls = {name: r["valid"]["recall@20"] for name, r in records.items()}
    assert recalls["local"] >= 0.7 * recalls["dense"] > 0
    assert f"{recalls['local'] / recalls['dense']:.1%}" in done.stdout
