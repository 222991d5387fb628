"""The experiments on the loss landscape, the backward pass by hand and diagnostics."""

import copy
import re

import numpy as np
import pytest

import backward_by_hand
import diagnostics
import loss_landscape
import tinygrad_bn as tg
import two_definitions
from parts.backward_by_hand import exercise
from parts.backward_by_hand.plots import drawing
from parts.diagnostics.plots import growth
from parts.loss_landscape.noisy_batch_norm import Noise
from parts.two_definitions import memory, second_order
from support.layers import layers
from support.networks import batches
from tinygrad_bn import Tensor, nn, optim

# --- loss_landscape.py ----------------------------------------------------------------


@pytest.fixture(scope="module")
def landscapes(digits, quick):
    """Two seeds, of which one comes from the command line."""
    (first,), _, folder = quick(loss_landscape)
    assert (folder / "loss_landscape.png").stat().st_size > 10_000
    return first, loss_landscape.measure(digits, seed=1, steps=100)


@pytest.mark.slow
def test_without_batch_norm_the_loss_varies_ten_times_as_much(landscapes):
    for run in landscapes:
        assert run["ratios"]["loss variation, 8 layers"] > 10


@pytest.mark.slow
def test_without_batch_norm_the_gradient_changes_three_times_as_much(landscapes):
    for run in landscapes:
        assert run["ratios"]["gradient predictiveness, 8 layers"] > 3


@pytest.mark.slow
def test_without_batch_norm_the_gradient_changes_more_relative_to_the_step_too(
    landscapes,
):
    for run in landscapes:
        assert run["ratios"]["effective smoothness, 3 layers"] > 1.3


@pytest.mark.slow
def test_noise_moves_the_inputs_of_sigmoids_and_does_no_harm(landscapes):
    for run in landscapes:
        without, norm, noisy = run["noise"].values()
        assert abs(noisy["accuracy"] - norm["accuracy"]) < 0.03
        assert min(noisy["accuracy"], norm["accuracy"]) > without["accuracy"] + 0.2
        assert (noisy["moved"] > 2 * without["moved"]).all()
        assert (norm["moved"] < 0.1 * without["moved"]).all()


@pytest.mark.slow
def test_relative_to_its_spread_the_last_layer_without_batch_norm_moves_most(
    landscapes,
):
    for run in landscapes:
        without, _, noisy = run["noise"].values()
        assert (noisy["in stds"] > without["in stds"])[:2].all()
        assert noisy["in stds"][2] < without["in stds"][2]


@pytest.mark.parametrize("quick_option", [[], ["--quick"]])
def test_a_single_step_is_refused_because_nothing_moves_in_it(capsys, quick_option):
    with pytest.raises(SystemExit):
        loss_landscape.main(["--steps", "1", *quick_option])
    assert capsys.readouterr().err.endswith(
        "argument --steps: must be a whole number of at least 2, but '1' was received\n"
    )


def trained(digits, kind, look):
    """The state after a few steps, with or without looking ahead before each."""
    model = loss_landscape.network(digits, 2, nn.ReLU, kind, seed=0)
    sgd = optim.SGD(model.parameters(), lr=0.1)
    for x, y in batches(digits, 128, 4, np.random.default_rng(0)):
        if look:
            loss_landscape.look_ahead(model, sgd, x, y)
        loss_landscape.gradient(model, sgd, x, y)
        sgd.step()
    return model.state_dict()


@pytest.mark.parametrize("kind", ["without", "batch norm"])
def test_looking_ahead_changes_nothing_not_even_the_running_statistics(digits, kind):
    looked, blind = (trained(digits, kind, look) for look in (True, False))
    assert looked.keys() == blind.keys()
    for name in looked:
        np.testing.assert_array_equal(looked[name], blind[name], err_msg=name)


