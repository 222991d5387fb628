"""The experiments on Figure 1, gradient flow, scale and noise."""

import math

import numpy as np
import pytest

import batch_noise
import covariate_shift
import draw_network
import gamma_and_beta
import gradient_flow
import learning_rates
import page
import residual_networks
import scale_invariance
from gradient_flow import theory
from parts.covariate_shift.plots import NORMAL_SPREAD, first_step
from parts.covariate_shift.run import Run
from parts.scale_invariance.stretched_layer import Layer
from support import data, mean_field
from support.command_line import folder, result_file
from support.ghost_batch_norm import GhostBatchNorm
from support.measures import relative_error
from support.networks import HE, batches, linears, predict
from tinygrad_bn import Tensor, nn

SCRIPTS = [covariate_shift, gradient_flow, scale_invariance, batch_noise]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_an_experiment_prints_its_tables_and_saves_its_picture(script, quick):
    measured, printed, folder = quick(script)
    assert script.report(measured) in printed
    assert (folder / f"{script.__name__}.png").stat().st_size > 10_000


# --- covariate_shift ------------------------------------------------------------------


@pytest.mark.slow
def test_the_figure_of_the_paper_says_if_it_does_not_show_mnist(quick):
    assert "data: digits; for MNIST, as in the paper" in quick(covariate_shift)[1]


def test_pixels_become_one_where_they_are_brighter_than_half(digits):
    raw, binary = data.digits(), covariate_shift.binary(digits)
    np.testing.assert_array_equal(binary.train_x, raw.train_x > 8)
    np.testing.assert_array_equal(binary.test_x, raw.test_x > 8)


def test_both_networks_begin_with_the_same_small_weights(digits):
    networks = [
        covariate_shift.network(64, 10, bn, np.random.default_rng(0))
        for bn in (False, True)
    ]
    layers = [linears(model) for model in networks]
    for without, with_bn in zip(*layers, strict=True):
        np.testing.assert_array_equal(without.weight.data, with_bn.weight.data)
        assert without.weight.data.std() == pytest.approx(0.1, rel=0.05)
    assert [layer.bias is None for layer in layers[1]] == [True, True, True, False]


def test_observing_a_network_changes_nothing_in_it(digits):
    model = covariate_shift.network(64, 10, True, np.random.default_rng(0))
    before = model.state_dict()
    _, percentiles = covariate_shift.observe(model, digits)
    assert model.training
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    spread = percentiles[2] - percentiles[0]
    assert np.median(spread) == pytest.approx(NORMAL_SPREAD, rel=0.05)


def test_the_spread_is_the_difference_of_the_outer_percentiles():
    percentiles = np.array([[[-1.0], [0.5], [1.0]], [[-2.0], [0.0], [4.0]]])
    run = Run(np.array([1, 2]), np.array([0.1, 0.9]), percentiles, lr=0.1)
    np.testing.assert_array_equal(run.spread, [[2], [6]])
    np.testing.assert_array_equal(run.growth, [3])
    np.testing.assert_array_equal(run.shift, [0.5])
    faster = run._replace(accuracy=np.array([0.9, 0.95]))
    assert first_step(faster, run.accuracy[-1]) == 1
    assert first_step(run, faster.accuracy[-1]) == "never"


@pytest.mark.slow
def test_inputs_of_sigmoids_spread_many_times_over_unless_they_are_normalized(quick):
    without, with_bn, *_ = quick(covariate_shift)[0].values()
    assert np.median(without.spread[0]) < 0.1
    assert np.median(without.growth) > 10
    assert np.median(with_bn.spread[0]) > 2
    assert np.median(with_bn.growth) < 2


