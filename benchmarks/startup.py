"""Startup: the time from starting Python to a trained network.

Each library trains the network of a case in its own process, which imports nothing else
except NumPy. The peak memory of that process is also measured. The images are noise.
"""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter

from .cases import CASES
from .measure import ONE_THREAD

# The library, and where its contestant is found.
CONTESTANTS = {
    "tinygrad_bn": ("engine", "Engine"),
    "torch": ("peers", "Torch"),
    "jax": ("peers", "Jax"),
}
STARTED_CASES = ("tiny-sgd", "mnist-sgd")
_FOLDER = Path(__file__).parent.parent


def train(library: str, case_name: str, steps: int) -> None:
    """Train a network, and print the peak memory of this process."""
    module, name = CONTESTANTS[library]
    case = CASES[case_name]
    contestant = getattr(import_module(f".{module}", __package__), name)
    running = contestant(case, case.parameters())
    loss = None
    for batch in islice(cycle(case.batches(16)), steps):
        loss = running.step(*batch)
    assert float(loss) >= 0, f"the loss must be at least 0, but it is {loss}"
    print(peak_memory())


def peak_memory() -> int:
    """The largest amount of memory that this process has used so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux, ru_maxrss can include the process that started this one.
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def start(library: str, case_name: str, steps: int, environment: dict) -> tuple:
    """Train in a separate process, and return its seconds and bytes."""
    call = f"train({library!r}, {case_name!r}, {steps})"
    program = f"from benchmarks.startup import train; {call}"
    begin = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=_FOLDER,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return perf_counter() - begin, int(done.stdout)


def startup(rounds: int, steps: int, progress=iter) -> str:
    """A table in Markdown: a row for each library, medians over the rounds."""
    rows = {name: (name, {}) for name in CONTESTANTS if find_spec(name)}
    rows["tinygrad_bn, 1 BLAS thread"] = ("tinygrad_bn", ONE_THREAD)
    found = {(row, case): [] for row in rows for case in STARTED_CASES}
    for row, case in progress([*found] * rounds):
        library, environment = rows[row]
        found[row, case].append(start(library, case, steps, environment))
    titles = [str(CASES[case]) for case in STARTED_CASES]
    lines = [
        f"| {steps:,} steps, from starting Python | {' | '.join(titles)} |",
        "|---|" + "---|" * len(titles),
    ]
    for row in rows:
        cells = []
        for case in STARTED_CASES:
            seconds, memory = map(median, zip(*found[row, case], strict=True))
            cells.append(f"{seconds:.1f} s, {memory / 1e6:.0f} MB")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)
