from __future__ import annotations

import asyncio
import logging
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from loopback_runs import (
    assign,
    client_options,
    expected_values,
    make_catalogue,
    stored_values,
)
from loopback_server import FAULTS, FaultPlan, LoopbackServer

from mars_pyg.factors.client import (
    ChatClient,
    ClientOptions,
    RequestRefusedError,
    ServiceError,
    judge,
)
from mars_pyg.factors.completion import Completion, Usage

KEY = "sk-loopback-0123456789abcdef"


@pytest.mark.parametrize(
    ("modes", "mode"),
    [
        (("json_schema", "json_object", "text"), "json_schema"),
        (("json_object", "text"), "json_object"),
        (("text",), "plain"),
    ],
)
@pytest.mark.parametrize("limit_name", [None, "max_tokens"])
def test_what_the_server_takes_is_found_out(
    tmp_path: Path, modes: tuple[str, ...], mode: str, limit_name: str | None
) -> None:
    """By the first request alone; the others go as they should."""
    catalogue = make_catalogue(30)
    with LoopbackServer(modes=modes, limit_name=limit_name, latency=0.01) as server:
        summary = assign(tmp_path / "s", catalogue, client_options(server.url))
        bodies = server.counts.bodies
    assert stored_values(tmp_path / "s", catalogue) == expected_values(30)
    assert summary.requests == 30
    assert len(bodies) <= 30 + 3
    form = {"plain": None}.get(mode, {"type": mode})
    last = bodies[-1].get("response_format")
    assert (last and {"type": last["type"]}) == form
    assert (limit_name or "max_completion_tokens") in bodies[-1]


def test_a_server_that_ignores_the_format(tmp_path: Path) -> None:
    with LoopbackServer(ignores_format=True) as server:
        assign(tmp_path / "s", make_catalogue(10), client_options(server.url))
    assert stored_values(tmp_path / "s", make_catalogue(10)) == expected_values(10)


def test_an_answer_in_parts() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "{so"}]}
    texts = [{"type": "text", "text": text} for text in ('{"a":', "1}")]
    content = [thought, *texts]
    body = {"choices": [{"message": {"content": content}}]}
    assert Completion.read(body, "plain").text == '{"a":1}'


@pytest.mark.parametrize(
    "body",
    [
        {"choices": {"message": {"content": "{}"}}},
        {"choices": [{"message": "{}"}]},
        {"usage": {"prompt_tokens": "many", "prompt_tokens_details": [1]}},
        {"usage": {"prompt_tokens": 10**30, "completion_tokens": -1}},
        {"usage": {"prompt_tokens": float("nan")}},
    ],
)
def test_answers_of_another_form_are_empty(body: Any) -> None:
    completion = Completion.read(body, "plain")
    assert (completion.text, completion.usage) == ("", Usage())


def test_halves_of_characters_can_be_stored() -> None:
    body = {"model": "m\ud83d", "choices": [{"message": {"content": "a\ud83d"}}]}
    completion = Completion.read(body, "plain")
    assert (completion.model, completion.text) == ("m\ufffd", "a\ufffd")


def test_a_server_that_is_not_there_is_tried_by_one_request(tmp_path: Path) -> None:
    with LoopbackServer() as server:
        url = server.url
    options = client_options(url, max_retries=3, backoff_longest=0.02)
    chats: list[ChatClient] = []

    async def ask() -> None:
        chats.append(ChatClient(options))
        await chats[0].complete([{"role": "user", "content": "?"}], {})

    with pytest.raises(ServiceError, match=r"cannot be reached.*--base-url"):
        asyncio.run(ask())
    assert chats[0].failures == 4
    with pytest.raises(ServiceError, match="cannot be reached"):
        assign(tmp_path / "s", make_catalogue(40), options, concurrency=1)


@pytest.mark.parametrize("address", ["/page", "/page/studio"])
def test_an_address_without_an_api_is_tried_by_one_request(
    tmp_path: Path, address: str
) -> None:
    with LoopbackServer() as server:
        pages = server.url.replace("/v1", address)
        options = client_options(pages, max_retries=2)
        with pytest.raises(ServiceError, match=r"cannot be reached.*end in /v1"):
            assign(tmp_path / "s", make_catalogue(40), options, concurrency=1)
        assert server.counts.pages == 3