@pytest.mark.slow
def test_batch_norm_gains_speed_more_than_final_accuracy(quick):
    without, with_bn, *_ = quick(covariate_shift)[0].values()
    fifth = len(without.steps) // 5
    assert with_bn.accuracy[fifth] > without.accuracy[fifth] + 0.5
    gained = with_bn.accuracy[fifth] - without.accuracy[fifth]
    assert 0.02 < with_bn.accuracy[-1] - without.accuracy[-1] < gained
    assert first_step(with_bn, without.accuracy[-1]) < without.steps[-1] / 5


@pytest.mark.slow
def test_at_a_high_learning_rate_the_network_without_batch_norm_is_fast_too(quick):
    runs = quick(covariate_shift)[0]
    without, high = runs["without"], runs["without, high"]
    assert first_step(high, 0.5) < first_step(without, 0.5)


# --- gradient_flow --------------------------------------------------------------------


def test_the_theory_of_the_factor_has_its_closed_forms():
    for sigma in (0.5, 3):
        assert theory("linear", True, sigma) == pytest.approx(1)
        assert theory("ReLU", True, sigma) == pytest.approx(math.pi / (math.pi - 1))
        assert theory("linear", False, sigma) == pytest.approx(sigma**2)
        assert theory("ReLU", False, sigma) == pytest.approx(sigma**2 / 2)
    # If h has such a small variance, tanh is nearly linear.
    assert theory("tanh", False, 0.1) == pytest.approx(0.01, rel=1e-6)
    assert theory("tanh", True, 1) == pytest.approx(1.1778, abs=1e-4)
    assert theory("sigmoid", True, 1) == pytest.approx(1.0336, abs=1e-4)


def test_the_theory_for_finite_batches_has_its_closed_form_and_its_limit():
    for batch in (4, 8, 128):
        linear = mean_field.finite_batch_factor(nn.Sequential(), batch)
        assert linear == pytest.approx((batch - 2) / (batch - 3), rel=1e-9)
    for activation in (nn.ReLU(), nn.Tanh(), nn.Sigmoid()):
        limit = mean_field.factor(activation, True, 1, 7, 24)
        factors = [mean_field.finite_batch_factor(activation, 2**k) for k in (3, 7, 20)]
        assert factors == sorted(factors, reverse=True)
        assert factors[-1] == pytest.approx(limit, rel=1e-5)
        assert min(factors) > 1


@pytest.mark.slow
def test_small_batches_explode_as_the_theory_for_finite_batches_says(quick):
    measured = quick(gradient_flow)[0]
    for case, expected in measured["batch theory"].items():
        assert measured["batches"][case] == pytest.approx(expected, rel=0.04)
    assert measured["batches"]["ReLU", 8] > 1.7


def test_a_layer_before_a_fixed_output_has_a_gradient_that_depends_on_its_scale():
    (h, w), (h_4, w_4) = (gradient_flow.fixed_output("ReLU", s, 0) for s in (1, 4))
    assert h_4 == pytest.approx(h / 4, rel=1e-9)
    assert w_4 == pytest.approx(w / 4, rel=1e-9)


@pytest.mark.slow
def test_without_batch_norm_the_factor_depends_on_the_initialization(quick):
    measured = quick(gradient_flow)[0]
    for activation in gradient_flow.ACTIVATIONS:
        found = measured["factors"][activation, False]
        assert found == pytest.approx(measured["theory"][activation, False], rel=0.03)
        assert found[1] > 1.2 * found[0]


@pytest.mark.slow
def test_with_batch_norm_the_factor_is_a_constant_of_the_activation(quick):
    measured = quick(gradient_flow)[0]
    for activation in gradient_flow.ACTIVATIONS:
        found = measured["factors"][activation, True]
        assert found == pytest.approx(measured["theory"][activation, True], rel=0.03)
        assert found[1] == pytest.approx(found[0], rel=1e-9)


@pytest.mark.slow
def test_batch_norm_makes_relu_networks_explode_mildly_and_he_alone_does_not():
    for seed in (1, 2):
        with_bn, without = (
            gradient_flow.factor(gradient_flow.gradient_profile("ReLU", bn, HE, seed))
            for bn in (True, False)
        )
        assert with_bn == pytest.approx(math.pi / (math.pi - 1), rel=0.03)
        assert without == pytest.approx(1, rel=0.03)