def test_looking_ahead_finds_what_the_steps_themselves_find(digits):
    model = loss_landscape.network(digits, 2, nn.Tanh, "batch norm", seed=0)
    x, y = Tensor(digits.train_x[:64]), digits.train_y[:64]

    def at(length):
        twin = copy.deepcopy(model)
        sgd = optim.SGD(twin.parameters(), lr=length)
        loss_landscape.gradient(twin, sgd, x, y)
        sgd.step()
        return loss_landscape.gradient(twin, sgd, x, y)

    _, g = at(0)
    losses, gradients = zip(*(at(0.1 * length) for length in loss_landscape.LENGTHS))
    changes = [np.linalg.norm(h - g) for h in gradients]
    distances = 0.1 * loss_landscape.LENGTHS * np.linalg.norm(g)
    sgd = optim.SGD(model.parameters(), lr=0.1)
    np.testing.assert_allclose(
        loss_landscape.look_ahead(model, sgd, x, y),
        (min(losses), max(losses), max(changes), max(changes / distances)),
        rtol=1e-5,
    )
    assert min(distances) == pytest.approx(max(distances) / 8)


def test_noise_has_the_mean_and_the_spread_of_the_paper_and_stops_in_evaluation():
    noise = Noise(np.random.default_rng(0))
    calls = [noise(Tensor(np.ones((50, 400)))).data - 1 for _ in range(20)]
    # One center per unit and call, U(-0.5, 0.5) + U(1, 1.25) - 1.
    centers = np.mean(calls, axis=1)
    assert centers.mean() == pytest.approx(0.125, abs=0.01)
    assert centers.std() == pytest.approx(np.sqrt(1 / 12 + 0.25**2 / 12), rel=0.03)
    # Samples vary around the centers by U(-0.1, 0.1) + N(0, 0.1^2).
    spread = (calls - centers[:, None]).std()
    assert spread == pytest.approx(np.sqrt(0.2**2 / 12 + 0.1**2), rel=0.03)
    x = Tensor(np.ones((3, 4)))
    assert noise.eval()(x) is x


# --- backward_by_hand.py --------------------------------------------------------------


@pytest.fixture(scope="module")
def by_hand(quick):
    found, _, folder = quick(backward_by_hand)
    assert (folder / "backward_by_hand.png").stat().st_size > 10_000
    assert (folder / "backward_on_the_graph.svg").stat().st_size > 10_000
    return found


@pytest.mark.slow
def test_every_cotangent_by_hand_is_the_engines(by_hand):
    assert list(by_hand["steps"]) == [
        "y", "beta", "gamma", "x_hat", "inv_std", "var", "x_c", "mean", "x",
    ]  # fmt: skip
    for size, difference in by_hand["steps"].values():
        assert difference <= 1e-13 * size
        assert size > 0.01


@pytest.mark.slow
def test_the_three_parts_are_the_routes_and_their_sum_is_the_fused_backward(by_hand):
    for name, difference in by_hand["differences"].items():
        assert difference < 1e-12 * np.abs(by_hand["terms"][name]).max()


def test_the_mean_part_removes_the_ones_and_the_variance_part_removes_x_hat(by_hand):
    ones, x_hat = by_hand["along ones"], by_hand["along x_hat"]
    scale = np.abs(ones["direct"])
    np.testing.assert_allclose(ones["mean"] / ones["direct"], -1, rtol=1e-12)
    assert (np.abs(ones["variance"]) < 1e-12 * scale).all()
    assert (np.abs(x_hat["mean"]) < 1e-12 * scale).all()
    # The fraction that is left is eps / (var + eps), here about 1e-3.
    left = x_hat["total"] / x_hat["direct"]
    np.testing.assert_allclose(left, by_hand["left"], rtol=1e-8)
    assert (by_hand["left"] > 1e-4).all()


def test_the_graph_names_its_gradients_as_in_the_derivation():
    example = backward_by_hand.worked_example(0)
    text = drawing(*example, "light").source
    for name in ("direct", "mean", "variance"):
        assert f"{name} part" in text
    for name in ("d_x_hat", "d_var", "d_mean"):
        assert name in text


