"""Layer norm, skip connections, learning rates, decay, accumulation, and geometry."""

import json
import math

import numpy as np
import pytest

import batch_or_layer
import geometry
import gradient_accumulation
import learning_rates
import make_gallery
import residual_networks
import weight_decay
from parts.batch_or_layer.theory import factor_in_theory, similarity_in_theory
from parts.batch_or_layer.variants import AFTER, BATCH, LAYER, NONE
from parts.gradient_accumulation.norms import FROZEN, GHOST
from parts.residual_networks.theory import growth_in_theory
from support.command_line import parse
from support.ghost_batch_norm import GhostBatchNorm
from support.json_file import add_json_option, save_json
from support.networks import HE
from tinygrad_bn import Tensor, nn

SCRIPTS = [
    batch_or_layer,
    residual_networks,
    learning_rates,
    weight_decay,
    gradient_accumulation,
    geometry,
]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_an_experiment_prints_its_tables_and_saves_its_picture(script, quick):
    measured, printed, folder = quick(script)
    assert script.report(measured) in printed
    assert (folder / f"{script.__name__}.png").stat().st_size > 10_000


# --- batch_or_layer -------------------------------------------------------------------


def test_the_theory_of_both_norms_has_its_closed_forms():
    def theory(activation, norm, sigma=3.0, beta=0.0):
        return factor_in_theory(activation, norm, sigma, beta, 7, 24)

    assert theory("ReLU", BATCH) == pytest.approx(math.pi / (math.pi - 1))
    assert theory("ReLU", LAYER) == pytest.approx(1)
    assert theory("linear", LAYER) == theory("linear", BATCH) == pytest.approx(1)
    # tanh is odd, so its mean is 0, and both norms divide by the same.
    assert theory("tanh", LAYER) == pytest.approx(theory("tanh", BATCH))
    assert theory("sigmoid", LAYER) == pytest.approx(0.1528, abs=1e-4)
    assert theory("ReLU", NONE) == pytest.approx(4.5)
    assert theory("tanh", AFTER, sigma=1.0) == pytest.approx(theory("tanh", BATCH))
    # Far to the right of its kink, ReLU is linear.
    assert theory("ReLU", BATCH, beta=6.0) == pytest.approx(1, abs=1e-6)


def test_rows_without_a_common_direction_become_alike_after_layer_norm():
    theory = similarity_in_theory(500)
    assert theory[0] == 0
    assert theory[1] == pytest.approx(1 / math.pi)
    assert (np.diff(theory) > 0).all()
    assert theory[-1] > 0.999


def test_similarity_is_the_mean_cosine_of_two_different_rows():
    rows = np.random.default_rng(0).standard_normal((5, 3))
    cosines = [
        rows[i] @ rows[j] / (np.linalg.norm(rows[i]) * np.linalg.norm(rows[j]))
        for i in range(5)
        for j in range(5)
        if i != j
    ]
    assert batch_or_layer.similarity(rows) == pytest.approx(np.mean(cosines))


@pytest.mark.slow
def test_the_factor_of_each_norm_is_that_of_the_theory_for_every_scale(quick):
    measured = quick(batch_or_layer)[0]
    for case, found in measured["factors"].items():
        assert found == pytest.approx(measured["theory"][case], rel=0.08), case
    for activation in ("linear", "ReLU", "tanh", "sigmoid"):
        for norm in (BATCH, LAYER):
            one, two = (
                measured["factors"][activation, norm, sigma, 0.0]
                for sigma in measured["sigmas"]
            )
            assert one == pytest.approx(two, rel=1e-9)


@pytest.mark.slow
def test_batch_norm_explodes_relu_networks_and_layer_norm_sigmoid_networks_vanish(
    quick,
):
    factors = quick(batch_or_layer)[0]["factors"]
    assert 1.4 < factors["ReLU", BATCH, HE, 0.0] < 1.55
    assert 0.9 < factors["ReLU", LAYER, HE, 0.0] < 1.1
    assert 1 < factors["sigmoid", BATCH, HE, 0.0] < 1.1
    assert 0.1 < factors["sigmoid", LAYER, HE, 0.0] < 0.2
    assert factors["ReLU", BATCH, HE, 1.0] < 1.2
    assert factors["tanh", AFTER, 2, 0.0] > 1.15 * factors["tanh", AFTER, HE, 0.0]


