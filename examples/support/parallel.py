"""Runs of an experiment for several seeds and settings, at the same time.

    case   the arguments of one run, for example (learning rate, seed)
    job    a process that computes one case after another

The number of jobs has no influence on the results, bit for bit: a run gets its seed
as an argument and makes its own random generator from it, and matrices are multiplied
in a single thread everywhere.

Joblib, which scikit-learn installs, distributes the cases over the cores of this
machine. For hundreds of seeds, it can distribute them over a Dask cluster instead. The
workers need ``examples/`` and the root of the repository in their PYTHONPATH:

    client = dask.distributed.Client("address of the scheduler")
    with joblib.parallel_config(backend="dask"):
        runs = in_parallel(train_and_test, itertools.product(RATES, range(100)))

Left out on purpose: sharing what is the same in all runs. Compute it once, and pass it
along with ``functools.partial``. Large arrays are not copied, and the runs must not
write into them.
"""

import argparse
import io
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr
from typing import TypeVar

from joblib import Parallel, delayed
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from support.command_line import whole_number

ALL_CORES = -1  # joblib's name for them

Result = TypeVar("Result")


def add_jobs_option(parser: argparse.ArgumentParser) -> None:
    """The option of experiments that run several cases at a time: --jobs."""
    parser.add_argument(
        "--jobs",
        type=whole_number(1),
        help="runs at the same time (default: one per core; 1 with --quick)",
    )


def requested_jobs(options: argparse.Namespace) -> int:
    """The number of jobs that the command line asks for.

    A quick experiment is over before further processes have started.
    """
    return options.jobs or (1 if options.quick else ALL_CORES)


def in_parallel(
    function: Callable[..., Result],
    cases: Iterable[tuple],
    jobs: int = ALL_CORES,
    title: str = "",
) -> dict[tuple, Result]:
    """``{case: function(*case)}`` for all cases, with a progress bar.

    With a single job, everything happens in this process. An exception in one of the
    runs is raised here. Settings of this process, such as ``np.errstate``, do not reach
    other processes: put them inside the function.
    """
    cases = list(dict.fromkeys(cases))
    jobs = 1 if len(cases) < 2 else min(jobs, len(cases))
    work = (delayed(_run)(function, case) for case in cases)
    results = Parallel(n_jobs=jobs, return_as="generator")(work)
    bar = tqdm(results, title, len(cases), leave=False, disable=None)
    return dict(zip(cases, bar, strict=True))


def _run(function: Callable[..., Result], case: tuple) -> Result:
    # Joblib gives the processes as many threads as there are cores to share, and sums
    # that are split among threads are rounded differently.
    threadpool_limits(1)
    # The bars of several processes would overwrite each other.
    with redirect_stderr(_NoTerminal()):
        return function(*case)


class _NoTerminal(io.TextIOBase):
    """Standard error without a terminal, so that nobody draws progress bars there."""

    def __init__(self) -> None:
        self.stream = sys.stderr

    def write(self, text: str) -> int:
        return self.stream.write(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return False