def test_in_float32_one_pass_is_noise_and_centering_again_is_exact(by_hand):
    far = by_hand["float32"][1e4]
    assert 0.3 < far["negative variances"] < 0.7
    assert far["one pass"] > 100
    assert 1e-3 < far["two passes"] < 2e-2
    assert far["centered again"] < 1e-5
    methods = ("one pass", "two passes", "centered again")
    assert max(by_hand["float32"][1.0][method] for method in methods) < 1e-5
    # Where the variance is taken for 0, x_hat is (x - mean) / sqrt(eps).
    assert 0.5 < far["one pass"] / far["ceiling"] < 1.01
    assert far["ceiling"] == pytest.approx(4 / 1e-5**0.5, rel=0.2)


# --- two_definitions.py ---------------------------------------------------------------


def arrays_held(batch_norm):
    return memory.held(two_definitions.of_shape(batch_norm, (60, 100), "float32"))


def test_the_fused_operation_reads_again_its_centered_input_and_two_rows():
    held = arrays_held(tg.fused_batch_norm)
    assert [(a.name, a.size) for a in held if a.readers] == [
        ("x - E[x]", 60 * 100 * 4),
        ("1 / sqrt(Var[x] + eps)", 100 * 4), ("gamma / sqrt(Var[x] + eps)", 100 * 4),
    ]  # fmt: skip
    assert [(a.name, a.size) for a in held if not a.readers] == [
        ("E[x]", 400), ("Var[x]", 400), ("y", 24000)
    ]  # fmt: skip


def test_the_graph_holds_every_result_and_reads_some_of_them_again():
    held = arrays_held(tg.batch_norm)
    assert len(held) == 15
    by_name = {a.name: a for a in held}
    assert by_name["sub"].readers == ["power", "mul"]
    assert by_name["x_hat"].readers == ["mul"]
    for name in ("E[x]", "Var[x]", "y"):
        assert by_name[name].readers == []
    # A broadcast row that is a view takes no memory of its own.
    assert {a.size for a in held if a.shape == (60, 100)} == {0, 24000}


def test_where_gamma_is_0_recovering_x_hat_fails_and_both_definitions_work():
    found = second_order.gamma_at_zero()
    for d, d_d in (found["graph"], found["fused"]):
        np.testing.assert_allclose(d, found["expected"][0], rtol=1e-12)
        np.testing.assert_allclose(d_d, found["expected"][1], rtol=1e-12)
        assert np.abs(d_d).min() > 0.01
    assert np.isnan(found["x_hat = (y - beta) / gamma"]).all()


def test_the_shape_option_lists_arrays_and_draws_nothing(tmp_path, capsys):
    options = ["--shape", "60,100", "--dtype", "float32", "--out", str(tmp_path)]
    two_definitions.main(options)
    printed = capsys.readouterr().out
    assert printed.count("read again, in all") == 2
    assert not list(tmp_path.iterdir())
    with pytest.raises(SystemExit):
        two_definitions.main(["--shape", "60"])
    assert capsys.readouterr().err.endswith(
        "argument --shape: must be rows and features, such as 60,100, but '60' was "
        "received\n"
    )


def test_a_shape_that_would_not_fit_into_memory_is_refused(capsys):
    with pytest.raises(SystemExit):
        two_definitions.main(["--shape", "1000000,1000000"])
    assert capsys.readouterr().err.endswith(
        "argument --shape: must be a batch of at most 10,000,000 values, but "
        "'1000000,1000000' was received\n"
    )


# --- The exercise ---------------------------------------------------------------------

DIRECT, MEAN = "gamma * inv_std * g", "gamma * inv_std * g.mean(axis=0)"
VARIANCE = "gamma * inv_std * x_hat * (g * x_hat).mean(axis=0)"
RIGHT = f"{DIRECT} - {MEAN} - {VARIANCE}"


def check(tmp_path, d_x):
    path = tmp_path / "mine.py"
    exercise.write(path)
    template = path.read_text(encoding="utf-8")
    assert template.count("return ...") == 1
    path.write_text(template.replace("return ...", f"return {d_x}"), encoding="utf-8")
    return backward_by_hand.main(["--check", str(path)])


