from __future__ import annotations

import asyncio
import email.utils
import time

import pytest

from mars_pyg.factors import rate_limits
from mars_pyg.factors.rate_limits import (
    RateLimiter,
    backoff,
    parse_duration,
    retry_after,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("2", 2.0),
        ("0.25", 0.25),
        ("soon", None),
        ("1s later", None),
        ("", None),
        (None, None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


def test_retry_after() -> None:
    assert retry_after({"retry-after": "3"}) == 3
    assert retry_after({"retry-after-ms": "250", "retry-after": "3"}) == 0.25
    assert retry_after({"retry-after": "100000"}) == 600
    assert retry_after({"retry-after": "never"}) is None
    assert retry_after({}) is None
    date = email.utils.formatdate(time.time() + 20, usegmt=True)
    assert retry_after({"retry-after": date}) == pytest.approx(20, abs=2)


def test_a_reset_may_be_a_date() -> None:
    """It would pass for a wait of decades."""
    limiter = RateLimiter()
    limiter.update(headers(60, 0, str(time.time() + 30), "requests"))
    assert limiter.wait(1) == pytest.approx(0.5, abs=0.2)


def test_backoff_grows_and_is_random() -> None:
    for attempt, bound in [(0, 0.5), (1, 1.0), (2, 2.0), (50, 60.0)]:
        waits = [backoff(attempt, 0.5, 60.0) for _ in range(100)]
        assert bound / 2 <= min(waits) < max(waits) <= bound


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(rate_limits.time, "monotonic", lambda: now[0])
    return now


def headers(limit: int, remaining: int, reset: str, kind: str) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{kind}": str(limit),
        f"x-ratelimit-remaining-{kind}": str(remaining),
        f"x-ratelimit-reset-{kind}": reset,
    }


def test_a_limit_fills_at_the_rate_of_its_headers(clock: list[float]) -> None:
    """60 a minute, 10 of 60 left and all in 50 s: one a second."""
    limiter = RateLimiter()
    assert limiter.wait(1e9) == 0
    limiter.update(headers(60, 10, "50s", "requests"))
    for _ in range(10):
        asyncio.run(limiter.acquire(0))
    assert limiter.wait(0) == pytest.approx(1)
    clock[0] += 0.75
    assert limiter.wait(0) == pytest.approx(0.25)
    clock[0] += 1000
    assert limiter.wait(0) == 0


def test_tokens_are_waited_for(clock: list[float]) -> None:
    limiter = RateLimiter()
    limiter.update(headers(1000, 100, "9s", "tokens"))
    assert limiter.wait(100) == 0
    assert limiter.wait(300) == pytest.approx(2)
    # A request above the limit needs all of it, not more.
    assert limiter.wait(10_000) == pytest.approx(9)


def test_what_is_on_its_way_is_used_up(clock: list[float]) -> None:
    limiter = RateLimiter()
    for _ in range(5):
        asyncio.run(limiter.acquire(10))
    limiter.update(headers(10, 5, "5s", "requests"))
    assert limiter.wait(0) == pytest.approx(1)
    for _ in range(5):
        limiter.release(10)
    limiter.update(headers(10, 5, "5s", "requests"))
    assert limiter.wait(0) == 0


def test_a_full_limit_is_one_of_a_minute(clock: list[float]) -> None:
    limiter = RateLimiter()
    for _ in range(3):
        asyncio.run(limiter.acquire(0))
    limiter.update(headers(2, 2, "0s", "requests"))
    assert limiter.wait(0) == pytest.approx(60)


def test_a_pause_holds_for_all(clock: list[float]) -> None:
    limiter = RateLimiter()
    limiter.pause(3)
    limiter.pause(1)
    assert limiter.wait(0) == pytest.approx(3)


def test_a_limit_of_zero_is_none() -> None:
    limiter = RateLimiter()
    headers = {"x-ratelimit-limit-tokens": "0", "x-ratelimit-remaining-tokens": "0"}
    limiter.update(headers)
    assert limiter.wait(1000) == 0