@pytest.mark.slow
def test_some_steps_of_training_undo_the_explosion(quick):
    (factors,) = quick(gradient_flow)[0]["early"].values()
    assert factors[0] == pytest.approx(math.pi / (math.pi - 1), rel=0.03)
    assert factors[2] < 1.2
    assert factors[5] < 1.1


@pytest.mark.slow
def test_five_sigmoid_layers_learn_with_batch_norm_only_and_relu_layers_anyhow(quick):
    accuracy = quick(gradient_flow)[0]["accuracy"]
    assert accuracy["sigmoid", False, 5, 1, 0.5] < 0.2
    assert accuracy["sigmoid", True, 5, 1, 0.5] > 0.8
    for bn in (False, True):
        assert accuracy["ReLU", bn, 5, HE, 0.1] > 0.8


def test_all_trained_networks_come_with_batch_norm_and_without():
    cases = gradient_flow.trained_cases(quick=False)
    assert ("sigmoid", False, 5, 4, 0.5) in cases
    assert ("ReLU", True, 20, HE, 0.01) in cases
    assert {(a, not bn, *rest) for a, bn, *rest in cases} == set(cases)


# --- scale_invariance -----------------------------------------------------------------


@pytest.mark.slow
def test_only_eps_makes_the_scale_of_weights_matter(quick):
    for found in quick(scale_invariance)[0]["invariance"].values():
        assert max(found) < 1e-12
    layer = Layer(seed=0)
    (y, d_w, _), (y_a, d_aw, _) = layer.run(eps=1), layer.run(3, eps=1)
    assert relative_error(y_a, y) > 0.01
    assert relative_error(3 * d_aw, d_w) > 0.01


@pytest.mark.slow
def test_the_gradient_has_the_radial_part_that_eps_gives_it(quick):
    radial = dict(quick(scale_invariance)[0]["radial"])
    assert np.abs(radial.pop(0.0)[0]).max() < 1e-14
    for eps, (cosine, formula) in radial.items():
        np.testing.assert_allclose(cosine, formula, rtol=1e-6, atol=1e-15)
        assert np.abs(cosine).max() > 1e-3 * min(eps, 1)
        assert (cosine > 0).any()
        assert (cosine < 0).any()


@pytest.mark.slow
def test_under_sgd_weights_grow_by_pythagoras_and_never_shrink(quick):
    for path in quick(scale_invariance)[0]["rates"].values():
        np.testing.assert_allclose(path.size, path.pythagoras, rtol=1e-12)
        assert (np.diff(path.size) > 0).all()


@pytest.mark.slow
def test_the_effective_learning_rate_of_too_large_a_rate_decays_most(quick):
    first, last = zip(
        *(p.effective_lr[[0, -1]] for p in quick(scale_invariance)[0]["rates"].values())
    )
    assert first[2] == pytest.approx(100 * first[0])
    assert last[2] < 10 * last[0]
    assert all(np.diff(np.divide(last, first)) < 0)


@pytest.mark.slow
def test_the_losses_of_a_times_w_with_a_squared_times_lr_are_the_same(quick):
    measured = quick(scale_invariance)[0]
    reference = measured["rates"][scale_invariance.LR].loss
    assert len(measured["scaled"]) == 3
    for path in measured["scaled"].values():
        np.testing.assert_allclose(path.loss, reference, rtol=1e-9)
    assert np.abs(measured["same rate"].loss - reference).max() > 0.1
    assert reference[-1] < 0.2 * reference[0]


# --- batch_noise ----------------------------------------------------------------------


@pytest.mark.slow
def test_the_mean_of_n_values_has_std_sigma_over_the_root_of_n(quick):
    n, found = np.array(batch_noise.SIZES), quick(batch_noise)[0]["error of mean"]
    np.testing.assert_allclose(found, batch_noise.S / np.sqrt(n), rtol=0.05)


