"""Runs in parallel: the same results for any number of jobs, on Dask too."""

import io
import os
import sys
from contextlib import redirect_stderr
from functools import partial

import numpy as np
import pytest
from tqdm import tqdm

from support.command_line import experiment_options, parse
from support.networks import perceptron, train
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from tinygrad_bn import nn, optim

CASES = [(0.1, 0), (0.1, 1), (0.5, 0)]


def losses(data, lr, seed):
    """The process that trained a small network, and the losses."""
    rng = np.random.default_rng(seed)
    model = perceptron(
        (64, 100, 100, 10), lambda width: (nn.BatchNorm(width), nn.ReLU()), rng
    )
    sgd = optim.SGD(model.parameters(), lr)
    return os.getpid(), np.array(train(model, sgd, data, 128, 20, rng))


@pytest.fixture
def many_digits(digits):
    """An array so large that joblib shares it among processes instead of copying it."""
    x, y = np.tile(digits.train_x, (8, 1)), np.tile(digits.train_y, 8)
    assert x.nbytes > 2e6
    return digits._replace(train_x=x, train_y=y)


def double(x):
    return 2 * x


def fail(x):
    raise ValueError(f"case {x} failed")


def bar_is_hidden(x):
    """Whether a progress bar is hidden, since several processes share the terminal."""
    sys.stderr.write(f"a warning about {x}\n")
    return tqdm([], disable=None).disable


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_jobs_bit_for_bit(many_digits):
    here, elsewhere = (
        in_parallel(partial(losses, many_digits), CASES, jobs) for jobs in (1, 2)
    )
    assert list(here) == list(elsewhere) == CASES
    for case in CASES:
        (process, expected), (other_process, found) = here[case], elsewhere[case]
        assert process == os.getpid() != other_process
        np.testing.assert_array_equal(found, expected)
    assert not np.array_equal(here[0.1, 0][1], here[0.1, 1][1])


@pytest.mark.slow
def test_results_on_a_dask_cluster_are_the_same_bit_for_bit(digits):
    distributed = pytest.importorskip("dask.distributed")
    joblib = pytest.importorskip("joblib")
    expected = in_parallel(partial(losses, digits), CASES, jobs=1)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    )
    client = distributed.Client
    with cluster, client(cluster), joblib.parallel_config(backend="dask"):
        found = in_parallel(partial(losses, digits), CASES)
    for case in CASES:
        assert found[case][0] != os.getpid()
        np.testing.assert_array_equal(found[case][1], expected[case][1])


def test_results_are_in_the_order_of_the_cases_and_equal_cases_run_once():
    cases = [(3,), (1,), (2,), (1,)]
    assert in_parallel(double, cases, jobs=1) == {(3,): 6, (1,): 2, (2,): 4}
    assert in_parallel(double, iter(()), jobs=2) == {}


def test_no_more_jobs_are_started_than_there_are_cases():
    assert in_parallel(double, [(1,), (2,)], jobs=99_999_999) == {(1,): 2, (2,): 4}


def test_an_exception_in_a_run_is_raised():
    with pytest.raises(ValueError, match="case 2 failed"):
        in_parallel(fail, [(2,), (3,)], jobs=1)


def test_runs_show_their_warnings_but_no_progress_bars_of_their_own(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    with redirect_stderr(terminal):
        assert in_parallel(bar_is_hidden, [(1,), (2,)], jobs=1, title="two runs") == {
            (1,): True,
            (2,): True,
        }
        assert not tqdm([], disable=None).disable
    assert "a warning about 2" in terminal.getvalue()
    assert "two runs" in terminal.getvalue()


def test_an_experiment_uses_all_cores_unless_it_is_quick_or_gets_a_number(capsys):
    parser = experiment_options("What?")
    add_jobs_option(parser)

    def jobs(*arguments):
        return requested_jobs(parse(parser, arguments))

    assert jobs() == -1
    assert jobs("--quick") == 1
    assert jobs("--jobs", "3") == jobs("--quick", "--jobs", "3") == 3
    with pytest.raises(SystemExit):
        jobs("--jobs", "0")
    assert "must be a whole number of at least 1" in capsys.readouterr().err