def forms_asked(server: LoopbackServer) -> list[str]:
    forms = [body.get("response_format", {}) for body in server.counts.bodies]
    return [form.get("type", "plain") for form in forms]


def test_a_server_that_falls_over_the_format(tmp_path: Path) -> None:
    """Once as often as it may, and once more to be sure."""
    with LoopbackServer(modes=("json_object",), refusal=500) as server:
        options = client_options(server.url, max_retries=2)
        assign(tmp_path / "s", make_catalogue(4), options)
        forms = forms_asked(server)
    assert forms[:4] == ["json_schema"] * 3 + ["json_object"]
    assert forms[4:] == ["json_schema"] + ["json_object"] * 3


@pytest.mark.parametrize("falls", [2, 6])
def test_an_overload_at_the_first_request_is_not_the_format(
    tmp_path: Path, falls: int
) -> None:
    """Whether it ends before a weaker form is asked for, or later."""
    faults = FaultPlan(script=["error_500"] * falls)
    with LoopbackServer(faults=faults) as server:
        options = client_options(server.url, max_retries=1)
        assert assign(tmp_path / "s", make_catalogue(3), options).complete
        forms = forms_asked(server)
    weaker = [["json_object"], ["json_object"] * 2 + ["plain"] * 2][falls > 2]
    assert forms[: 2 + len(weaker)] == ["json_schema"] * 2 + weaker
    assert set(forms[2 + len(weaker) :]) == {"json_schema"}


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "outside_schema"])
def test_every_fault_is_got_over(tmp_path: Path, fault: str) -> None:
    with LoopbackServer(faults=FaultPlan(script=[None, fault]), hang=2) as server:
        options = client_options(server.url, timeout=1)
        summary = assign(tmp_path / "s", make_catalogue(5), options)
        assert server.counts.faults == {fault: 1}
        assert set(server.counts.told.values()) == {1}
    assert summary.complete
    assert stored_values(tmp_path / "s", make_catalogue(5)) == expected_values(5)


@pytest.mark.parametrize("answered", [0, 3])
def test_a_server_that_is_silent_ends_the_run(tmp_path: Path, answered: int) -> None:
    """One request that always times out does not."""
    faults = FaultPlan(script=[None] * answered + ["hang"] * 100)
    with LoopbackServer(faults=faults, hang=5) as server:
        options = client_options(server.url, timeout=0.05, max_retries=3)
        with pytest.raises(ServiceError, match=r"answered nothing.*run again"):
            assign(tmp_path / "s", make_catalogue(40), options, concurrency=2)
        assert server.counts.requests < answered + 20
        faults.script = ["hang"] * 4
        options = client_options(server.url, timeout=0.5, max_retries=3)
        assert assign(tmp_path / "s", make_catalogue(40), options).complete


def test_the_limits_of_the_headers_are_kept(tmp_path: Path) -> None:
    """Without them, 64 requests at once would run far over the limit."""
    catalogue = make_catalogue(120)
    with LoopbackServer(requests_per_second=60) as server:
        start = time.monotonic()
        assign(tmp_path / "s", catalogue, client_options(server.url), concurrency=64)
        seconds = time.monotonic() - start
        over = server.counts.faults["over_limit"]
    # 60 at once, and then 60 in a second.
    assert seconds > 0.7
    assert over <= 15
    assert stored_values(tmp_path / "s", catalogue) == expected_values(120)


def test_a_wait_that_the_server_names_is_kept(tmp_path: Path) -> None:
    with LoopbackServer(retry_after="1") as server:
        server.faults.script = [None, "error_503"]
        start = time.monotonic()
        assign(tmp_path / "s", make_catalogue(3), client_options(server.url))
        assert time.monotonic() - start > 1


def test_a_wait_of_zero_is_none(tmp_path: Path) -> None:
    """Or all attempts would be over at once."""
    with LoopbackServer(retry_after="0") as server:
        server.faults.script = [None, *["error_503"] * 3]
        options = client_options(server.url, backoff_base=0.4, backoff_longest=1)
        start = time.monotonic()
        assign(tmp_path / "s", make_catalogue(2), options, concurrency=1)
        assert time.monotonic() - start > 1


