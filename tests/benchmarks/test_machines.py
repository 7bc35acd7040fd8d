"""Tests of how benchmarks name the machine that they ran on."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("flags", "end"),
    [("fpu avx2 avx512f", ", AVX-512"), ("fpu avx avx2", ", AVX2"), ("fpu", " cores")],
)
def test_the_processor_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, end: str
) -> None:
    import machines

    file = tmp_path / "cpuinfo"
    file.write_text(f"model name\t: A Processor: fast\nflags\t\t: {flags}\n" * 2)
    monkeypatch.setattr(machines, "INFORMATION", file)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    named = machines.describe_machine()
    assert named.startswith("A Processor: fast, 2 cores")
    assert named.endswith(end)


def test_without_information_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import machines

    monkeypatch.setattr(machines, "INFORMATION", tmp_path / "nothing")
    assert machines.describe_machine().endswith(" cores")
