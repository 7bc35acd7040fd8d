"""The command line, as a user sees it: output, messages and exit status."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import mars_pyg
from mars_pyg.config import TrainConfig

Run = Callable[..., tuple[int, str, str]]

SMALL = [
    "--num-users=60",
    "--num-items=40",
    "--embedding-dim=8",
    "--batch-size=256",
    "--max-epochs=4",
    "--validate-every=2",
    "--accelerator=cpu",
]


def test_a_run_that_is_not_there_is_not_gone_on_with(run: Run, tmp_path: Path) -> None:
    status, _, err = run("train", "--run-dir=typo", "--resume", *SMALL)
    assert status == 2
    assert "there is no run to go on with in typo" in " ".join(err.split())
    status, _, err = run("train", "--resume", *SMALL)
    assert status == 2
    assert "no run to go on with in runs/synthetic-mars-0" in " ".join(err.split())
    assert not (tmp_path / "typo").exists()


def test_letters_that_a_terminal_lacks_end_no_command(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items = tmp_path / "items.csv"
    items.write_text("id,title\ni0,green tea\n", encoding="utf-8")
    with open(tmp_path / "shown", "w", encoding="latin-1") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        options = "--model=tfidf", "--output=茶_feat.npy"
        assert run("features", str(items), *options)[0] == 0
    assert "are in ?_feat.npy" in (tmp_path / "shown").read_text("latin-1")


def test_train_evaluate_recommend(run: Run, tmp_path: Path) -> None:
    status, out, err = run("train", *SMALL)
    assert status == 0
    assert "epoch    4" in err
    folder = tmp_path / "runs" / "synthetic-mars-0"
    assert str(folder.relative_to(tmp_path)) in out
    resolved = yaml.safe_load((folder / "config.yaml").read_text())
    assert resolved["num_users"] == 60
    assert resolved["fusion"] == "joint"
    metrics = json.loads((folder / "metrics.json").read_text())

    # The model that is loaded is the one that was trained.
    status, out, err = run("evaluate")
    assert status == 0
    assert "synthetic-mars-0" in err
    shown = [float(cell) for cell in out.split("\n")[1].split()[1:]]
    assert shown == pytest.approx(list(metrics["test"].values()), abs=5e-5)
    status, out, _ = run("evaluate", "--split=val", f"--run-dir={folder}")
    shown = [float(cell) for cell in out.split("\n")[1].split()[1:]]
    assert shown == pytest.approx(list(metrics["val"].values()), abs=5e-5)

    status, out, _ = run("recommend", "--user=U01", "--user=U02", "--k=3")
    assert status == 0
    assert out.count("user U0") == 2
    assert out.count("  3. I") == 2
    assert "shares" in out

    titles = [line for line in out.split("\n") if line[:4] == "  1."]
    command = ["recommend", "--user=U01", "--user=U02", "--k=3"]
    status, out, _ = run(*command, "--explain")
    assert status == 0
    assert [line for line in out.split("\n") if line[:4] == "  1."] == titles
    assert re.search(r"\n +[+-]\d+\.\d{3}  popularity: chosen by \d+ user", out)
    assert "shares" not in out
    assert "Without" not in out
    status, out, _ = run(*command, "--counterfactual")
    assert status == 0
    assert len(re.findall(r"\n     (Without|No single item)", out)) == 6

    status, out, err = run(
        "report", "--user=U01", "--user=U02", "--k=3", "--out=pages/page.html"
    )
    assert (status, out) == (0, "")
    assert "written: pages/page.html" in err
    page = (tmp_path / "pages" / "page.html").read_text(encoding="utf-8")
    assert page.count("<section") == 2
    status, _, err = run("report", "--user=nobody", "--out=other.html")
    assert status == 1
    assert "no user 'nobody'" in err
    assert not (tmp_path / "other.html").exists()


def test_a_run_without_heads_has_no_counterfactuals(run: Run, tmp_path: Path) -> None:
    assert run("train", *SMALL, "--model=bpr", "--heads=")[0] == 0
    status, _, err = run("recommend", "--user=U01", "--counterfactual")
    assert status == 2
    assert "heads" in err
    assert run("report", "--user=U01", "--out=page.html")[0] == 0


def test_config_file_and_flags(run: Run, tmp_path: Path) -> None:
    keys = {
        flag.split("=")[0][2:].replace("-", "_"): flag.split("=")[1] for flag in SMALL
    }
    keys |= {"model": "bpr", "seed": 3}
    (tmp_path / "bpr.yaml").write_text(yaml.safe_dump(keys))
    status, _, _ = run("train", "--config=bpr.yaml", "--seed=4", "--run-dir=here")
    assert status == 0
    resolved = yaml.safe_load((tmp_path / "here" / "config.yaml").read_text())
    assert resolved["model"] == "bpr"
    assert resolved["seed"] == 4
    # What was written trains again, to the same.
    status, _, _ = run("train", "--config=here/config.yaml", "--run-dir=again")
    assert status == 0
    first, second = (
        json.loads((tmp_path / name / "metrics.json").read_text())
        for name in ("here", "again")
    )
    assert first["test"] == second["test"]


def test_options_of_a_training_without_one(run: Run) -> None:
    data = ("--num-users=60", "--num-items=40", "--text-model=tfidf")
    rest = ("--model=none", "--heads=popularity", "--k=5")
    status, _, err = run("train", *data, *rest, "--max-epochs=9", "--precision=64-true")
    assert status == 0
    assert "nothing reads max_epochs, precision\n" in err
    _, _, err = run("train", "--config=runs/synthetic-none-0/config.yaml", "--seed=1")
    assert "nothing reads max_epochs" in err
    assert "nothing reads" not in run("train", *data, *rest, "--seed=2")[2]


def test_the_home_folder_in_options(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shells leave it as it is in an option."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run("train", *SMALL, "--model=bpr", "--run-dir=~/run")[0] == 0
    assert run("evaluate", "--run-dir=~/run")[0] == 0
    assert run("report", "--run-dir=~/run", "--user=U01", "--out=~/a.html")[0] == 0
    found = {path.name for path in (tmp_path / "home").iterdir()}
    assert {"run", "a.html"} <= found
    assert not (tmp_path / "~").exists()


def test_version(run: Run) -> None:
    status, out, _ = run("--version")
    assert status == 0
    assert out.strip() == f"mars-pyg {mars_pyg.__version__}"


def test_resume(run: Run) -> None:
    assert run("train", *SMALL)[0] == 0
    status, _, err = run("train", *SMALL)
    assert status == 1
    assert "--resume" in err
    status, _, err = run("train", *SMALL, "--learning-rate=1", "--resume")
    assert status == 1
    assert "field 'learning_rate': the run was started with 0.004, not 1.0" in err
    status, _, err = run("train", *SMALL, "--max-epochs=6", "--resume")
    assert status == 0
    assert "epoch    6" in err
    assert "epoch    2" not in err
    # Its own options need not be given again.
    folder = "runs/synthetic-mars-0"
    status, _, err = run("train", f"--run-dir={folder}", "--resume", "--max-epochs=8")
    assert status == 0
    assert "epoch    8" in err
    # Heads that are not made yet may be others, whatever options those of before had.
    (Path(folder) / "heads.pt").unlink()
    status, _, err = run("train", f"--run-dir={folder}", "--resume", "--heads=ease")
    assert status == 0, err
    assert "affinity" not in (Path(folder) / "config.yaml").read_text()
    # The data is no longer what it was.
    path = Path("runs/synthetic-mars-0/config.yaml")
    path.write_text(path.read_text().replace("num_users: 60", "num_users: 61"))
    status, _, err = run("evaluate")
    assert status == 1
    assert "not what the run was trained on" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["train", "--foo=1"], 2, "--foo"),
        (["train", "--fusion=sum"], 2, "'sum' is not one of"),
        (["train", "--max-epochs=many"], 2, "--max-epochs"),
        (["train", "--max-epochs=0"], 2, "max_epochs"),
        (["evaluate", "--split=val", "--mask-validation"], 2, "--split test"),
        (["evaluate", "--num-eval-users=0"], 2, "--num-eval-users"),
        (["train", "--model=lightgcn", "--fusion=mean"], 2, "no option 'fusion'"),
        (["train", "--dataset=baby", "--num-users=5"], 2, "no option 'num_users'"),
        (["train", "--config=none.yaml"], 2, "none.yaml: the file does not exist"),
        (["train", "--dataset=nowhere"], 1, "nowhere"),
        (["train", "--num-users=0"], 2, "num_users"),
        (["train", *SMALL, "--monitor=recall@7"], 2, "'monitor' must be one of"),
        (["train", *SMALL, "--precision=7"], 1, "recision"),
        (["train", *SMALL, "--accelerator=abacus"], 1, "abacus"),
        (["train", *SMALL, "--accelerator=tpu"], 1, "torch_xla"),
        (["train", *SMALL, "--seed=99999999999"], 2, "'seed'"),
        (["train", *SMALL, "--k=a"], 2, "'k'"),
        (["train", *SMALL, "--modalities=sound"], 1, "'modalities'"),
        (["train", *SMALL, "--learning-rate=1e30"], 1, "diverged"),
        (["evaluate"], 1, "no trained run"),
        (["evaluate", "--run-dir=nowhere"], 1, "nowhere: the folder holds no trained"),
        (["recommend"], 2, "--user"),
        (["recommend", "--user=a", "--k=0"], 2, "--k"),
        (["report", "--user=a"], 2, "--out"),
        (["report", "--out=a.html"], 2, "--user"),
        (["report", "--user=a", "--out=a.html"], 1, "no trained run"),
        (["sing"], 2, "sing"),
    ],
)
def test_mistakes(run: Run, arguments: list[str], status: int, message: str) -> None:
    found, _, err = run(*arguments)
    assert found == status
    assert message in err


def test_own_catalogue(run: Run, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    shop.mkdir()
    items = [f"i{number:02}" for number in range(12)]
    rows = [
        f"{item},Thing {item},{'red' if i % 2 else 'blue'}"
        for i, item in enumerate(items)
    ]
    (shop / "items.csv").write_text("\n".join(["item,title,color", *rows]))
    pairs = [(u, items[(u * 5 + 2 * i) % 12], i) for u in range(20) for i in range(5)]
    lines = [f"u{user},{item},{time}" for user, item, time in pairs]
    (shop / "interactions.csv").write_text("\n".join(["user,item,time", *lines]))
    flags = ["--timestamp-column=time", "--split=time", "--factor-columns=color"]
    flags += ["--text-model=tfidf", *SMALL[2:]]
    status, out, err = run("train", "--dataset=shop", *flags)
    assert status == 0
    assert all(line.startswith("epoch") for line in err.strip().split("\n"))
    assert "runs/shop-mars-0" in out
    status, out, _ = run("recommend", "--user=u3", "--k=12")
    seen = {item for user, item, _ in pairs if user == 3}
    assert status == 0
    assert {item for item in items if f" {item}  Thing" in out} == set(items) - seen
    assert "color: " in out


def test_unknown_user(run: Run) -> None:
    assert run("train", *SMALL)[0] == 0
    status, _, err = run("recommend", "--user=nobody")
    assert status == 1
    assert "no user 'nobody'" in err


def test_help_has_every_option(run: Run) -> None:
    status, out, _ = run("train", "--help")
    assert status == 0
    for name, field in TrainConfig.model_fields.items():
        assert f"--{name.replace('_', '-')}" in out
        assert field.description
    assert "demo" in run("--help")[1]


def test_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import mars_pyg.runs

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mars_pyg.runs, "train", interrupted)
    status, _, err = run("train")
    assert status == 130
    assert "interrupted" in err


def test_demo(run: Run) -> None:
    status, out, _ = run("demo")
    assert status == 0
    table = out[out.index("Test, all items") :].split("\n")[2:4]
    lightgcn, mars = (dict(enumerate(line.split())) for line in table)
    assert (lightgcn[0], mars[0]) == ("LightGCN", "MARS")
    assert float(mars[3]) > float(lightgcn[3])
    assert "shares" in out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_terminated_training_is_no_success(tmp_path: Path) -> None:
    """As a scheduler ends it; a script behind it must not go on."""
    command = [sys.executable, "-m", "mars_pyg", "train", "--run-dir=run", *SMALL]
    command += ["--max-epochs=100000", "--patience=100000", "--heads="]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as training:
        assert training.stderr is not None
        lines = []
        while not (tmp_path / "run" / "last.ckpt").exists():
            lines.append(training.stderr.readline())
            assert lines[-1], "".join(lines)
        training.terminate()
        rest = training.stderr.read()
        assert training.wait(timeout=60) == 143
    assert "go on with: mars-pyg train --run-dir run --resume" in rest


def test_import_is_light() -> None:
    heavy = (
        "lightning",
        "sklearn",
        "sentence_transformers",
        "matplotlib",
        "openai",
        "typer",
    )
    code = f"import sys, mars_pyg; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
