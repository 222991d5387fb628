"""The experiments on biases, gamma and beta, and running statistics."""

import math

import numpy as np
import pytest

import bias_blow_up
import bias_is_redundant
import gamma_and_beta
import running_statistics
from parts.bias_blow_up.growth import BETA, CONSTANTS, FULL, MEAN, VAR
from parts.bias_blow_up.networks import CHANCE, FROZEN, NO_NORM, blew_up
from parts.bias_blow_up.one_unit import (
    ADAM,
    BALANCED,
    LR,
    MOMENTUM,
    SQUARE_ROOT_ERROR,
    TAU,
    C,
)
from parts.bias_is_redundant.plots import NO_GRADIENT
from support.measures import final_loss

pytestmark = pytest.mark.slow
SCRIPTS = [bias_blow_up, bias_is_redundant, gamma_and_beta, running_statistics]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_an_experiment_prints_its_tables_and_saves_its_picture(script, quick):
    measured, printed, folder = quick(script)
    assert script.report(measured) in printed
    assert (folder / f"{script.__name__}.png").stat().st_size > 10_000


# --- bias_blow_up ---------------------------------------------------------------------


@pytest.fixture
def blow_up(quick):
    return quick(bias_blow_up)[0]


@pytest.fixture
def unit(blow_up):
    (unit,) = blow_up["units"]
    return unit


def test_only_the_route_through_the_mean_cancels_the_direct_gradient_of_b(blow_up):
    for case, routes in blow_up["routes"].items():
        by_name = {str(route): route for route in routes}
        direct, via_mean = by_name["direct"], by_name["via E[x]"]
        assert np.isclose(direct.gradient, -C)
        mean_is_cut = "mean" in CONSTANTS[case]
        assert via_mean.cut == mean_is_cut
        assert np.isclose(routes.total, -C if mean_is_cut else 0)


def test_with_a_constant_mean_a_bias_climbs_in_a_straight_line(unit):
    path = unit["line"][MEAN]
    assert np.allclose(np.diff(path.b), LR * C, rtol=1e-9)
    assert np.ptp(path.loss) < 1e-12
    assert unit["line"][FULL].b.max() < 1e-12


def test_the_optimizer_and_beta_change_the_line_as_predicted(unit, blow_up):
    line, theory = unit["line"], blow_up["theory"]["line"]
    for case in (MEAN, BETA, MOMENTUM, ADAM):
        assert np.allclose(line[case].b, theory[case], rtol=1e-5)
    assert line[BETA].b[-1] < C < line[MEAN].b[-1]
    assert line[BETA].loss[-1] < 0.6 * line[BETA].loss[0]


def test_two_balanced_classes_hardly_move_a_bias(unit):
    line = unit["line"]
    assert 0 < line[BALANCED].b[-1] < 0.01 * line[MEAN].b[-1]


def test_with_both_constant_weights_grow_like_a_square_root(unit, blow_up):
    root, theory = unit["root"], blow_up["theory"]
    np.testing.assert_allclose(root.w, theory["recursion"].w, rtol=1e-12)
    # The law is approximate; its largest error is known to leading order.
    error = np.abs(root.w / theory["root"].w - 1).max()
    assert error == pytest.approx(SQUARE_ROOT_ERROR, rel=0.1)
    assert np.allclose(root.b, C / (TAU - 1) * (root.w - 1), atol=1e-9)
    assert np.ptp(root.loss) < 1e-12


def test_statistics_renewed_once_per_round_give_exponential_weights_and_no_progress(
    unit, blow_up
):
    rounds = unit["rounds"]
    assert np.allclose(rounds.w[1:] / rounds.w[:-1], TAU, rtol=1e-9)
    assert np.allclose(rounds.b, blow_up["theory"]["rounds"].b, rtol=1e-9)
    assert np.allclose(rounds.loss, ((TAU - 1) ** 2 + C**2) / 2, rtol=1e-9)
    assert unit["converged"].max() < 1e-12


def test_in_networks_too_only_the_gradient_through_the_mean_protects(blow_up):
    for (case, lr), paths in blow_up["sigmoid"].items():
        for path in paths if lr == 2 else ():
            if case in (FULL, VAR):
                assert path.b[-1] < 1e-10
                assert path.final_loss < 0.6 * CHANCE
                assert path.growth < (1.3 if case == FULL else 3)
            elif case == BETA:
                assert path.final_loss < CHANCE
            else:
                assert path.b[-1] > 20
                assert path.final_loss > CHANCE
                assert path.growth > 3


def test_at_a_low_learning_rate_a_constant_mean_moves_b_and_hardly_the_loss(blow_up):
    sigmoid = blow_up["sigmoid"]
    for full, constant in zip(sigmoid[FULL, 0.1], sigmoid[MEAN, 0.1]):
        assert constant.b[-1] > 0.1
        assert constant.final_loss == pytest.approx(full.final_loss, rel=0.02)


