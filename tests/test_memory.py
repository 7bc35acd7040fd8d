"""Memory that is kept when it is freed."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from mars_pyg.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.ones(2**26)  # room for what follows, wherever small blocks come to lie
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(choice: str) -> int:
    """What four tensors of 64 MiB cost, one after the other, in a new process."""
    command = [sys.executable, "-c", SCRIPT, choice]
    return int(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again() -> None:
    # Huge pages, where the system gives them unasked, are 2 MiB each.
    assert page_faults("leave") >= 4 * 32
    assert page_faults("keep") < 32
