"""One process of the scaling benchmark: one method, on one problem."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from scaling_methods import METHODS, Method
from scaling_problems import Problem, dense_result, make_problem, sparse_result
from torch import Tensor

from mars_pyg.memory import keep_freed_memory

PASSES = ("forward", "forward+backward")
#: The items of the small problem, which is checked in float64.
SMALL = 200
#: The rows of a problem that are checked.
CHECKED_ROWS = 10_000
#: What is allowed between results, of the largest entry.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 3e-2}
#: Bytes that are copied, many times what a last-level cache holds.
COPIED = 2**28
MIB = 2**20


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Check a method, and measure the time and the memory of its passes.

    Args:
        task: ``method``, ``scenario``, ``items``, ``channels``, ``factors``,
            ``values``, ``dtype``, ``device``, ``threads``, ``seconds`` of runs for a
            pass, ``memory_cap`` in GiB.

    Returns:
        ``status``, and where that is ``"ok"`` the ``edges``, the ``runs`` in ms and
        ``peak_mib`` of each pass, ``copy_gb_s``, and ``other_load``, the share of the
        processors that other processes took during the runs.
    """
    warnings.simplefilter("ignore")
    keep_freed_memory()
    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    if task["device"] == "cpu":
        limit_memory(task["memory_cap"])
    try:
        return measure(task)
    except (MemoryError, torch.OutOfMemoryError):
        return {"status": "out of memory"}
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        return {"status": "out of memory"}


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """See :func:`run`, which says what becomes of an error."""
    method, device, dtype = METHODS[task["method"]], task["device"], task["dtype"]
    sizes = task["channels"], task["factors"], task["values"]
    with torch.device(device):
        small = make_problem(
            task["scenario"], SMALL, *sizes, torch.float64, device=device
        )
        check(method, method(small), small, dense_result(small), torch.arange(SMALL))
        # The same in the dtype that is timed: now everything is compiled.
        small = make_problem(
            task["scenario"], SMALL, *sizes, getattr(torch, dtype), device=device
        )
        propagate(method(small), small)
        del small
        bandwidth = copy_bandwidth(device)
        problem = make_problem(
            task["scenario"], task["items"], *sizes, getattr(torch, dtype), device
        )
        least = method.least_bytes(problem)
        if least > task["memory_cap"] * 2**30:
            raise MemoryError(f"needs {least} bytes")
        memory = Memory(device)
        module = method(problem)
        rows = checked_rows(problem)
        check(method, module, problem, sparse_result(problem, rows.numpy()), rows)
        peak = {PASSES[0]: memory.peak(lambda: module(problem.x, problem.gate))}
        peak[PASSES[1]] = memory.peak(lambda: propagate(module, problem))
        start, others = time.perf_counter(), other_seconds()
        runs = time_passes(module, problem, task["seconds"])
        others = (other_seconds() - others) / (time.perf_counter() - start)
    return {
        "status": "ok",
        "edges": problem.num_edges,
        "num_factors": problem.num_factors,
        "runs": runs,
        "peak_mib": peak,
        "copy_gb_s": max(bandwidth, copy_bandwidth(device)),
        "other_load": max(others, 0) / (os.cpu_count() or 1),
    }


def propagate(module: Method, problem: Problem) -> list[Tensor]:
    """Forward and backward: the output, the gradients of items, gate and weights."""
    out = module(problem.x, problem.gate)
    inputs = [problem.x, *module.parameters()]
    if module.same:
        inputs.insert(1, problem.gate)
    return [out.detach(), *torch.autograd.grad(out, inputs, problem.gradient)]


def checked_rows(problem: Problem) -> Tensor:
    """Rows that are checked, all of them where they are few."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randperm(problem.num_items, generator=generator, device="cpu")
    return rows[:CHECKED_ROWS].sort().values


def check(
    method: type[Method],
    module: Method,
    problem: Problem,
    expected: list[Tensor],
    rows: Tensor,
) -> None:
    """Compare a method's output and gradients with what they should be."""
    results = propagate(module, problem)
    if not method.same:
        return
    names = ("output", "gradient of x", "gradient of the gate")
    for name, result, right in zip(names, results, expected, strict=True):
        right = right.cpu()
        difference = (result.cpu()[rows].double() - right).abs().max()
        allowed = TOLERANCE[result.dtype] * right.abs().max()
        # Not a number is not below anything.
        if not difference <= allowed:
            raise AssertionError(
                f"{method.label} is wrong at {problem.num_items} items: its {name} is "
                f"off by {difference:.2g}, more than {allowed:.2g}"
            )


def time_passes(
    module: Method, problem: Problem, seconds: float
) -> dict[str, list[float]]:
    """Run the passes in turn, for so many seconds, and at least 3 times; in ms."""
    device = problem.x.device.type
    calls: tuple[Callable[[], object], ...] = (
        lambda: module(problem.x, problem.gate),
        lambda: propagate(module, problem),
    )
    runs: dict[str, list[float]] = {name: [] for name in PASSES}
    # Not timed: it fetches the memory that the measurement of the peak gave back.
    longest = max(timed(call, device) for call in calls)
    for _ in range(max(3, min(50, int(seconds / longest)))):
        for name, call in zip(PASSES, calls, strict=True):
            runs[name].append(1000 * timed(call, device))
    return runs


def timed(call: Callable[[], object], device: str) -> float:
    """Seconds that a call takes, what it gives being let go afterwards."""
    synchronize(device)
    start = time.perf_counter()
    result = call()
    synchronize(device)
    end = time.perf_counter()
    del result
    return end - start


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def copy_bandwidth(device: str) -> float:
    """Bytes read and written in a second by a large copy, in GB, best of several."""
    source = torch.ones(COPIED // 4, device=device)
    target = torch.zeros_like(source)
    best = min(timed(lambda: target.copy_(source), device) for _ in range(5))
    return 2 * COPIED / best / 1e9


def other_seconds() -> float:
    """Processor time that other processes have taken; 0 where Linux does not tell."""
    try:
        first = Path("/proc/stat").read_text().split("\n")[0].split()
    except OSError:
        return 0.0
    user, nice, system, _, _, *interrupts = map(int, first[1:9])
    ticks = user + nice + system + sum(interrupts)
    own = os.times()
    return ticks / os.sysconf("SC_CLK_TCK") - own.user - own.system


class Memory:
    """Memory above what there was when this was made, which is the problem's own."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.release()
        self.before = self.now()

    def peak(self, call: Callable[[], object]) -> float:
        """The most that there is during a call, in MiB."""
        self.release()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            call()
            return (torch.cuda.max_memory_allocated() - self.before) / MIB
        # Where Linux does not let it be reset, the peak of the whole process stays.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
        call()
        unit = 1024 if Path("/proc").is_dir() else 1
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return max(peak - self.before, 0) / MIB

    def now(self) -> int:
        """Bytes in use."""
        if self.device == "cuda":
            return torch.cuda.memory_allocated()
        return process_bytes(1)

    @staticmethod
    def release() -> None:
        """Give freed memory back, so that a call that needs it is seen to."""
        gc.collect()
        with suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).malloc_trim(0)


def process_bytes(field: int) -> int:
    """Bytes of this process: its addresses (0), or what is resident (1)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[field])
        return pages * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def limit_memory(gib: float) -> None:
    """Let this process have so much more memory, and fail to get more."""
    with suppress(ValueError, OSError):
        limit = process_bytes(0) + int(gib * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
