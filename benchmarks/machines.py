"""The machine that a benchmark ran on, in words."""

from __future__ import annotations

import os
import platform
from pathlib import Path

INFORMATION = Path("/proc/cpuinfo")
#: Those of the vectors that a processor may have, the widest first.
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2"}


def describe_machine(device: str = "cpu") -> str:
    """The name of the GPU, or of the processor, with its cores and widest vectors.

    Args:
        device: ``"cpu"`` or ``"cuda"``. (default: ``"cpu"``)
    """
    if device == "cuda":
        # Not all that ask for the processor have loaded torch.
        import torch

        return torch.cuda.get_device_name()
    name, flags = platform.processor() or platform.machine(), set[str]()
    if INFORMATION.is_file():
        lines = (line.partition(":") for line in INFORMATION.read_text().splitlines())
        facts = {key.strip(): value.strip() for key, _, value in lines}
        name = facts.get("model name", name)
        flags = set(facts.get("flags", "").split())
    vectors = [word for flag, word in VECTORS.items() if flag in flags][:1]
    return ", ".join([name, f"{os.cpu_count()} cores", *vectors])