@pytest.mark.parametrize(
    ("d_x", "direct", "mean", "variance"),
    [
        (RIGHT, "right", "right", "right"),
        (
            "gamma * inv_std * (g - g.mean(axis=0) - x_hat * (g * x_hat).mean(axis=0))",
            "right", "right", "right",
        ),
        (f"-{MEAN} - {VARIANCE}", "wrong: it is missing: ", "right", "right"),
        (f"{DIRECT} - {VARIANCE}", "right", "wrong: it is missing: ", "right"),
        (f"{DIRECT} - {MEAN}", "right", "right", "wrong: it is missing: "),
        (f"{DIRECT} + {MEAN} - {VARIANCE}", "right", "wrong: it has the", "right"),
        (f"{DIRECT} - {MEAN} - 2 * {VARIANCE}", "right", "right", "wrong: it is there"),
        (RIGHT.replace("g.mean", "g.sum"), "right", "wrong: divide by m:", "right"),
        (f"{RIGHT} - {VARIANCE} / 5", "right", "right", "wrong: divide by m, not"),
        (f"({RIGHT}) / gamma", *3 * ["wrong: gamma is missing"]),
        (f"({RIGHT}) / inv_std", *3 * ["wrong: inv_std is missing"]),
        (f"({RIGHT}) / inv_std**2", *3 * ["wrong: multiply by inv_std, or divide by"]),
        (f"({RIGHT}) / gamma**2", *3 * ["wrong: multiply by gamma, do not divide"]),
        (
            f"6 * ({RIGHT})",
            "wrong: it is m times too large", *2 * ["wrong: divide by m: a sum"],
        ),
        (
            RIGHT.replace("g.mean(axis=0)", "g.mean()"),
            "right", "wrong: take the mean of each channel, axis=0", "right",
        ),
        (
            RIGHT.replace("(g * x_hat).mean(axis=0)", "(g * x_hat).mean()"),
            "right", "right", "wrong: take the mean of each channel, axis=0",
        ),
        (f"({RIGHT}) * 1.01", *3 * ["wrong: by channel, it is 1.01, 1.01, 1.01 times"]),
        (f"({RIGHT}).astype(np.float32)", *3 * ["right up to rounding: "]),
    ],
)  # fmt: skip
def test_the_findings_name_the_mistake_in_each_part(
    tmp_path, capsys, d_x, direct, mean, variance
):
    findings = check(tmp_path, d_x)
    assert list(findings) == ["direct", "mean", "variance"]
    assert findings["direct"].startswith(direct)
    assert findings["mean"].startswith(mean)
    assert findings["variance"].startswith(variance)
    printed = [f"{name:10}{text}" for name, text in findings.items()]
    assert capsys.readouterr().out.splitlines()[1:] == printed


def test_a_missing_part_is_named_by_its_term(tmp_path):
    findings = check(tmp_path, f"{DIRECT} - {MEAN}")
    term = "-gamma * inv_std * x_hat * mean(g * x_hat)"
    assert findings["variance"] == f"wrong: it is missing: {term}"


def test_a_rest_that_belongs_to_none_of_the_routes_is_found(tmp_path):
    findings = check(
        tmp_path, RIGHT.replace("g.mean(axis=0)", "g.mean(axis=1, keepdims=True)")
    )
    assert "belongs to none of the routes" in findings["rest"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def d_x(:", "mine.py, line 1: Python cannot read it: "),
        ("a = 1\nb = 1 / 0", "mine.py, line 2: it stopped with ZeroDivisionError: div"),
        (
            "d_y = 1",
            "mine.py: must define d_x(g, x_hat, gamma, inv_std), but does not. ",
        ),
        (
            "def d_x(g, x_hat, gamma, inv_std):\n    return g @ g",
            "mine.py, line 2: it stopped with ValueError: ",
        ),
        ("d_x = lambda g: g", "mine.py: it stopped with TypeError: "),
        ("\nraise SystemExit", "mine.py, line 2: it stopped with SystemExit."),
        (
            "import sys\nd_x = lambda *a: sys.exit(3)",
            "mine.py, line 2: it stopped with SystemExit: 3.",
        ),
        (
            "d_x = lambda *a: None",
            "mine.py: d_x is not filled in yet: it returned None.",
        ),
        (exercise.EXERCISE, "mine.py: d_x is not filled in yet: it returned Ellipsis."),
        (
            "d_x = lambda *a: 'g'",
            "mine.py: d_x must return an array, but returned 'g'.",
        ),
        (
            "d_x = lambda g, *a: g.mean(axis=0)",
            "mine.py: d_x must have the shape of x, (6, 3), but has (3,). Means over",
        ),
        (
            "d_x = lambda g, *a: g * float('nan')",
            "mine.py: d_x must be finite, but contains inf or nan.",
        ),
    ],
)
def test_a_file_that_cannot_be_checked_gets_a_clear_message(tmp_path, source, message):
    path = tmp_path / "mine.py"
    path.write_text(source, encoding="utf-8")
    with pytest.raises(SystemExit, match=re.escape(message)):
        backward_by_hand.main(["--check", str(path)])