@pytest.mark.slow
def test_batch_noise_shrinks_what_is_learned_by_the_expected_deviation(quick):
    assert batch_noise.expected_shrinkage(2) == pytest.approx(1 / math.sqrt(math.pi))
    assert batch_noise.expected_shrinkage(3) == pytest.approx(math.sqrt(math.pi / 6))
    found = quick(batch_noise)[0]["shrinkage"]
    expected = [batch_noise.expected_shrinkage(n) for n in batch_noise.SIZES]
    np.testing.assert_allclose(found, expected, rtol=0.015)
    assert max(found) < 1


@pytest.mark.slow
def test_a_batch_of_two_is_normalized_to_the_sign_of_the_difference(quick):
    d = batch_noise.PAIRS
    pairs = quick(batch_noise)[0]["pairs"]
    for eps, x_hat in pairs.items():
        np.testing.assert_allclose(x_hat, d / np.sqrt(d**2 + eps), rtol=1e-12)
    distant = np.abs(d) > 0.03
    np.testing.assert_allclose(pairs[1e-5][distant], np.sign(d)[distant], atol=0.01)


@pytest.mark.slow
def test_the_gradient_of_a_batch_of_two_is_left_only_if_its_rows_nearly_agree(quick):
    for eps, (left, expected) in quick(batch_noise)[0]["pair gradients"].items():
        np.testing.assert_allclose(left, expected, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(expected, eps / (batch_noise.PAIRS**2 + eps))
    left, _ = batch_noise.gradient_of_pairs(1e-5)
    distance = np.abs(batch_noise.PAIRS)
    assert left[distance > 0.35].max() < 1e-4
    assert left[distance < 3e-4].min() > 0.99


def test_groups_are_normalized_separately_and_a_single_group_is_the_batch():
    x = np.random.default_rng(0).normal(3, 2, (12, 5)).astype(np.float32)
    plain, whole = nn.BatchNorm(5), GhostBatchNorm(5, 12)
    thirds = GhostBatchNorm(5, 4)
    for mode in (True, False):
        y, same, _ = (m.train(mode)(Tensor(x)).data for m in (plain, whole, thirds))
        np.testing.assert_allclose(same, y, atol=1e-6)
    np.testing.assert_allclose(whole.running_var, plain.running_var, rtol=1e-6)
    groups = thirds.train()(Tensor(x)).data.reshape(3, 4, 5)
    np.testing.assert_allclose(groups.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(groups.std(axis=1), 1, atol=1e-4)


def test_a_batch_that_does_not_split_into_ghosts_is_an_error():
    with pytest.raises(ValueError) as error:
        GhostBatchNorm(5, 4)(Tensor(np.zeros((6, 5), np.float32)))
    assert str(error.value) == (
        "GhostBatchNorm: a batch must split into groups of 4, but 6 rows were "
        "received. Take a multiple of 4."
    )


def test_ghost_batches_accept_no_option_of_batch_norm_that_they_would_ignore():
    for option in ({"affine": False}, {"constants": ("mean",)}, {"axes": (1,)}):
        with pytest.raises(TypeError, match=f"argument '{next(iter(option))}'"):
            GhostBatchNorm(5, 4, **option)


@pytest.mark.slow
def test_groups_of_two_make_worse_classifiers_in_every_seed(digits):
    errors = batch_noise.test_errors(digits, 15, (128, 2), range(3))
    for optimizer in batch_noise.OPTIMIZERS:
        assert (errors[optimizer, 2] > errors[optimizer, 128] + 0.1).all()


@pytest.mark.slow
def test_a_quick_run_trains_one_classifier_of_each_kind(quick):
    measured = quick(batch_noise)[0]
    for (_, group), added in measured["added errors"].items():
        assert added.shape == (1,)
        assert (group == 128) == (added == 0).all()


# --- The command line and batches -----------------------------------------------------


@pytest.mark.parametrize(
    ("option", "text", "demand"),
    [
        ("--steps", "x", "must be a whole number of at least 1"),
        ("--steps", "0", "must be a whole number of at least 1"),
        ("--seed", "-1", "must be a whole number of at least 0"),
        ("--lr", "-1", "must be a number of at least 0"),
        ("--lr", "nan", "must be a number of at least 0"),
    ],
)
def test_a_nonsensical_option_is_refused_in_one_line(capsys, option, text, demand):
    with pytest.raises(SystemExit):
        covariate_shift.main([option, text])
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(f"argument {option}: {demand}, but {text!r} was received")


@pytest.mark.parametrize(
    ("script", "option", "name", "demand"),
    [
        (gamma_and_beta, "--out", "file", "must be a folder to write to"),
        (draw_network, "--out", "file/new", "must be a folder to write to"),
        (page, "--out", "file", "must be a folder to write to"),
        (learning_rates, "--json", "folder", "must be a file to write to"),
        (learning_rates, "--json", "", "must be a file to write to"),
        (residual_networks, "--json", "file/x.json", "must be a file to write to"),
    ],
)
def test_a_path_for_results_is_refused_before_anything_is_measured(
    tmp_path, monkeypatch, capsys, script, option, name, demand
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("my work", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SystemExit):
        script.main([option, name])
    *_, error = capsys.readouterr().err.splitlines()
    assert f"argument {option}: {demand}, but {name!r} was received: " in error
    assert (tmp_path / "file").read_text(encoding="utf-8") == "my work"


def test_the_default_folder_is_checked_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").write_text("", encoding="utf-8")
    with pytest.raises(SystemExit):
        gamma_and_beta.main([])
    assert "argument --out: must be a folder to write to" in capsys.readouterr().err


def test_checking_a_path_for_results_changes_nothing(tmp_path):
    old = tmp_path / "old.json"
    old.write_text("{}", encoding="utf-8")
    assert folder(str(tmp_path / "a" / "b")) == tmp_path / "a" / "b"
    assert result_file(str(tmp_path / "c" / "new.json")).name == "new.json"
    assert result_file(str(old)) == old
    assert [*tmp_path.iterdir()] == [old]
    assert old.read_text(encoding="utf-8") == "{}"


def test_a_folder_without_mnist_is_named_in_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"^\S+: error: MNIST: .* must contain"):
        covariate_shift.main(["--mnist-dir", str(tmp_path)])


def test_a_batch_larger_than_the_training_data_is_an_error(digits):
    n = len(digits.train_y)
    expected = (
        f"batches: batch_size must be at most the {n} training rows, but {n + 1} was "
        "received. Use smaller batches."
    )
    with pytest.raises(ValueError) as error:
        next(batches(digits, n + 1, 1, np.random.default_rng(0)))
    assert str(error.value) == expected


@pytest.mark.parametrize("training", [True, False])
def test_predictions_are_made_in_evaluation_mode_and_leave_the_mode_alone(training):
    x = np.array([[3.0, 1.0], [5.0, 4.0], [9.0, 8.0]])
    model = nn.BatchNorm(2, dtype=float).train(training)
    np.testing.assert_array_equal(predict(model, x), [0, 0, 0])
    assert model.training == training
    # By the statistics of the batch, the second class of the second row is ahead.
    np.testing.assert_array_equal(
        model.train()(Tensor(x)).data.argmax(axis=1), [0, 1, 0]
    )


@pytest.mark.parametrize("steps", [5, 20, 30, 150])
def test_all_steps_are_taken_and_observed_at_most_twenty_steps_apart(digits, steps):
    run = covariate_shift.train(digits, 0, steps, True, 0.0)
    assert run.steps[-1] == steps
    assert max(np.diff(run.steps, prepend=0)) <= 20
