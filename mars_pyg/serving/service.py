"""An HTTP service over the folder of an export, in FastAPI."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mars_pyg.errors import DataError
from mars_pyg.recommend import Recommendation
from mars_pyg.serving.body_limit import BodyLimit
from mars_pyg.serving.request_metrics import RequestMetrics
from mars_pyg.serving.served_recommender import ItemDescription, ServedRecommender


@dataclass(frozen=True)
class Limits:
    """What a request may ask for at most; a larger one gets a status of 4xx.

    Args:
        max_k: Items that are recommended. (default: :obj:`100`)
        max_history: Items of a history. (default: :obj:`1000`)
        max_filter_values: Values of all filters. (default: :obj:`100`)
        max_body: Bytes of a request's body. (default: :obj:`65536`)
    """

    max_k: int = 100
    max_history: int = 1000
    max_filter_values: int = 100
    max_body: int = 2**16


class RecommendRequest(BaseModel):
    """The body of ``POST /recommend``: a user or a history, and what is wanted."""

    model_config = ConfigDict(extra="forbid")

    user: str | None = Field(None, description="id of a known user")
    history: list[str] | None = Field(
        None, description="ids of the items of any other user"
    )
    k: int = Field(10, ge=1, description="number of items")
    filters: dict[str, str | list[str]] = Field(
        {}, description="for factors, a value or several, of which an item has one"
    )
    exclude_history: bool = Field(
        True, description="whether items of the history are left out"
    )

    @model_validator(mode="after")
    def _check_user(self) -> Self:
        if (self.user is None) == (self.history is None):
            raise ValueError("give either 'user' or 'history'")
        return self


class RecommendResponse(BaseModel):
    """The answer to ``POST /recommend``, best first."""

    recommendations: list[Recommendation]


def create_app(served: ServedRecommender, limits: Limits | None = None) -> FastAPI:
    """Make the service, which any ASGI server can run.

    ``POST /recommend`` takes a :class:`RecommendRequest`, ``GET /items/{id}`` describes
    an item, ``GET /health`` says that the service is up, and ``GET /metrics`` counts
    and times requests for Prometheus. What is wrong with a request is in ``detail`` of
    the answer: the status is 404 for an unknown user to recommend to or item to
    describe, 413 for a body that is too large, 400 for one that cannot be read, as it
    is no UTF-8 or nested too deeply, and 422 for anything else in it, such as an
    unknown item of a history.

    Args:
        served: What :func:`mars_pyg.load` returned.
        limits: What a request may ask for. (default: :obj:`None`, those of
            :class:`Limits`)
    """
    limits = limits or Limits()
    app = FastAPI(title="mars_pyg", description="Recommendations of a trained model.")
    metrics = RequestMetrics()
    app.add_middleware(BodyLimit, max_body=limits.max_body)
    app.add_middleware(metrics.middleware)

    @app.exception_handler(RequestValidationError)
    async def refuse(request: Request, error: RequestValidationError) -> Response:
        """Say what is wrong, without what was given, which JSON may not know (NaN)."""
        detail = [
            {name: part for name, part in one.items() if name not in ("input", "ctx")}
            for one in error.errors()
        ]
        # In ASCII: the names of fields are the client's, and may be no valid text.
        body = json.dumps({"detail": detail})
        return Response(body, 422, media_type="application/json")

    @app.post("/recommend")
    def recommend(request: RecommendRequest) -> RecommendResponse:
        """Recommend items to a user, or for a history."""
        history = request.history or []
        chosen = request.filters.values()
        number = sum(1 if isinstance(x, str) else len(x) for x in chosen)
        for name, value, largest in (
            ("k", request.k, limits.max_k),
            ("the length of history", len(history), limits.max_history),
            ("the number of values in filters", number, limits.max_filter_values),
        ):
            if value > largest:
                raise HTTPException(422, f"{name} is {value}, and may be {largest}")
        try:
            found = served.recommend(
                history if request.user is None else request.user,
                request.k,
                request.filters,
                request.exclude_history,
            )
        except DataError as error:
            status = 404 if error.field == "user" else 422
            raise HTTPException(status, f"{error.problem}; {error.mend}") from None
        return RecommendResponse(recommendations=found)

    @app.get("/items/{item:path}")
    def item(item: str) -> ItemDescription:
        """Describe an item: its title and its values."""
        try:
            return served.item(item)
        except DataError as error:
            raise HTTPException(404, error.problem) from None

    @app.get("/health")
    def health() -> dict[str, Any]:
        """Say that the service is up, and how much it serves."""
        return {
            "status": "ok",
            "num_users": served.num_users,
            "num_items": served.num_items,
        }

    @app.get("/metrics")
    def show_metrics() -> Response:
        """Show the metrics in the text format of Prometheus."""
        return Response(metrics.text(), media_type=metrics.media_type)

    return app
