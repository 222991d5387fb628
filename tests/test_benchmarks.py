"""The benchmarks: all contestants compute the same numbers, and ratios are robust."""

from itertools import count

import numpy as np
import pytest

from benchmarks.__main__ import main, report
from benchmarks.cases import CASES
from benchmarks.contestants import Engine, Torch
from benchmarks.handwritten import Handwritten
from benchmarks.measure import DISCARDED_STEPS, median_step, rotations, turn
from benchmarks.tuned import Tuned

STEPS = 3


def trained(contestant, case, dtype):
    """The parameters after some steps, and the loss of each step."""
    runner = contestant(case, case.parameters(dtype))
    losses = [float(runner.step(*batch)) for batch in case.batches(STEPS, dtype)]
    return [np.array(p) for p in runner.parameters], losses


@pytest.mark.parametrize("contestant", [Engine, Tuned])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_contestant_agrees_with_the_handwritten_step_in_float64(case, contestant):
    parameters, losses = trained(contestant, case, np.float64)
    expected, expected_losses = trained(Handwritten, case, np.float64)
    np.testing.assert_allclose(losses, expected_losses, atol=1e-10, rtol=0)
    for p, q in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(p, q, atol=1e-10, rtol=0)


@pytest.mark.parametrize("contestant", [Engine, Tuned])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_contestant_agrees_with_the_handwritten_step_in_float32(case, contestant):
    parameters, losses = trained(contestant, case, np.float32)
    expected, expected_losses = trained(Handwritten, case, np.float32)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    for p, q, start in zip(
        parameters, expected, case.parameters(np.float32), strict=True
    ):
        assert p.dtype == q.dtype == np.float32
        # Relative to the change: the parameters themselves are much larger.
        change = np.linalg.norm(q - start)
        assert change > 0
        assert np.linalg.norm(p - q) < 1e-3 * change


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_pytorch_takes_the_same_steps(case):
    pytest.importorskip("torch")
    parameters, _ = trained(Torch, case, np.float64)
    expected, _ = trained(Handwritten, case, np.float64)
    for p, q in zip(parameters, expected, strict=True):
        np.testing.assert_allclose(p, q, atol=1e-10, rtol=0)


@pytest.mark.parametrize("contestant", [Handwritten, Tuned])
def test_the_running_statistics_by_hand_are_those_of_the_engine(contestant):
    case = CASES["mnist-sgd"]
    engine = Engine(case, case.parameters(np.float64))
    handwritten = contestant(case, case.parameters(np.float64))
    for batch in case.batches(STEPS, np.float64):
        engine.step(*batch)
        handwritten.step(*batch)
    norms = [m for m in engine.model if hasattr(m, "running_mean")]
    by_hand = [layer for layer in handwritten.layers if hasattr(layer, "running")]
    assert len(norms) == 3
    for norm, layer in zip(norms, by_hand, strict=True):
        expected = [norm.running_mean, norm.running_var]
        np.testing.assert_allclose(layer.running, expected, atol=1e-12, rtol=0)


def test_the_handwritten_step_learns():
    case = CASES["wide-adam"]
    handwritten = Handwritten(case, case.parameters())
    (batch,) = case.batches(1)
    losses = [handwritten.step(*batch) for _ in range(10)]
    assert losses[-1] < losses[0] / 3


def test_every_contestant_comes_first_in_turn():
    orders = rotations(["a", "b", "c"], 4)
    assert orders == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_the_first_steps_of_a_turn_are_not_measured():
    taken = []
    times = turn(taken.append, ((i,) for i in count()), steps=5)
    assert len(times) == 5
    assert len(taken) >= 5 + DISCARDED_STEPS
    assert taken == list(range(len(taken)))


def test_the_median_is_taken_over_the_steps_of_all_rounds():
    assert median_step([[1.0, 2.0, 9.0], [3.0, 4.0]]) == 3.0


def test_the_report_compares_the_engine_with_the_handwritten_step():
    times = {"handwritten": [[1e-3], [1e-3]], "engine": [[1.2e-3], [1.4e-3]]}
    assert "engine / handwritten = 1.30: within 1.4" in report(times)
    times["engine"] = [[1.5e-3], [1.5e-3]]
    assert "engine / handwritten = 1.50: ABOVE 1.4" in report(times)


def test_a_machine_that_slows_down_in_the_middle_of_a_run_changes_no_ratio():
    times = {
        "handwritten": [[1.0], [1.0], [1.0], [2.0], [2.0]],
        "engine": [[1.3], [1.3], [2.6], [2.6], [2.6]],
    }
    assert "engine / handwritten = 1.30: within 1.4" in report(times)


def test_the_command_measures_the_chosen_case_and_reports_it(capsys):
    main(["--case", "tiny-sgd", "--rounds", "2", "--steps", "2"])
    machine, _, heading, *lines = capsys.readouterr().out.splitlines()
    assert f"NumPy {np.__version__}" in machine
    assert heading == "tiny-sgd: 2-16-16-2, relu, batch 100, sgd"
    names = [line.split()[0] for line in lines]
    assert names == ["handwritten", "engine", "tuned", "engine"]


def test_nonsense_on_the_command_line_gets_a_clear_error(capsys):
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    error = capsys.readouterr().err
    assert "--rounds: must be a whole number of at least 1, but '0' was rec" in error