def test_a_relu_network_with_frozen_statistics_blows_up_and_others_do_not(blow_up):
    relu = blow_up["relu"]
    for path in relu[FROZEN, 0.5]:
        assert not math.isfinite(path.loss[-1]) or path.loss[-1] > 10
        assert blew_up(path)
    for path in relu[FULL, 0.5] + relu[NO_NORM, 0.5] + relu[FROZEN, 0.1]:
        assert path.loss.max() < 10
        assert path.w.max() < 2 * path.w[0]
        assert not blew_up(path)
    assert all(path.loss[-1] < 0.2 for path in relu[FULL, 0.5])


def test_weights_are_orthogonal_to_their_gradient_under_full_batch_norm_only(blow_up):
    for case, cosines in blow_up["cosines"].items():
        assert max(cosines) < 1e-12 if case == FULL else min(cosines) > 0.1


# --- bias_is_redundant ----------------------------------------------------------------


def test_networks_with_and_without_a_bias_are_trained_alike(quick):
    pairs = quick(bias_is_redundant)[0]["pairs"]
    assert len(pairs) == 6
    for runs in pairs.values():
        for run in runs:
            with_b, without = run["losses"]
            assert np.allclose(with_b, without, rtol=0, atol=1e-10)
            assert run["differences"].max() < 1e-10
            assert without[-1] < 0.5 * without[0]


def test_in_float32_too_losses_with_and_without_a_bias_agree_up_to_rounding(quick):
    pairs = quick(bias_is_redundant)[0]["float32 pairs"]
    differences = {
        optimizer: max(np.abs(np.subtract(*run["losses"])).max() for run in runs)
        for optimizer, runs in pairs.items()
    }
    assert differences.keys() == {"SGD", "momentum", "Adam"}
    # In more steps than these, Adam amplifies rounding errors.
    assert 0 < max(differences.values()) < 1e-4


def test_a_bias_without_gradient_drifts_under_adam_in_float32_and_not_otherwise(quick):
    drifts = quick(bias_is_redundant)[0]["drifts"]
    assert all(1e-3 < run[-1] < 0.2 for run in drifts["Adam", "float32"])
    assert all(run[-1] < 1e-8 for run in drifts["Adam", "float64"])
    assert all(run[-1] < 1e-6 for run in drifts["SGD", "float32"])


def test_a_bias_gets_no_gradient_only_if_the_mean_of_its_own_batch_is_subtracted(quick):
    left = dict(quick(bias_is_redundant)[0]["gradient left"][0])
    for case in NO_GRADIENT:
        assert left.pop(case) < 1e-13
    assert len(left) == 5
    assert min(left.values()) > 0.05


# --- gamma_and_beta -------------------------------------------------------------------


def test_gamma_and_beta_recover_the_identity(quick):
    assert max(quick(gamma_and_beta)[0]["identity"]) < 1e-13


def test_the_sigmoid_of_normal_values_is_nearly_straight(quick):
    measured = quick(gamma_and_beta)[0]
    assert measured["within 2"] == pytest.approx(0.954, abs=0.001)
    assert measured["r squared"][1] == pytest.approx(0.984, abs=0.001)
    assert measured["r squared"][4] == pytest.approx(0.838, abs=0.003)
    for std, theory in measured["r squared theory"].items():
        assert measured["r squared"][std] == pytest.approx(theory, abs=5e-4)
    assert gamma_and_beta.r_squared_theory(1e-3) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", gamma_and_beta.TARGETS)
def test_without_gamma_and_beta_training_stops_at_a_floor(quick, name):
    measured, target = quick(gamma_and_beta)[0], gamma_and_beta.TARGETS[name]
    floor = measured["floor"][name]
    if name != "sin 3x":
        assert floor == pytest.approx(target.var(), rel=1e-9)
    for loss in measured["losses"][name, False]:
        assert floor * (1 - 1e-9) < loss < floor * 1.001
    for loss in measured["losses"][name, True]:
        assert loss < 0.5 * floor


# --- running_statistics ---------------------------------------------------------------


def test_running_statistics_of_the_same_batch_follow_the_closed_form(quick):
    (same,) = quick(running_statistics)[0]["same batch"]
    assert np.allclose(same["measured"], same["theory"], rtol=1e-10)
    assert np.ptp(same["measured"], axis=1).min() > 1


def test_the_running_mean_is_as_noisy_as_predicted(quick):
    for p, (value,) in quick(running_statistics)[0]["spread"].items():
        assert value == pytest.approx(math.sqrt(p / (2 - p)) / math.sqrt(16), rel=0.1)


def test_evaluation_differs_from_training_by_half_over_the_batch_size(quick):
    measured = quick(running_statistics)[0]
    for (n, layers), (gap,) in measured["gap"].items():
        assert gap[0] > 5 * gap[-1]
        assert gap[-1] == pytest.approx(layers / (2 * n), rel=0.2)
        if layers == 1:
            assert gap[-1] == pytest.approx(1 - math.sqrt((n - 1) / n), rel=1e-3)


def test_training_with_fast_running_statistics_moves_biases_but_not_the_loss(quick):
    own_runs, fast_runs, _ = quick(running_statistics)[0]["training"].values()
    for own, fast in zip(own_runs, fast_runs):
        own_loss, loss = (final_loss(run["losses"]) for run in (own, fast))
        assert own_loss < 0.3
        assert loss > 5 * own_loss
        assert own["b"] < 1e-4
        assert fast["b"] > 1
