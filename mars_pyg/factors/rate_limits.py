"""Keeping to a server's limits, as its headers state them."""

from __future__ import annotations

import asyncio
import email.utils
import random
import re
import time
from collections.abc import Mapping

#: What the headers of OpenAI and of compatible servers count.
KINDS = ("requests", "tokens")
_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_WAIT = 600.0
#: Seconds from which on a time is a date, counted from 1970, as some servers give it.
_DATE = 1e9


class _Bucket:
    """What is left of one limit; it fills again at a constant rate."""

    def __init__(self) -> None:
        self.level = float("inf")
        self.limit = float("inf")
        self.rate = 0.0
        self.time = time.monotonic()

    def update(self, level: float, limit: float, reset: float) -> None:
        self.level, self.limit, self.time = level, limit, time.monotonic()
        # A full bucket does not tell its rate; most limits are of a minute.
        used, seconds = (limit - level, reset) if level < limit else (limit, 60.0)
        self.rate = used / seconds if seconds > 0 else float("inf")

    def wait(self, amount: float) -> float:
        """Seconds until ``amount`` is there; more than the limit needs all of it."""
        amount = min(amount, self.limit)
        level = self._now()
        if level >= amount:
            return 0.0
        return (amount - level) / self.rate

    def take(self, amount: float) -> None:
        self.level, self.time = self._now() - amount, time.monotonic()

    def _now(self) -> float:
        passed = time.monotonic() - self.time
        return (
            min(self.limit, self.level + passed * self.rate) if passed else self.level
        )


class RateLimiter:
    r"""Lets requests through at the pace that the server's headers allow.

    Servers say in ``x-ratelimit-limit-*``, ``-remaining-*`` and ``-reset-*`` how many
    requests and tokens they take, how many are left, and when all are there again.
    From these follows the rate at which a limit fills, :math:`(limit - remaining) /
    reset`, and a request waits until its share is there. What is in flight counts as
    used up, since the server may not have seen it yet. A ``retry-after`` stops all
    requests, as limits are those of the account.
    """

    def __init__(self) -> None:
        self._buckets = {kind: _Bucket() for kind in KINDS}
        self._in_flight = dict.fromkeys(KINDS, 0.0)
        self._open_at = 0.0

    async def acquire(self, tokens: float) -> None:
        """Wait until a request of so many tokens may go; :meth:`release` it after."""
        # Headers of other answers may shorten or lengthen the wait meanwhile.
        while (wait := self.wait(tokens)) > 0:
            await asyncio.sleep(min(wait, 5.0))
        for kind, amount in _amounts(tokens):
            self._buckets[kind].take(amount)
            self._in_flight[kind] += amount

    def wait(self, tokens: float) -> float:
        """Seconds that a request of so many tokens has to wait now."""
        waits = [self._open_at - time.monotonic()]
        for kind, amount in _amounts(tokens):
            waits.append(self._buckets[kind].wait(amount))
        return max(0.0, *waits)

    def release(self, tokens: float) -> None:
        """Say that a request is answered or has failed."""
        for kind, amount in _amounts(tokens):
            self._in_flight[kind] = max(0.0, self._in_flight[kind] - amount)

    def update(self, headers: Mapping[str, str]) -> None:
        """Read the headers of an answer."""
        for kind, bucket in self._buckets.items():
            remaining = _number(headers.get(f"x-ratelimit-remaining-{kind}"))
            if remaining is None:
                continue
            limit = _number(headers.get(f"x-ratelimit-limit-{kind}"))
            limit = max(remaining, 1.0 if limit is None else limit)
            if limit <= 0:  # Gateways say so of what they do not count.
                continue
            reset = parse_duration(headers.get(f"x-ratelimit-reset-{kind}"))
            if reset is not None and reset > _DATE:
                reset = max(reset - time.time(), 0.0)
            # A limit that is touched and names no time is taken for one a minute.
            bucket.update(remaining, limit, 60.0 if reset is None else reset)
            bucket.level -= self._in_flight[kind]

    def pause(self, seconds: float) -> None:
        """Let nothing through for some time."""
        self._open_at = max(self._open_at, time.monotonic() + seconds)


def parse_duration(text: str | None) -> float | None:
    """Read ``1s``, ``6m0s``, ``20ms`` or a number of seconds."""
    if text is None:
        return None
    seconds = _number(text)
    if seconds is not None:
        return seconds
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhd])", text)
    if not parts or "".join(map("".join, parts)) != text.strip():
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how long the server wants to be left alone: seconds, or a date."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000, _LONGEST_WAIT)
    text = headers.get("retry-after")
    seconds = parse_duration(text)
    if seconds is None and text is not None:
        try:
            date = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = date.timestamp() - time.time()
    return None if seconds is None else min(max(seconds, 0.0), _LONGEST_WAIT)


def backoff(attempt: int, base: float, longest: float) -> float:
    r"""Draw a wait before attempt ``attempt + 1``.

    :math:`u \min(base \cdot 2^{attempt}, longest)` with :math:`u` uniform in
    :math:`[0.5, 1]`, so that requests that failed together do not come back together.
    """
    return min(base * 2.0 ** min(attempt, 30), longest) * random.uniform(0.5, 1.0)


def _amounts(tokens: float) -> tuple[tuple[str, float], ...]:
    return (("requests", 1.0), ("tokens", tokens))


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
