"""Counts and times of requests, for Prometheus."""

from __future__ import annotations

import time

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RequestMetrics:
    """The metrics of one service."""

    media_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "http_requests",
            "Requests by method, path and status.",
            ["method", "path", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Time from a request to the start of its answer.",
            ["method", "path"],
            registry=self._registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
        )

    def text(self) -> bytes:
        """The metrics in the text format of Prometheus."""
        return generate_latest(self._registry)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Wrap an application, so that its requests are counted and timed."""

        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            start, started = time.perf_counter(), False

            async def observe(message: Message) -> None:
                nonlocal started
                if message["type"] == "http.response.start":
                    started = True
                    self._count(scope, message["status"], time.perf_counter() - start)
                await send(message)

            try:
                await app(scope, receive, observe)
            except Exception:
                # The server answers, out of sight of what is wrapped here.
                if not started:
                    self._count(scope, 500, time.perf_counter() - start)
                raise

        return measured

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # As the service declares them: ids and words would be labels without bound.
        route, method = scope.get("route"), scope["method"]
        path = getattr(route, "path", "other")
        if method not in (getattr(route, "methods", None) or ()):
            method = "other"
        self._requests.labels(method, path, status).inc()
        self._seconds.labels(method, path).observe(seconds)