def test_concurrency_is_bounded(tmp_path: Path) -> None:
    with LoopbackServer(latency=0.2) as server:
        options = client_options(server.url)
        assign(tmp_path / "s", make_catalogue(20), options, concurrency=5)
        assert server.counts.most_in_flight == 5


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (429, "insufficient_quota", "no funds"),
        (403, None, "refuses all requests"),
        (404, "model_not_found", "refuses all requests"),
    ],
)
def test_what_cannot_pass_ends_the_run_at_once(
    tmp_path: Path, status: int, code: str | None, message: str
) -> None:
    with LoopbackServer(always=(status, code)) as server:
        with pytest.raises(ServiceError, match=message):
            assign(tmp_path / "s", make_catalogue(50), client_options(server.url))
        assert server.counts.requests <= 16


def test_what_a_gateway_flags_is_one_request() -> None:
    """In the words of OpenRouter; it would end every run at the same item."""
    message = 'openai/gpt-4o requires moderation. Your input was flagged for "x".'
    for status, kind in ((403, RequestRefusedError), (401, ServiceError)):
        error: Any = SimpleNamespace(status_code=status, code=403, message=message)
        assert type(judge(error)) is kind


def test_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ServiceError, match="OPENAI_API_KEY"):
        asyncio.run(_make(ClientOptions("m")))


async def _make(options: ClientOptions) -> ChatClient:
    return ChatClient(options)


@pytest.mark.parametrize("good", [True, False])
def test_the_key_appears_nowhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    good: bool,
) -> None:
    """Not in files, messages or the most talkative logs, good or wrong."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    catalogue = make_catalogue(6)
    catalogue.fields["title"][0] += f" answer {KEY}"
    server = LoopbackServer(
        key=KEY if good else "another",
        gullible=True,
        faults=FaultPlan(rate=0.3, seed=1),
        hang=0.1,
    )
    with server:
        options = client_options(server.url, mode="json_object")
        if good:
            assign(tmp_path / "s", catalogue, options)
            with server_key_in_errors(server), pytest.raises(ServiceError) as caught:
                assign(tmp_path / "t", catalogue, options)
        else:
            with pytest.raises(ServiceError, match="does not accept") as caught:
                assign(tmp_path / "s", catalogue, options)
    shown = "".join(capfd.readouterr()) + caplog.text + str(caught.value)
    assert KEY not in shown
    assert "0123456789" not in shown.replace(server.url, "")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    for file in files:
        assert KEY.encode() not in file.read_bytes()


class server_key_in_errors:  # noqa: N801 (reads as a block)
    """The server tells the key that it was given in every error."""

    def __init__(self, server: LoopbackServer) -> None:
        self.server = server

    def __enter__(self) -> None:
        self.server.key = "another"

    def __exit__(self, *exception: Any) -> None:
        self.server.key = KEY


@pytest.mark.parametrize("url", ["http://user:word@host/v1", "http://host/v1?key=a"])
def test_an_address_with_a_key_is_refused(url: str) -> None:
    with pytest.raises(ServiceError, match="OPENAI_API_KEY only"):
        asyncio.run(_make(ClientOptions("m", url)))


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "htp://host/v1",
        "http:///v1",
        "http://host:99999",
        "http://[::1",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ServiceError, match="write it as http://"):
        asyncio.run(_make(ClientOptions("m", url)))


@pytest.mark.parametrize("proxy", ["socks://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_told(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of no known kind, or for a package that is not there."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ServiceError, match="ALL_PROXY"):
        asyncio.run(_make(ClientOptions("m", "http://127.0.0.1:9/v1")))


@pytest.mark.parametrize("key", [f"{KEY}\r", f"{KEY}\n", f" {KEY}", "schlüssel"])
def test_a_key_that_cannot_be_sent_is_refused(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ServiceError, match="OPENAI_API_KEY holds") as caught:
        asyncio.run(_make(ClientOptions("m", "http://127.0.0.1:9/v1")))
    assert key.strip() not in str(caught.value)
