"""The experiments on biases, gamma and beta, and averages say what is true."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import bias_blow_up
import bias_is_redundant
import gamma_and_beta
import moving_averages
import one_unit
from bias_blow_up import BETA, FULL, LR, MEAN, NO_NORM, OUTSIDE, TAU, VAR, C
from lab import late_loss

SCRIPTS = [bias_blow_up, bias_is_redundant, gamma_and_beta, moving_averages]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_an_experiment_prints_its_tables_and_saves_its_picture(script, quick):
    measured, printed, folder = quick(script)
    assert script.report(measured) in printed
    assert (folder / f"{script.__name__}.png").stat().st_size > 10_000


# --- bias_blow_up ---------------------------------------------------------------------


@pytest.fixture
def blow_up(quick):
    return quick(bias_blow_up)[0]


def test_only_the_route_through_the_mean_cancels_what_the_loss_asks_of_a_bias(blow_up):
    for way, routes in blow_up["routes"].items():
        by_name = {str(route): route for route in routes}
        direct, via_mean = by_name["direct"], by_name["via E[x]"]
        assert np.isclose(direct.gradient, -C)
        mean_is_cut = "mean" in bias_blow_up.WAYS[way]
        assert via_mean.cut == mean_is_cut
        assert np.isclose(routes.total, -C if mean_is_cut else 0)


def test_with_a_constant_mean_a_bias_climbs_in_a_straight_line(blow_up):
    path = blow_up["line"][MEAN]
    assert np.allclose(np.diff(path.b), LR * C, rtol=1e-9)
    assert np.ptp(path.loss) < 1e-12
    assert blow_up["line"][FULL].b.max() < 1e-12


def test_the_optimizer_and_beta_change_the_line_as_predicted(blow_up):
    line, theory = blow_up["line"], blow_up["line theory"]
    for case in (MEAN, BETA, bias_blow_up.MOMENTUM, bias_blow_up.ADAM):
        assert np.allclose(line[case].b, theory[case], rtol=1e-5)
    assert line[BETA].b[-1] < C < line[MEAN].b[-1]
    assert line[BETA].loss[-1] < 0.6 * line[BETA].loss[0]


def test_two_balanced_classes_hardly_move_a_bias(blow_up):
    line = blow_up["line"]
    assert 0 < line[one_unit.BALANCED].b[-1] < 0.01 * line[MEAN].b[-1]


def test_with_both_constant_weights_grow_like_a_square_root(blow_up):
    root, theory = blow_up["root"], blow_up["root theory"]
    assert np.allclose(root.w, theory.w, rtol=0.005)
    assert np.allclose(root.b, C / (TAU - 1) * (root.w - 1), atol=1e-9)
    assert np.ptp(root.loss) < 1e-12


def test_statistics_outside_the_step_give_exponential_weights_and_no_progress(blow_up):
    rounds = blow_up["rounds"]
    assert np.allclose(rounds.w[1:] / rounds.w[:-1], TAU, rtol=1e-9)
    assert np.allclose(rounds.b, blow_up["rounds theory"].b, rtol=1e-9)
    assert np.allclose(rounds.loss, ((TAU - 1) ** 2 + C**2) / 2, rtol=1e-9)
    assert blow_up["converged"].max() < 1e-12


def test_in_networks_too_only_the_gradient_through_the_mean_protects(blow_up):
    for way, paths in blow_up["sigmoid"].items():
        for path in paths:
            growth = path.w[-1] / path.w[0]
            if way in (FULL, VAR):
                assert path.b[-1] < 1e-10
                assert path.late_loss < 0.6 * bias_blow_up.CHANCE
                assert growth < (1.3 if way == FULL else 3)
            elif way == BETA:
                assert path.late_loss < bias_blow_up.CHANCE
            else:
                assert path.b[-1] > 20
                assert path.late_loss > bias_blow_up.CHANCE
                assert growth > 3


def test_a_relu_network_with_frozen_statistics_blows_up_and_others_do_not(blow_up):
    relu = blow_up["relu"]
    for path in relu[OUTSIDE]:
        assert not math.isfinite(path.loss[-1]) or path.loss[-1] > 10
    for path in relu[FULL] + relu[NO_NORM]:
        assert path.loss.max() < 10
        assert path.w.max() < 2 * path.w[0]
    assert all(path.loss[-1] < 0.2 for path in relu[FULL])


def test_weights_are_orthogonal_to_their_gradient_under_full_batch_norm_only(blow_up):
    for way, cosines in blow_up["cosines"].items():
        assert max(cosines) < 1e-12 if way == FULL else min(cosines) > 0.1


# --- bias_is_redundant ----------------------------------------------------------------


def test_networks_with_and_without_a_bias_are_trained_alike(quick):
    pairs = quick(bias_is_redundant)[0]["pairs"]
    assert len(pairs) == 6
    for runs in pairs.values():
        for run in runs:
            with_b, without = run["losses"]
            assert np.allclose(with_b, without, rtol=0, atol=1e-10)
            assert run["apart"].max() < 1e-10
            assert without[-1] < 0.5 * without[0]


def test_a_dead_bias_drifts_under_adam_in_float32_and_not_otherwise(quick):
    drifts = quick(bias_is_redundant)[0]["drifts"]
    assert all(1e-3 < run[-1] < 0.2 for run in drifts["Adam", "float32"])
    assert all(run[-1] < 1e-8 for run in drifts["Adam", "float64"])
    assert all(run[-1] < 1e-6 for run in drifts["SGD", "float32"])


def test_a_bias_is_dead_only_where_the_mean_of_its_own_batch_is_subtracted(quick):
    liveliness = dict(quick(bias_is_redundant)[0]["liveliness"])
    for case in ("batch norm", "Var[x] constant"):
        assert liveliness.pop(case) < 1e-13
    assert len(liveliness) == 5
    assert min(liveliness.values()) > 0.05


# --- gamma_and_beta -------------------------------------------------------------------


def test_gamma_and_beta_recover_the_identity(quick):
    assert quick(gamma_and_beta)[0]["identity"] < 1e-13


def test_the_sigmoid_of_normal_values_is_nearly_straight(quick):
    measured = quick(gamma_and_beta)[0]
    assert measured["within 2"] == pytest.approx(0.954, abs=0.001)
    assert measured["straight"][1] == pytest.approx(0.984, abs=0.001)
    assert measured["straight"][4] == pytest.approx(0.838, abs=0.003)


@pytest.mark.parametrize("name", gamma_and_beta.TARGETS)
def test_without_gamma_and_beta_training_reaches_a_floor_that_they_pass(quick, name):
    measured, target = quick(gamma_and_beta)[0], gamma_and_beta.TARGETS[name]
    floor = measured["floor"][name]
    if name != "sin 3x":
        assert floor == pytest.approx(target.var(), rel=1e-9)
    for loss in gamma_and_beta.losses(measured, name, affine=False):
        assert floor * (1 - 1e-9) < loss < floor * 1.001
    for loss in gamma_and_beta.losses(measured, name, affine=True):
        assert loss < 0.5 * floor


# --- moving_averages ------------------------------------------------------------------


def test_averages_of_the_same_batch_follow_the_closed_form(quick):
    same = quick(moving_averages)[0]["same batch"]
    assert np.allclose(same["measured"], same["theory"], rtol=1e-10)
    assert np.ptp(same["measured"], axis=1).min() > 1


def test_the_running_mean_is_as_noisy_as_predicted(quick):
    for p, value in quick(moving_averages)[0]["spread"].items():
        assert value == pytest.approx(math.sqrt(p / (2 - p)) / math.sqrt(16), rel=0.1)


def test_evaluation_stays_away_from_training_by_half_over_the_batch_size(quick):
    measured = quick(moving_averages)[0]
    for (n, layers), gap in measured["gap"].items():
        assert gap[0] > 5 * gap[-1]
        assert gap[-1] == pytest.approx(layers / (2 * n), rel=0.2)
        if layers == 1:
            assert gap[-1] == pytest.approx(1 - math.sqrt((n - 1) / n), rel=1e-3)


def test_training_with_quick_averages_moves_biases_instead_of_the_loss(quick):
    training = quick(moving_averages)[0]["training"]
    for own, averages in zip(
        training[moving_averages.OWN], training[moving_averages.FAST]
    ):
        own_loss, loss = (late_loss(run["losses"]) for run in (own, averages))
        assert own_loss < 0.3
        assert loss > 5 * own_loss
        assert own["b"] < 1e-4
        assert averages["b"] > 1
