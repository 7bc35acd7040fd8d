"""From a shop's csv files to recommendations with reasons, in one sitting.

The commands of ``mars-pyg`` one after the other, as one would type them: a language
model names factors and assigns them, and what it does is estimated before and reported
after; then a recommender learns from the factors and says what it goes by.

    python examples/own_catalogue/run.py

Without a language model, a server on the loopback stands in, which answers by keywords.
For a real one, give its key and name; ``OPENAI_BASE_URL`` may point to a server of your
own.

    OPENAI_API_KEY=... MARS_PYG_MODEL=gpt-4o-mini python examples/own_catalogue/run.py
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import typer.main

from mars_pyg.cli import app
from mars_pyg.cli.factors import factors_app

HERE = Path(__file__).resolve().parent


def mars_pyg(*arguments: str | Path) -> None:
    """Show a command, and run it."""
    command = [str(argument) for argument in arguments]
    print(f"\n$ mars-pyg {shlex.join(command)}", flush=True)
    status = app(command, standalone_mode=False)
    if status:
        raise SystemExit(status)


def start_stand_in(stack: ExitStack) -> None:
    """Start the server on the loopback, and point the commands to it."""
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    from loopback_server import LoopbackServer

    server = stack.enter_context(LoopbackServer(latency=0.02))
    os.environ |= {"OPENAI_BASE_URL": server.url, "MARS_PYG_MODEL": "gpt-4o-mini"}
    print(f"no language model is given; one by keywords stands in at {server.url}")


def main() -> None:
    """Run all commands."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/own_catalogue"), help="a new folder"
    )
    parser.add_argument("--max-epochs", type=int, default=60)
    parser.add_argument("--max-cost", type=float, default=1.0)
    arguments = parser.parse_args()
    shop = arguments.output
    shop.mkdir(parents=True, exist_ok=True)
    for name in ("items.csv", "interactions.csv"):
        shutil.copyfile(HERE / name, shop / name)
    items, schema = shop / "items.csv", shop / "schema.json"
    assign = [items, "--schema", schema, "--id-column", "item"]
    with ExitStack() as stack:
        if not (os.environ.get("OPENAI_API_KEY") and os.environ.get("MARS_PYG_MODEL")):
            start_stand_in(stack)
        # An interrupted or repeated run pays for nothing twice; the schema is kept
        # once it is there, so that it may be edited.
        if not schema.exists():
            domain = "household goods"
            mars_pyg("factors", "induce", items, "--schema", schema, "--domain", domain)
        mars_pyg("factors", "validate", schema)
        mars_pyg("factors", "estimate", *assign)
        mars_pyg("factors", "assign", *assign, "--max-cost", str(arguments.max_cost))
    data = ["--dataset", shop, "--timestamp-column", "time"]
    if "report" in typer.main.get_command(factors_app).commands:
        mars_pyg("factors", "report", *data)
    # A run for each schema that was tried; one that was interrupted goes on.
    digest = hashlib.sha256(schema.read_bytes()).hexdigest()[:8]
    run = shop / f"run-{digest}"
    train = [*data, "--text-model", "tfidf"]
    train += ["--text-columns", "title,description", "--run-dir", run, "--resume"]
    train += ["--max-epochs", str(arguments.max_epochs), "--embedding-dim", "32"]
    mars_pyg("train", *train)
    user = ["--run-dir", run, "--user", "u001", "--k", "5"]
    mars_pyg("recommend", *user)
    mars_pyg("recommend", *user, "--explain")
    mars_pyg("report", *user, "--out", shop / "u001.html")


if __name__ == "__main__":
    main()