@pytest.mark.slow
def test_rows_become_alike_with_layer_norm_and_not_with_batch_norm(quick):
    similarity = quick(batch_or_layer)[0]["similarity"]
    assert similarity["ReLU", LAYER, HE, 0.0][-1] > 0.9
    assert 0.2 < similarity["ReLU", BATCH, HE, 0.0][-1] < 0.45


# --- residual_networks ----------------------------------------------------------------


def test_the_theory_of_residual_networks_has_its_closed_forms():
    layer = growth_in_theory(LAYER, True, HE, 64)
    assert layer[0] == pytest.approx(65)
    assert layer[-1] == 1
    assert growth_in_theory(NONE, True, HE, 10)[0] == pytest.approx(2**10)
    factor = math.pi / (math.pi - 1)
    without_skip = growth_in_theory(BATCH, False, HE, 10)
    np.testing.assert_allclose(without_skip[1:], factor ** np.arange(9, -1, -1.0))
    # The factor of block l is nearly 1 + factor / l, whatever sigma is.
    for sigma in (0.5, 3):
        growth = growth_in_theory(BATCH, True, sigma, 2001)
        expected = 1 + factor / 2000
        assert growth[2000] / growth[2001] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_skip_connections_make_the_explosion_polynomial(quick):
    measured = quick(residual_networks)[0]
    for norm in (BATCH, LAYER):
        found = measured["growth"][norm, True, HE]
        np.testing.assert_allclose(found, measured["theory"][norm, True, HE], rtol=0.25)
    assert 170 < measured["growth"][BATCH, True, HE][0] < 300
    assert measured["growth"][BATCH, False, HE][0] > 1e9
    assert measured["growth"][NONE, True, HE][0] > 1e18


# --- learning_rates -------------------------------------------------------------------


@pytest.mark.slow
def test_batch_norm_learns_for_more_rates_and_scales(quick):
    measured = quick(learning_rates)[0]
    found, scales = measured["accuracy"], measured["scales"]
    assert (measured["rates"], scales) == ((0.003, 0.1, 3), (0.03, 1))
    # The rounding of BLAS differs between processors, and without batch norm it decides
    # how far training gets: with six of OpenBLAS's kernels, to 0.45 to 0.78.
    assert 0.4 < found[False, 0.1, 1] < found[True, 0.1, 1] - 0.05
    assert all(found[True, rate, scale] > 0.8 for rate in (0.1, 3) for scale in scales)
    for case in ((3, 1), (0.003, 0.03), (0.1, 0.03), (3, 0.03)):
        assert found[(False, *case)] < 0.3
    assert found[True, 0.003, 1] < found[True, 0.1, 1] - 0.2


def test_only_hidden_weights_are_scaled():
    one, ten = (
        learning_rates.network((4, 3, 2), True, scale, np.random.default_rng(0))
        for scale in (1, 10)
    )
    np.testing.assert_allclose(ten[0].weight.data, 10 * one[0].weight.data)
    np.testing.assert_array_equal(ten[-1].weight.data, one[-1].weight.data)


# --- weight_decay ---------------------------------------------------------------------


