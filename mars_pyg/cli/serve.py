"""``mars-pyg serve``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mars_pyg.cli.messages import messages
from mars_pyg.errors import DataError


@messages()
def serve(
    folder: Annotated[
        Path,
        typer.Argument(help="folder that 'mars-pyg export' wrote", show_default=False),
    ],
    host: Annotated[str, typer.Option(help="address to listen at")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port; 0 for any")] = 8000,
    approximate: Annotated[
        bool,
        typer.Option("--approximate", help="search by faiss, for large catalogues"),
    ] = False,
    max_k: Annotated[
        int, typer.Option(min=1, help="items that a request may ask for")
    ] = 100,
    max_history: Annotated[
        int, typer.Option(min=1, help="items that a history may have")
    ] = 1000,
) -> None:
    """Serve recommendations of an export over HTTP.

    POST /recommend takes {"user": ...} or {"history": [...]}, with "k", "filters"
    by factor and "exclude_history"; GET /items/{id}, /health and /metrics; the
    whole is described at /docs. There is no encryption, and no password: put a
    proxy in front of what is open to others.
    """
    try:
        import uvicorn

        from mars_pyg.serving.service import Limits, create_app
    except ImportError as error:
        raise DataError(
            f"the service needs {error.name}, which is not installed",
            mend="pip install 'mars-pyg[serve]'",
        ) from None
    import torch

    from mars_pyg.serving import load

    # A request is too little work for several threads; requests run side by side.
    torch.set_num_threads(1)
    served = load(folder, approximate=approximate)
    print(
        f"{served.num_items} items, {served.num_users} users from {folder}",
        file=sys.stderr,
    )
    # Room for ids of 64 characters.
    body = Limits.max_body + 64 * max_history
    limits = Limits(max_k=max_k, max_history=max_history, max_body=body)
    app = create_app(served, limits)
    uvicorn.run(app, host=host, port=port, log_level="info")
