"""Asking a language model, and not giving up too soon."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mars_pyg.factors.completion import Completion
from mars_pyg.factors.option_bounds import check_least
from mars_pyg.factors.prompts import Message
from mars_pyg.factors.rate_limits import RateLimiter, backoff, retry_after
from mars_pyg.factors.redaction import redact
from mars_pyg.tables import whole_characters

if TYPE_CHECKING:
    from openai import APIStatusError, AsyncOpenAI, OpenAIError

#: The ways to ask for json, the strictest first. A server is asked in the first that it
#: takes.
MODES = ("json_schema", "json_object", "plain")
#: Status codes by which servers refuse a parameter that they do not know.
_REFUSED = (400, 404, 405, 415, 422, 501)
#: The names under which servers take the limit of an answer's tokens.
_LIMIT_NAMES = ("max_completion_tokens", "max_tokens")
#: Time-outs in a row, with nothing else from a server, after which it may be given up.
_TIMEOUTS = 10
#: What the openai package raises at bodies that say they are json, and are not.
BROKEN_BODY = (json.JSONDecodeError, UnicodeDecodeError)


class ServiceError(OSError):
    """A server of language models that cannot be used, and why."""


class RequestRefusedError(ServiceError):
    """A request that the server takes in no form."""


class RetriesExhaustedError(ServiceError):
    """A request that failed as often as it may."""


@dataclass(frozen=True)
class ClientOptions:
    r"""How a server is asked.

    Args:
        model: The name of the model.
        base_url: The address of an OpenAI-compatible server; :obj:`None` for
            ``OPENAI_BASE_URL`` or OpenAI. (default: :obj:`None`)
        timeout: Seconds until an answer is given up. (default: :obj:`120`)
        max_retries: Times that a request is repeated after a failure.
            (default: :obj:`8`)
        backoff_base: Seconds of the first wait after a failure; doubled at each.
            (default: :obj:`0.5`)
        backoff_longest: Longest wait in seconds. (default: :obj:`60`)
        temperature: The temperature of the answers; :obj:`None` for the server's own.
            (default: :obj:`None`)
        mode: One of :obj:`"json_schema"`, :obj:`"json_object"` and :obj:`"plain"`;
            :obj:`None` to find out. (default: :obj:`None`)

    Raises:
        ValueError: If a number is too small.
    """

    model: str
    base_url: str | None = None
    timeout: float = 120.0
    max_retries: int = 8
    backoff_base: float = 0.5
    backoff_longest: float = 60.0
    temperature: float | None = None
    mode: str | None = None

    def __post_init__(self) -> None:
        check_least(
            self,
            timeout=0,
            max_retries=0,
            backoff_base=0,
            backoff_longest=0,
            temperature=0,
        )


class ChatClient:
    r"""Asks a language model over the chat completions of an OpenAI-compatible server.

    A request that meets 408, 409, 429, a server's error, a time-out or a broken
    connection is repeated, after a growing random wait or the one that the server
    names; the pace is kept to the limits in the server's headers. What the server does
    not take is found out by the first requests: it is asked for structured outputs,
    then for a json object, then for json in plain text.

    The key is read from ``OPENAI_API_KEY``, and appears in no message.

    Args:
        options: How the server is asked.
    """

    def __init__(self, options: ClientOptions) -> None:
        self.options = options
        self.limiter = RateLimiter()
        self.failures = 0
        #: Whether there has ever been a sign of such a server.
        self._is_there = False
        #: Time-outs since the server gave a sign of life, and when the first was sent.
        self._timeouts, self._silent_since = 0, 0.0
        self._modes = list(MODES) if options.mode is None else [options.mode]
        self._limit_names: list[str | None] = [*_LIMIT_NAMES, None]
        self._settled = False
        #: The forms over which the server fell at the request before.
        self._fallen: set[str] = set()
        self._probe = asyncio.Lock()
        self._openai = make_openai(options)

    @property
    def mode(self) -> str:
        """The way in which the server is asked for json."""
        return self._modes[0]

    async def close(self) -> None:
        """Close the connections."""
        await self._openai.close()

    async def complete(
        self,
        messages: Sequence[Message],
        response_format: dict[str, Any],
        tokens: float = 0.0,
        max_output_tokens: int | None = None,
    ) -> Completion:
        r"""Ask, and repeat until there is an answer.

        Args:
            messages: What is asked.
            response_format: The form of the answer, as structured outputs take it.
            tokens: Expected tokens of question and answer, for the server's limits.
                (default: :obj:`0.0`)
            max_output_tokens: Limit of the answer's tokens. (default: :obj:`None`)

        Raises:
            RequestRefusedError: If the server refuses this request in every form.
            RetriesExhaustedError: If it failed as often as it may.
            ServiceError: If no request can succeed: a wrong key, a model that is not
                there, an account without funds.
        """
        if not self._settled:
            # One request finds out what the server takes, the others wait for it.
            async with self._probe:
                if not self._settled:
                    return await self._negotiate(
                        messages, response_format, tokens, max_output_tokens
                    )
        return await self._repeat(messages, response_format, tokens, max_output_tokens)

    async def _negotiate(self, *request: Any) -> Completion:
        """Find the strictest form that the server takes."""
        modes, limits = list(self._modes), list(self._limit_names)
        first: RequestRefusedError | None = None
        fallen: set[str] = set()
        try:
            while True:
                try:
                    completion = await self._repeat(*request)
                    # It may have been overloaded; the next request will tell.
                    self._settled = fallen <= self._fallen
                    self._fallen = fallen
                    return completion
                except RequestRefusedError as error:
                    first = first or error
                    about_limit = any(name in str(error) for name in _LIMIT_NAMES)
                    if about_limit and len(self._limit_names) > 1:
                        self._limit_names.pop(0)
                    elif len(self._modes) > 1:
                        self._modes.pop(0)
                    else:
                        raise first from None
                except RetriesExhaustedError as error:
                    # Some servers fall over a form that they do not know.
                    if "status 500" not in str(error) or len(self._modes) == 1:
                        raise
                    fallen.add(self._modes.pop(0))
        finally:
            if not self._settled:
                # It need not be the form: the next request tries anew.
                self._modes, self._limit_names = modes, limits

    async def _repeat(
        self,
        messages: Sequence[Message],
        response_format: dict[str, Any],
        tokens: float,
        max_output_tokens: int | None,
    ) -> Completion:
        options, last = self.options, ""
        for attempt in range(options.max_retries + 1):
            await self.limiter.acquire(tokens)
            wait: float | None = None
            try:
                return await self._send(messages, response_format, max_output_tokens)
            except _Transient as error:
                last, wait = str(error), error.wait
            finally:
                self.limiter.release(tokens)
            self.failures += 1
            if self.mode in self._fallen and "status 500" in last:
                # At two requests in a row it is the form.
                raise RetriesExhaustedError(last)
            if wait is not None:
                # The server's own wait holds for the account, so for all requests.
                self.limiter.pause(wait)
            if attempt < options.max_retries:
                pause = backoff(attempt, options.backoff_base, options.backoff_longest)
                # A wait of zero, as gateways write it, names none.
                await asyncio.sleep(wait + pause / 10 if wait else pause)
        if not self._is_there:
            # Other requests would wait as long for what is not there.
            raise ServiceError(
                f"the server cannot be reached ({last}); see whether it runs, and "
                "whether --base-url or OPENAI_BASE_URL is its address, as most end in "
                "/v1, and run again to go on"
            )
        raise RetriesExhaustedError(
            f"no answer after {options.max_retries + 1} attempts; the last: {last}"
        )

    async def _send(
        self,
        messages: Sequence[Message],
        response_format: dict[str, Any],
        max_output_tokens: int | None,
    ) -> Completion:
        import openai

        mode = self.mode
        parameters = request_parameters(
            self.options, mode, messages, response_format, None
        )
        limit = self._limit_names[0]
        if limit is not None and max_output_tokens is not None:
            parameters[limit] = max_output_tokens
        start = time.monotonic()
        try:
            # As a body of its own it is sent as it is; typed parameters are gone
            # through one by one, which takes longer than all the rest.
            raw = await self._openai.chat.completions.with_raw_response.create(
                model=self.options.model, messages=[], extra_body=parameters
            )
        except openai.APIStatusError as error:
            self._is_there, self._timeouts = True, 0
            self.limiter.update(error.response.headers)
            raise judge(error) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            name = type(cause).__name__
            # By their names: what openai connects with differs with its version.
            if name not in ("ConnectError", "ConnectTimeout"):
                self._is_there = True
            if isinstance(error, openai.APITimeoutError):
                self._note_timeout(start)
            else:
                self._timeouts = 0
            raise _Transient(redact(f"{name}: {cause}")) from None
        self._timeouts = 0
        self.limiter.update(raw.headers)
        try:
            body = json.loads(raw.http_response.content)
        except ValueError:
            # Servers of pages answer so at any address.
            raise _Transient("the body of the answer is not json") from None
        if isinstance(body, dict) and body.get("error") and not body.get("choices"):
            # Some gateways report errors with status 200. A mere text is LM Studio's,
            # at any address that it does not have.
            self._is_there |= not isinstance(body["error"], str)
            raise _Transient(redact(str(body["error"]))[:300])
        self._is_there = True
        return Completion.read(body, mode, time.monotonic() - start)

    def _note_timeout(self, start: float) -> None:
        """Give a server up that is silent for as long as one request may take."""
        if not self._timeouts:
            self._silent_since = start
        self._timeouts += 1
        seconds = time.monotonic() - self._silent_since
        longest = self.options.timeout * (self.options.max_retries + 1)
        if self._timeouts >= _TIMEOUTS and seconds > longest:
            raise ServiceError(
                f"the server has answered nothing for {seconds:.0f} seconds, and "
                f"{self._timeouts} requests in a row have timed out; see whether it "
                "runs, ask for less at once, or allow more time (--timeout). What was "
                "answered is kept: run again to go on"
            ) from None


@contextmanager
def explained() -> Iterator[None]:
    """Raise failures of the openai package as a :class:`ServiceError`."""
    import openai

    try:
        yield
    except openai.OpenAIError as error:
        raise _explain(error) from None
    except BROKEN_BODY:
        raise ServiceError(
            "the body of the server's answer is not json; give the command again"
        ) from None


def _explain(error: OpenAIError) -> ServiceError:
    """Say what a failure of the openai package means."""
    import openai

    if isinstance(error, openai.APIStatusError):
        judged = judge(error)
        return judged if isinstance(judged, ServiceError) else ServiceError(str(judged))
    cause = error.__cause__ or error
    return ServiceError(redact(f"{error} ({type(cause).__name__}: {cause})"))


def check_answer(answer: Any) -> None:
    """Refuse what is no object of an API, such as the page of another server.

    Raises:
        ServiceError: If it has no name.
    """
    if not getattr(answer, "id", None):
        raise ServiceError(
            "the server's answer is none of an API of batches; see whether --base-url "
            "or OPENAI_BASE_URL is its address: most end in /v1"
        )


class _Transient(Exception):  # noqa: N818 (never leaves this file)
    """A failure that may pass."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def judge(error: APIStatusError) -> Exception:
    """Tell failures that may pass from those that stay."""
    status, code = error.status_code, str(getattr(error, "code", "") or "")
    message = whole_characters(redact(f"status {status}: {error.message}"))[:500]
    if code in ("insufficient_quota", "billing_hard_limit_reached"):
        return ServiceError(f"the account has no funds left ({message})")
    if status in (408, 409, 425, 429) or (status >= 500 and status != 501):
        return _Transient(message, retry_after(error.response.headers))
    if status == 401:
        return ServiceError(
            f"the server does not accept the key ({message}); set OPENAI_API_KEY"
        )
    if status == 403 and ("moderation" in message or "flagged" in message):
        # Of a gateway, about this one request.
        return RequestRefusedError(message)
    if status == 403 or code in ("model_not_found", "invalid_api_key"):
        return ServiceError(f"the server refuses all requests ({message})")
    if status == 404 and "model" in message:
        return ServiceError(f"the server has no such model ({message})")
    if status == 404:
        message += "; see whether the server's address is right: most end in /v1"
    if status in _REFUSED or status == 413:
        return RequestRefusedError(message)
    return ServiceError(message)


