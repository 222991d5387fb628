"""The benchmarks: all contestants compute the same numbers, and ratios are robust."""

from itertools import count

import numpy as np
import pytest

from benchmarks import growth, startup
from benchmarks.__main__ import main, report
from benchmarks.cases import CASES
from benchmarks.engine import Engine
from benchmarks.handwritten import Handwritten
from benchmarks.measure import (
    DISCARDED_STEPS,
    ONE_THREAD,
    median_step,
    rotations,
    turn,
)
from benchmarks.peers import Jax, Torch
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
@pytest.mark.peers
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(("library", "peer"), [("torch", Torch), ("jax", Jax)])
def test_other_libraries_take_the_same_steps(case, library, peer):
    pytest.importorskip(library)
    parameters, losses = trained(peer, case, np.float64)
    expected, expected_losses = trained(Handwritten, case, np.float64)
    np.testing.assert_allclose(losses, expected_losses, atol=1e-10, rtol=0)
    for p, q in zip(parameters, expected, strict=True):
        assert p.dtype == np.float64
        np.testing.assert_allclose(p, q, atol=1e-10, rtol=0)


@pytest.mark.slow
@pytest.mark.peers
def test_jax_updates_the_running_statistics():
    pytest.importorskip("jax")
    case = CASES["mnist-sgd"]
    engine = Engine(case, case.parameters())
    peer = Jax(case, case.parameters())
    for batch in case.batches(STEPS):
        engine.step(*batch)
        peer.step(*batch)
    norms = [m for m in engine.model if hasattr(m, "running_mean")]
    for norm, running in zip(norms, peer.state[1], strict=True):
        expected = norm.running_mean, norm.running_var
        np.testing.assert_allclose(running, expected, rtol=1e-4, atol=1e-5)


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
    tiny, wide = CASES["tiny-sgd"], CASES["wide-adam"]
    assert "engine / handwritten = 1.30: within 1.4" in report(times, tiny)
    assert "engine / handwritten = 1.30: ABOVE 1.25" in report(times, wide)
    times["engine"] = [[1.5e-3], [1.5e-3]]
    assert "engine / handwritten = 1.50: ABOVE 1.4" in report(times, tiny)


def test_a_machine_that_slows_down_in_the_middle_of_a_run_changes_no_ratio():
    times = {
        "handwritten": [[1.0], [1.0], [1.0], [2.0], [2.0]],
        "engine": [[1.3], [1.3], [2.6], [2.6], [2.6]],
    }
    assert "engine / handwritten = 1.30: within 1.4" in report(times, CASES["tiny-sgd"])


def test_the_command_measures_the_chosen_case_and_reports_it(capsys):
    main(["--case", "tiny-sgd", "--rounds", "2", "--steps", "2", "--no-peers"])
    machine, _, heading, *lines = capsys.readouterr().out.splitlines()
    assert f"NumPy {np.__version__}" in machine
    assert heading == "tiny-sgd: 2-16-16-2, relu, batch 100, sgd"
    names = [line.split()[0] for line in lines]
    assert names == ["handwritten", "engine", "tuned", "engine"]


def test_a_nonsensical_option_gets_a_clear_error(capsys):
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])
    error = capsys.readouterr().err
    assert "--rounds: must be a whole number of at least 1, but '0' was rec" in error


# --- Growth ---------------------------------------------------------------------------


def test_the_exponent_is_that_of_the_power_law():
    sizes = [10, 20, 40, 80]
    for p in 1, 1.5, 2:
        times = [3e-5 * n**p for n in sizes]
        np.testing.assert_allclose(growth.exponent(sizes, times), p, rtol=1e-12)


def test_the_report_says_how_the_time_grows():
    item = growth.Growth("backward pass", growth.chain, (10, 20))
    assert growth.report(item, [1e-3, 2e-3]) == (
        "backward pass\n  10: 1.0 ms, 20: 2.0 ms\n  grows like n^1.00: within n^1.25"
    )
    assert "n^2.00: ABOVE n^1.25" in growth.report(item, [1e-3, 4e-3])


@pytest.mark.parametrize("name", growth.GROWTHS)
def test_each_growing_program_can_be_run_at_any_size(name):
    growth.GROWTHS[name].prepare(3)()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chain", "inputs", "parameters"])
def test_time_grows_linearly(name):
    # A quadratic part would be seen at sizes such as these, far from any constant one.
    item = growth.GROWTHS[name]
    item = growth.Growth(item.what, item.prepare, (1000, 4000, 16000))
    assert growth.exponent(item.sizes, growth.measure(item, 3)) < 1.5


# --- Startup --------------------------------------------------------------------------


@pytest.mark.slow
def test_the_table_of_startup_has_a_row_for_each_library(monkeypatch):
    installed = {"tinygrad_bn": ("engine", "Engine")}
    monkeypatch.setattr(startup, "CONTESTANTS", installed)
    heading, rule, *rows = startup.startup(rounds=1, steps=3).splitlines()
    assert heading == (
        "| 3 steps, from starting Python | 2-16-16-2, relu, batch 100, sgd | "
        "784-100-100-100-10, sigmoid + BN, batch 60, sgd |"
    )
    assert rule == "|---|---|---|"
    assert [row.split(" | ")[0] for row in rows] == [
        "| tinygrad_bn",
        "| tinygrad_bn, 1 BLAS thread",
    ]


@pytest.mark.slow
def test_memory_and_time_are_those_of_the_process_that_trains():
    program = bytearray(200_000_000)  # in this process, not in the other one
    seconds, memory = startup.start("tinygrad_bn", "tiny-sgd", 3, ONE_THREAD)
    assert 20e6 < memory < 150e6 < len(program)
    assert seconds > 0.05


def test_the_command_knows_growth_and_startup(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(growth, "main", lambda repeats: asked.append(repeats))
    main(["--growth"])
    main(["--growth", "--quick"])
    assert asked == [growth.REPEATS, 1]
    monkeypatch.setattr("benchmarks.__main__.startup", lambda *given: str(given[:2]))
    main(["--startup"])
    assert "(5, 1000)" in capsys.readouterr().out


def test_the_report_on_growth_contains_everything(monkeypatch, capsys):
    item = growth.Growth("a chain", growth.chain, (10, 20, 30))
    monkeypatch.setattr(growth, "GROWTHS", {"chain": item, "again": item})
    growth.report_all(repeats=1)
    assert capsys.readouterr().out.count("\na chain\n  10: ") == 2
