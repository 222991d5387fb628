"""The measurement: all contestants of a case take turns in one process.

The speed of a machine drifts, so each contestant has a turn in every round, and only
times from the same run are compared. A contestant that runs right after another library
is slowed down while the threads of that library wait for more work, so the order
rotates from round to round, and the first steps of each turn are discarded.
"""

import os
import platform
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np

from .cases import Case

DISCARDED_SECONDS, DISCARDED_STEPS = 0.05, 3
BATCHES = 16

# For the environment of a process whose BLAS should use a single thread.
ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM")
}

# Seconds per step: for each contestant, one list per round.
Times = dict[str, list[list[float]]]


def measure(
    case: Case, contestants: dict[str, type], orders: Iterable[list[str]], steps: int
) -> Times:
    """The times of all steps: one round per order, and ``steps`` steps per turn."""
    running = {
        name: make(case, case.parameters()) for name, make in contestants.items()
    }
    batches = case.batches(BATCHES)
    endless = {name: cycle(batches) for name in contestants}
    times = {name: [] for name in contestants}
    for order in orders:
        for name in order:
            times[name].append(turn(running[name].step, endless[name], steps))
    return times


def rotations(names: list[str], rounds: int) -> list[list[str]]:
    """One order of the names per round, so that each name comes first in turn."""
    starts = (i % len(names) for i in range(rounds))
    return [names[start:] + names[:start] for start in starts]


def turn(step, batches, steps: int) -> list[float]:
    """The times of ``steps`` steps, taken after some that are discarded."""
    discarded, start = 0, perf_counter()
    while discarded < DISCARDED_STEPS or perf_counter() - start < DISCARDED_SECONDS:
        step(*next(batches))
        discarded += 1
    times = []
    for _ in range(steps):
        batch = next(batches)
        start = perf_counter()
        step(*batch)
        times.append(perf_counter() - start)
    return times


def median_step(rounds: list[list[float]]) -> float:
    """The median over the steps of all rounds."""
    return median(time for times in rounds for time in times)


def machine() -> str:
    """What the figures depend on: processor, versions, BLAS, and load."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    limits = [f"{k}={v}" for k, v in os.environ.items() if k.endswith("_NUM_THREADS")]
    parts = [
        _processor(),
        f"{_cores()} cores",
        f"Python {platform.python_version()}",
        f"NumPy {np.__version__}",
        f"{blas['name']} {blas['version']}",
        *sorted(limits),
        *([f"load {os.getloadavg()[0]:.1f}"] if hasattr(os, "getloadavg") else []),
    ]
    return ", ".join(parts)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()