@pytest.mark.slow
def test_with_batch_norm_decay_sets_the_angle_of_a_step(quick):
    measured = quick(weight_decay)[0]
    four_times = measured[weight_decay.FOUR_TIMES]
    expected = weight_decay.FOUR_TIMES.theory
    assert expected == pytest.approx(0.2)
    assert four_times.final_angle == pytest.approx(expected, rel=0.05)
    assert four_times.size[-1] < four_times.size[0] / 4
    # Without decay, |W| grows.
    size = measured[weight_decay.NO_DECAY].size
    assert size[0] < size[len(size) // 2] < 1.1 * size[0]


def test_the_angle_is_that_between_columns():
    before = [np.eye(2)]
    after = [np.array([[math.cos(0.1), 0], [math.sin(0.1), 1]])]
    expected = math.sqrt((0.1**2 + 0) / 2)
    assert weight_decay.rms_angle(before, after) == pytest.approx(expected)


# --- gradient_accumulation ------------------------------------------------------------


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_batch_only_if_rows_are_independent(
    quick,
):
    deviations = quick(gradient_accumulation)[0]["deviations"]
    for norm in (NONE, LAYER, FROZEN, GHOST):
        assert deviations[norm][0].max() < 1e-12
        assert deviations[norm][1].min() > 1 - 1e-12
    assert deviations[BATCH][0].min() > 0.15


@pytest.mark.slow
def test_each_pass_updates_the_running_statistics(quick):
    measured = quick(gradient_accumulation)[0]
    assert measured["updates"] == {2: 64, 16: 8, 128: 1}


@pytest.mark.slow
def test_a_network_does_not_learn_from_pairs(quick):
    accuracy = quick(gradient_accumulation)[0]["accuracy"]
    assert accuracy[GHOST, 2] < accuracy[GHOST, 16] - 0.1


def test_ghost_batches_are_normalized_and_averaged_like_batches():
    x = np.random.default_rng(0).normal(3, 2, (12, 5))
    ghost = GhostBatchNorm(5, 4, per_group=True, dtype=np.float64)
    plain = nn.BatchNorm(5, dtype=np.float64)
    y = ghost(Tensor(x)).data
    expected = np.concatenate([plain(Tensor(x[i : i + 4])).data for i in (0, 4, 8)])
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    np.testing.assert_allclose(ghost.running_mean, plain.running_mean)
    np.testing.assert_allclose(ghost.running_var, plain.running_var)
    np.testing.assert_allclose(
        ghost.eval()(Tensor(x)).data, plain.eval()(Tensor(x)).data
    )


# --- geometry -------------------------------------------------------------------------


def test_the_picture_shows_two_projections_and_a_scale():
    found = geometry.backward(geometry.X, geometry.G, geometry.GAMMA)
    ones = np.ones(3)
    np.testing.assert_allclose(found.g, geometry.G)
    np.testing.assert_allclose(found.through_mean, -np.mean(geometry.G) * ones)
    expected = -found.x_hat * np.mean(found.g * found.x_hat)
    np.testing.assert_allclose(found.through_var, expected)
    left = found.g + found.through_mean + found.through_var
    np.testing.assert_allclose(found.scale * left, found.d_x)
    assert found.scale == pytest.approx(geometry.GAMMA / np.std(geometry.X))
    assert abs(found.d_x @ ones) < 1e-15
    assert abs(found.d_x @ found.x_hat) < 1e-15
    assert np.linalg.norm(found.x_hat) == pytest.approx(math.sqrt(3))


@pytest.mark.parametrize("n", [2, 3, 100])
def test_of_n_directions_all_but_two_are_left(n):
    rng = np.random.default_rng(1)
    found = np.array([geometry.compare(n, rng) for _ in range(300)])
    assert found[:, :3].max() < 1e-10
    assert np.sqrt((found[:, 3] ** 2).mean()) == pytest.approx(
        math.sqrt((n - 2) / n), abs=0.03
    )


# --- json_file ------------------------------------------------------------------------


def test_measured_numbers_are_saved_as_json_that_every_parser_reads(tmp_path):
    path = tmp_path / "new folder" / "measured.json"
    parser = learning_rates.experiment_options("What?")
    add_json_option(parser)
    numbers = {
        "list": [np.float32(1 / 3), math.nan, math.inf],
        "array": np.array([[1.0, 2e-9]]),
        "flags": {True: np.int64(3)},
        "text": "a",
    }
    save_json(numbers, parse(parser, ["--json", str(path)]))
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "list": [0.3333, None, None],
        "array": [[1, 2e-9]],
        "flags": {"True": 3},
        "text": "a",
    }
    save_json(numbers, parse(parser, []))
    assert [*tmp_path.iterdir()] == [path.parent]


@pytest.mark.parametrize("script", [batch_or_layer, residual_networks, learning_rates])
@pytest.mark.slow
def test_the_committed_numbers_are_those_of_a_full_run(script, quick):
    folder = f"parts/{script.__name__}"
    path = make_gallery.EXAMPLES / folder / "measured.json"
    committed = json.loads(path.read_text(encoding="utf-8"))
    fresh = script.numbers(quick(script)[0])
    assert committed.keys() == fresh.keys()
    assert committed["networks"][0].keys() == fresh["networks"][0].keys()
    assert len(committed["networks"]) > len(fresh["networks"])