def test_a_file_that_is_not_there_gets_a_clear_message(tmp_path):
    for path in (tmp_path, tmp_path / "none.py"):
        with pytest.raises(
            SystemExit, match=r"must be a file to read, but: .*--exercise"
        ):
            backward_by_hand.main(["--check", str(path)])


def test_the_exercise_never_overwrites_an_answer(tmp_path, capsys):
    path = tmp_path / "mine.py"
    backward_by_hand.main(["--exercise", str(path)])
    assert f"--check {path}" in capsys.readouterr().out
    path.write_text("my work", encoding="utf-8")
    with pytest.raises(SystemExit, match="must be a new file, but: "):
        backward_by_hand.main(["--exercise", str(path)])
    assert path.read_text(encoding="utf-8") == "my work"
    with pytest.raises(SystemExit, match="must be a new file, but: "):
        backward_by_hand.main(["--exercise", str(tmp_path / "nowhere" / "mine.py")])


def test_an_answer_cannot_change_the_arrays_that_it_is_checked_with(tmp_path):
    path = tmp_path / "mine.py"
    body = f"    d = {RIGHT}\n    g[:] = 0\n    return d"
    path.write_text(f"def d_x(g, x_hat, gamma, inv_std):\n{body}", encoding="utf-8")
    findings = backward_by_hand.main(["--check", str(path)])
    assert set(findings.values()) == {"right"}


# --- diagnostics.py -------------------------------------------------------------------