def request_parameters(
    options: ClientOptions,
    mode: str,
    messages: Sequence[Message],
    response_format: dict[str, Any],
    max_output_tokens: int | None,
) -> dict[str, Any]:
    """The parameters of a request, the same for a batch's."""
    parameters: dict[str, Any] = {"model": options.model, "messages": list(messages)}
    if mode == "json_schema":
        parameters["response_format"] = response_format
    elif mode == "json_object":
        parameters["response_format"] = {"type": "json_object"}
    if options.temperature is not None:
        parameters["temperature"] = options.temperature
    if max_output_tokens is not None:
        parameters[_LIMIT_NAMES[0]] = max_output_tokens
    return parameters


def make_openai(options: ClientOptions, max_retries: int = 0) -> AsyncOpenAI:
    """Make the client of the openai package; its own retries are few and short.

    Raises:
        ServiceError: If the package or the key is missing, or a proxy cannot be used.
    """
    try:
        import openai
    except ImportError as error:
        raise ServiceError(
            "the package openai is missing; install mars-pyg with the extra 'llm'"
        ) from error
    base_url = options.base_url or os.environ.get("OPENAI_BASE_URL") or None
    _check_address(base_url)
    key = os.environ.get("OPENAI_API_KEY")
    if not key and base_url is None:
        raise ServiceError(
            "there is no key; set the environment variable OPENAI_API_KEY"
        )
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        # It cannot be sent, which would pass for a server that cannot be reached.
        raise ServiceError(
            "OPENAI_API_KEY holds a space, a line break or a letter that no key has"
        )
    try:
        return openai.AsyncOpenAI(
            # Servers on one's own machine want no key, but the package wants one.
            api_key=key or "none",
            base_url=base_url,
            timeout=options.timeout,
            max_retries=max_retries,
        )
    # Of proxies, in errors of what it connects with, or for a package that this lacks.
    except Exception as error:
        raise ServiceError(
            f"no connection can be prepared ({redact(str(error))}); see the proxies "
            "of the environment, such as ALL_PROXY"
        ) from None


def _check_address(base_url: str | None) -> None:
    """Refuse an address that is none, or that holds what must be kept."""
    if base_url is None:
        return
    try:
        parts = urlsplit(base_url)
        _ = parts.port  # Raises if it is none.
    except ValueError:
        parts = urlsplit("")
    if parts.username or parts.password or parts.query:
        # Libraries log addresses as they are.
        raise ServiceError(
            "the address of the server holds a user, a password or a query; keys are "
            "read from OPENAI_API_KEY only"
        )
    is_http = parts.scheme in ("http", "https") and bool(parts.hostname)
    if not is_http or base_url.split() != [base_url]:
        raise ServiceError(
            "--base-url or OPENAI_BASE_URL is no address of a server; write it as "
            "http://localhost:8000/v1"
        )
