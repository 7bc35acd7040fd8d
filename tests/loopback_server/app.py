"""The server: chat completions, files and batches over HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from loopback_server.batches import Batches
from loopback_server.faults import FaultPlan
from loopback_server.rules import answer

CHARACTERS_PER_TOKEN = 4


@dataclass
class Counts:
    """What the server has done."""

    requests: int = 0
    pages: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    #: How often a value was told, by item text and factor, in answers that hold.
    told: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: The same in the order of the answers.
    log: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    input_tokens: int = 0
    output_tokens: int = 0


class LoopbackServer:
    """A server in a thread of its own; a context manager that starts and stops it.

    Args:
        latency: Seconds until an answer is there.
        faults: Which requests fail.
        modes: The response formats that it takes; it refuses others.
        refusal: The status with which it refuses them.
        key: The key that it wants, if any.
        gullible: Whether it does what product texts order.
        ignores_format: Whether it takes any response format and answers in prose.
        limit_name: The only name of the limit of tokens that it takes, if any.
        refused: A word for which it refuses a request.
        always: The status and code with which it answers everything, if any.
        retry_after: The ``retry-after`` of its errors 503, if any.
        requests_per_second: Its limit, stated in headers and kept to, if any.
        hang: Seconds of a hang.
        keep: Whether to keep requests and a log of answers.
        port: The port; a free one by default.
    """

    def __init__(
        self,
        latency: float = 0.0,
        faults: FaultPlan | None = None,
        modes: tuple[str, ...] = ("json_schema", "json_object", "text"),
        refusal: int = 400,
        key: str | None = None,
        gullible: bool = False,
        ignores_format: bool = False,
        limit_name: str | None = None,
        refused: str | None = None,
        always: tuple[int, str | None] | None = None,
        retry_after: str | None = None,
        requests_per_second: float | None = None,
        hang: float = 30.0,
        keep: bool = True,
        port: int = 0,
    ) -> None:
        self.latency, self.faults = latency, faults or FaultPlan()
        self.modes, self.refusal = modes, refusal
        self.key, self.gullible = key, gullible
        self.ignores_format, self.limit_name = ignores_format, limit_name
        self.refused, self.always, self.retry_after = refused, always, retry_after
        self.requests_per_second, self.hang = requests_per_second, hang
        self.keep, self.port = keep, port
        self.counts = Counts()
        self.batches = Batches(self)
        self._level = requests_per_second or 0.0
        self._level_time = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> LoopbackServer:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = web.AppRunner(self.application(), access_log=None)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._ready.set()
        self._loop.run_forever()
        # Tests end while requests hang; those are not waited for.
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def application(self) -> web.Application:
        application = web.Application(client_max_size=2**28)
        application.router.add_post("/v1/chat/completions", self.complete)
        application.router.add_get("/counts", self.show_counts)
        application.router.add_get("/pictures/{status}", self.show_picture)
        application.router.add_route("*", "/page/{rest:.*}", self.show_page)
        self.batches.add_routes(application)
        return application

    async def show_counts(self, request: web.Request) -> web.Response:
        """The counts that tests in other processes ask for."""
        told = [[*pair, count] for pair, count in self.counts.told.items()]
        return web.json_response(
            {
                "requests": self.counts.requests,
                "faults": dict(self.counts.faults),
                "told": told if "told" in request.query else len(told),
                "most_in_flight": self.counts.most_in_flight,
            }
        )

    async def show_page(self, request: web.Request) -> web.Response:
        """What servers of pages, or LM Studio, answer at any address."""
        self.counts.pages += 1
        if request.match_info["rest"].startswith("studio"):
            return web.json_response({"error": "Unexpected endpoint or method."})
        return web.Response(text="<html></html>", content_type="text/html")

    async def show_picture(self, request: web.Request) -> web.StreamResponse:
        """A large blue picture, a half of one for the status 206, or an error."""
        from PIL import Image

        stream = io.BytesIO()
        Image.new("RGB", (900, 300), "blue").save(stream, "PNG")
        status = int(request.match_info["status"])
        if status == 206:
            length = str(len(stream.getvalue()))
            half = web.StreamResponse(headers={"content-length": length})
            await half.prepare(request)
            await half.write(stream.getvalue()[:500])
            assert request.transport is not None
            request.transport.close()
            return half
        return web.Response(body=stream.getvalue(), status=status)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        counts = self.counts
        counts.requests += 1
        counts.in_flight += 1
        counts.most_in_flight = max(counts.most_in_flight, counts.in_flight)
        try:
            refused = self._authorise(request) or self._limit()
            if refused is not None:
                return refused
            body = await request.json()
            if self.keep:
                counts.bodies.append(body)
            return await self._answer(request, body)
        finally:
            counts.in_flight -= 1

    async def _answer(
        self, request: web.Request, body: dict[str, Any]
    ) -> web.StreamResponse:
        refused = self._check(body)
        if refused is not None:
            return refused
        fault = self.faults.draw()
        if fault is not None:
            self.counts.faults[fault] += 1
        if fault == "hang":
            await asyncio.sleep(self.hang)
            return _error(504, "the upstream server hangs")
        if fault == "rate_limit":
            return _error(429, "slow down", code="rate_limit_exceeded")
        if fault == "rate_limit_with_headers":
            return _error(
                429,
                "slow down",
                code="rate_limit_exceeded",
                headers={
                    "retry-after-ms": "10",
                    "x-ratelimit-limit-requests": "5000",
                    "x-ratelimit-remaining-requests": "4000",
                    "x-ratelimit-reset-requests": "20ms",
                },
            )
        if fault in ("error_500", "error_503"):
            wait = (
                None if self.retry_after is None else {"retry-after": self.retry_after}
            )
            return _error(int(fault[-3:]), "the server is overloaded", headers=wait)
        if self.latency or fault == "slow":
            await asyncio.sleep(self.latency + 0.2 * (fault == "slow"))
        response = self.completion(body, fault)
        if fault == "broken_body":
            return web.Response(
                body=json.dumps(response)[:-30], content_type="application/json"
            )
        if fault == "cut_connection":
            stream = web.StreamResponse(headers={"content-length": "100000"})
            await stream.prepare(request)
            await stream.write(json.dumps(response)[:40].encode())
            assert request.transport is not None
            request.transport.close()
            return stream
        return web.json_response(response, headers=self._limit_headers())

    def completion(
        self, body: dict[str, Any], fault: str | None = None
    ) -> dict[str, Any]:
        """Make the answer, whole or broken, and count it."""
        content, told = answer(body, self.gullible)
        if fault in ("outside_schema", "wrong_ids"):
            content, told = _spoil(content, told, fault)
        text = json.dumps(content)
        finish = "stop"
        if fault == "broken_json":
            text, told = "Here you are: {'items': [,]}", []
        elif fault == "truncated_json":
            text, told, finish = text[: len(text) // 2], [], "length"
        elif fault in ("empty_choices", "broken_body", "cut_connection"):
            told = []
        form = body.get("response_format", {}).get("type", "text")
        if form == "text" or self.ignores_format:
            text = f"Sure! Here is the json {{as asked}}:\n```json\n{text}\n```\n"
        self.counts.told.update(told)
        if self.keep:
            self.counts.log.extend(told)
        shown = json.dumps(body["messages"])
        usage = {
            "prompt_tokens": len(shown) // CHARACTERS_PER_TOKEN,
            "completion_tokens": len(text) // CHARACTERS_PER_TOKEN,
        }
        self.counts.input_tokens += usage["prompt_tokens"]
        self.counts.output_tokens += usage["completion_tokens"]
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": finish}]
        return {
            "id": f"chatcmpl-{self.counts.requests}",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"] + "-loopback",
            "choices": [] if fault == "empty_choices" else choices,
            "usage": usage,
        }

    def _authorise(self, request: web.Request) -> web.Response | None:
        if self.always is not None:
            return _error(self.always[0], "not today", self.always[1])
        given = request.headers.get("Authorization", "")
        if self.key is None or given == f"Bearer {self.key}":
            return None
        # As careless as some servers are: it tells the key that it was given.
        return _error(
            401, f"Incorrect API key provided: {given}", code="invalid_api_key"
        )

    def _check(self, body: dict[str, Any]) -> web.Response | None:
        if self.refused is not None and self.refused in json.dumps(body):
            return _error(400, "the request is against the rules")
        form = body.get("response_format", {}).get("type", "text")
        if form not in self.modes:
            message = f"response_format {form!r} is not supported"
            return _error(self.refusal, message)
        for name in ("max_tokens", "max_completion_tokens"):
            if name in body and self.limit_name not in (None, name):
                return _error(400, f"Unsupported parameter: '{name}'")
        if form == "json_schema":
            # Structured outputs want a closed object with every property required.
            schema = body["response_format"]["json_schema"]["schema"]
            for part in [schema, *schema.get("$defs", {}).values()]:
                if part.get("type") == "object" and (
                    part.get("additionalProperties") is not False
                    or set(part["properties"]) != set(part.get("required", ()))
                ):
                    return _error(400, "Invalid schema for response_format")
        return None

    def _limit(self) -> web.Response | None:
        rate = self.requests_per_second
        if rate is None:
            return None
        now = self._loop.time()
        if self._level_time:
            passed = now - self._level_time
            self._level = min(rate, self._level + passed * rate)
        self._level_time = now
        if self._level < 1:
            self.counts.faults["over_limit"] += 1
            headers = self._limit_headers() | {"retry-after-ms": "50"}
            return _error(429, "over the limit", headers=headers)
        self._level -= 1
        return None

    def _limit_headers(self) -> dict[str, str]:
        rate = self.requests_per_second
        if rate is None:
            return {}
        return {
            "x-ratelimit-limit-requests": str(int(rate)),
            "x-ratelimit-remaining-requests": str(int(self._level)),
            "x-ratelimit-reset-requests": f"{int(1000 * (1 - self._level / rate))}ms",
        }


def _spoil(content: Any, told: list[tuple], fault: str) -> tuple[Any, list[tuple]]:
    """Spoil the first item of an answer, and take it off what is told."""
    items = content.get("items")
    if not items:
        return content, told
    name = next(iter(items[0]["values"]))
    if fault == "wrong_ids":
        items[0]["item"] = "ffffff0"
        return content, told[len(items[0]["values"]) :]
    items[0]["values"][name] = (
        "no such value, of all that there are, in any schema, " * 2
    )
    return content, told[1:]


def _error(
    status: int,
    message: str,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> web.Response:
    return web.json_response(
        {"error": {"message": message, "type": "error", "code": code, "param": None}},
        status=status,
        headers=headers,
    )