@pytest.mark.parametrize("gain", ["0", "-1", "nan", "inf", "1e-30", "x"])
def test_a_gain_with_which_no_network_can_be_measured_is_refused(capsys, gain):
    with pytest.raises(SystemExit):
        diagnostics.main([f"--gain={gain}"])
    assert capsys.readouterr().err.endswith(
        "argument --gain: must be a number from 0.001 to 1000, but "
        f"{gain!r} was received\n"
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("gain", ["0.001", "1000"])
def test_the_smallest_and_the_largest_gain_can_be_measured(tmp_path, gain):
    short = ["--quick", "--steps", "2", "--out", str(tmp_path)]
    diagnostics.main([*short, "--gain", gain])
    assert (tmp_path / "diagnostics.png").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("lr", ["100", "1e300"])
def test_a_network_that_overflows_is_called_so_and_causes_no_warning(
    monkeypatch, tmp_path, capsys, lr
):
    monkeypatch.delenv("MNIST_DIR", raising=False)
    found = diagnostics.main(["--quick", "--lr", lr, "--out", str(tmp_path)])
    assert [network["overflow"] for network in found.values()][::2] == [True, False]
    *_, without, _, he = capsys.readouterr().out.splitlines()
    assert without.split()[-2:] == ["overflow", "overflow"]
    assert "overflow" not in he


@pytest.fixture(scope="module")
def watched(quick):
    found, _, folder = quick(diagnostics)
    assert (folder / "diagnostics.png").stat().st_size > 10_000
    return found


@pytest.mark.slow
def test_batch_norm_keeps_the_size_of_activations_that_fades_without(watched):
    # Each of four layers halves the signal: weights have half the right size.
    assert growth(watched["without"], "values") == pytest.approx(1 / 16, rel=0.2)
    assert growth(watched["batch norm"], "values") == pytest.approx(1, rel=0.05)


@pytest.mark.slow
def test_gradients_fade_toward_the_input_without_and_grow_a_little_with(watched):
    without, norm, he = (1 / growth(watched[kind], "gradient") for kind in watched)
    assert he == pytest.approx(1, rel=0.2)
    assert without == pytest.approx(1 / 16, rel=0.2)
    # Per layer the squared size grows by pi / (pi - 1).
    assert norm == pytest.approx((np.pi / (np.pi - 1)) ** 2, rel=0.2)


def test_units_die_without_batch_norm_only(watched):
    assert watched["without"]["dead"][-1].mean() > 0.15
    assert watched["batch norm"]["dead"].max() == 0
    assert watched["without"]["loss"][-1] > 1
    assert watched["batch norm"]["loss"][-1] < 0.3


def test_the_right_start_is_a_remedy_as_well(watched):
    he = watched["He, lr 0.1"]
    assert he["dead"][-1].mean() < watched["without"]["dead"][-1].mean() / 4
    assert he["loss"][-1] < 0.5
    assert growth(he, "values") == pytest.approx(1, rel=0.3)


class Twice(nn.Module):
    """A module with parameters of its own and one inside that is called twice."""

    def __init__(self, rng):
        self.inner = nn.Linear(3, 3, rng=rng, dtype=float)
        self.scale = Tensor(2.0, requires_grad=True)

    def forward(self, x):
        return tg.relu(self.inner(tg.tanh(self.inner(x)))) * self.scale


def test_layers_are_the_outputs_of_all_modules_with_their_gradients():
    rng = np.random.default_rng(0)
    model = nn.Sequential(Twice(rng), nn.BatchNorm(3, dtype=float), nn.Sigmoid())
    x, c = Tensor(rng.standard_normal((5, 3))), rng.standard_normal((5, 3))
    found = layers((model(x) * c).sum())
    assert [(name, layer.kind) for name, layer in found.items()] == [
        ("0.inner", "Linear"), ("0", "Twice"), ("0.inner (call 2)", "Linear"),
        ("1", "BatchNorm"), ("2", "Sigmoid"),
    ]  # fmt: skip
    outer = model[0]
    inner = outer.inner(x)
    again = outer.inner(tg.tanh(inner))
    h = tg.relu(again) * outer.scale
    normed = tg.batch_norm(h, model[1].gamma, model[1].beta)
    y = tg.sigmoid(normed)
    values = [inner, h, again, normed, y]
    gradients = tg.grad((y * c).sum(), values)
    for layer, value, gradient in zip(found.values(), values, gradients, strict=True):
        np.testing.assert_allclose(layer.values, value, rtol=0, atol=1e-12)
        np.testing.assert_allclose(layer.gradient, gradient, rtol=0, atol=1e-12)


def test_a_unit_is_dead_if_no_row_of_the_batch_makes_a_difference():
    model = nn.Sequential(nn.Linear(2, 4, dtype=float), nn.ReLU())
    model[0].weight.data = np.array([[1.0, 0, -1, 2], [1, 0, -1, -2]])
    model[0].bias.data = np.array([0, -1.0, 0, 0])
    x = Tensor([[0.01, 0.02], [0.03, 0.04], [0.05, 0.01]])
    found = layers(model(x).sum())
    # Units 1 and 2 are negative for each row; unit 3 for two of three.
    assert found["1"].dead == 0.5
    assert found["0"].dead == 0.25


def test_an_update_is_relative_to_the_weight_before_it():
    model = nn.Linear(2, 2, dtype=float)
    model.weight.data = np.array([[3.0, 0], [0, 4]])
    before = model.state_dict()
    model.weight.data = np.array([[3.0, 0.5], [0, 4]])
    model.bias.data = np.ones(2)
    assert diagnostics.update_ratios(before, model) == {"weight": pytest.approx(0.1)}
