"""``mars-pyg export`` and ``mars-pyg serve``, as a user sees them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import mars_pyg
from mars_pyg.config import make_config
from mars_pyg.runs import train
from mars_pyg.serving import top_k

Run = Callable[..., tuple[int, str, str]]
KEYS = {
    "num_users": 60,
    "num_items": 40,
    "embedding_dim": 8,
    "max_epochs": 2,
    "accelerator": "cpu",
    "text_model": "tfidf",
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "trained"
    train(make_config(KEYS), folder, progress=False)
    return folder


def test_export_and_serve(run: Run, run_dir: Path) -> None:
    trained = f"--run-dir={run_dir}"
    status, out, err = run("export", trained, "--out=shop", "--k=3")
    assert status == 0
    assert "the export is in shop" in out
    assert "60/60" in err
    frame = pd.read_parquet("shop/top_k")
    assert len(frame) == 180
    user = frame["user"][0]
    items = [item.item for item in mars_pyg.load("shop").recommend(user, k=3)]
    assert items == frame["item"][:3].tolist()
    status, _, err = run("export", trained, "--out=shop", "--k=4")
    assert status == 1
    assert "another number of them" in err

    command = [sys.executable, "-m", "mars_pyg", "serve", "shop", "--port=0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            lines = []
            while not lines or "running on" not in lines[-1]:
                lines.append(server.stderr.readline())
                assert lines[-1], "".join(lines)
            assert "40 items, 60 users from shop" in "".join(lines)
            url = lines[-1].split("running on ")[1].split()[0]
            body = json.dumps({"user": user, "k": 3}).encode()
            asked = urllib.request.Request(
                f"{url}/recommend", body, {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(asked, timeout=30) as answer:
                found = json.loads(answer.read())["recommendations"]
            assert [item["item"] for item in found] == items
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)
        assert "Traceback" not in server.stderr.read()


def test_mistakes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, expected, message in (
        (["export"], 2, "--out"),
        (["export", "--out=shop", "--k=-1"], 2, "--k"),
        (["export", "--out=shop"], 1, "no trained run"),
        (["serve"], 2, "mars-pyg serve --help"),
        (["serve", "nowhere"], 1, "nowhere: the folder holds no finished export"),
        (["serve", "nowhere", "--port=99999"], 2, "--port"),
    ):
        status, _, err = run(*arguments)
        assert status == expected
        assert message in err
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    status, _, err = run("serve", "nowhere")
    assert status == 1
    assert "pip install 'mars-pyg[serve]'" in err


def test_an_export_that_is_killed_goes_on(
    run: Run, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import os, signal\n"
        "from mars_pyg.cli import main\n"
        "from mars_pyg.serving import top_k\n"
        "top_k.PART_USERS = 20\n"
        "write, written = top_k._write_part, []\n"
        "def write_and_die(path, *rest):\n"
        "    write(path, *rest)\n"
        "    written.append(path)\n"
        "    if len(written) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "top_k._write_part = write_and_die\n"
        "main()\n"
    )
    arguments = ["export", f"--run-dir={run_dir}", "--out=shop", "--k=3"]
    command = [sys.executable, "-c", script, *arguments]
    killed = subprocess.run(command, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL
    folder = tmp_path / "shop" / "top_k"
    parts = sorted(folder.glob("part-*"))
    assert len(parts) == 2
    before = [path.stat().st_mtime_ns for path in parts]
    assert len(pd.read_parquet(folder)) == 120
    monkeypatch.setattr(top_k, "PART_USERS", 20)
    assert run(*arguments)[0] == 0
    assert [path.stat().st_mtime_ns for path in parts] == before
    assert len(pd.read_parquet(folder)) == 180
    assert (folder / "_SUCCESS").exists()
