"""``check_redundant``: which parameters cannot learn, and the right reason for each."""

import re
import time

import numpy as np
import pytest
from conftest import Net

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn

X = np.random.default_rng(0).standard_normal((16, 3))


def linear(in_features, out_features, bias=True, seed=1):
    return nn.Linear(in_features, out_features, bias=bias, rng=seed)


def shares(text):
    """The direct share and the share through a gate that a line reports."""
    direct, through = re.search(
        r"direct ([+-]\d+\.\d+), via .* ([+-]\d+\.\d+);", text
    ).groups()
    return float(direct), float(through)


def parameter(*values):
    return Tensor(np.array(values, np.float32), requires_grad=True)


def test_a_bias_in_front_of_batch_norm_is_reported_in_one_line():
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4), nn.ReLU(), linear(4, 2))
    findings = tg.check_redundant(model, X)
    assert [finding.name for finding in findings] == ["0.bias"]
    text = str(findings)
    assert re.fullmatch(
        r"`0\.bias` feeds batch norm `1`: "
        r"direct [+-]\d\.\d{3}, via E\[x\] [+-]\d\.\d{3}; use bias=False",
        text,
    )
    direct, through = shares(text)
    assert direct == -through and abs(direct) > 0.1
    assert repr(findings) == text == str(findings[0])
    assert text == f"`{findings[0].name}` {findings[0].reason}"


def test_the_shares_are_those_of_the_largest_entry_of_the_gradient():
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4, affine=False))
    y = model(Tensor(X, dtype=np.float32))
    g = np.random.default_rng(0).standard_normal(y.shape)
    x = X @ model[0].weight.data.astype(float)
    S = g.sum(0) / np.sqrt(x.var(0) + 1e-5)
    largest = S[np.abs(S).argmax()]
    text = str(tg.check_redundant(model, X))
    assert shares(text) == (round(largest, 3), round(-largest, 3))


@pytest.mark.parametrize(
    ("model", "checked"),
    [
        (nn.Sequential(linear(3, 4, bias=False), nn.BatchNorm(4), linear(4, 2)), 5),
        (nn.Sequential(linear(3, 4), nn.ReLU(), nn.BatchNorm(4)), 4),
        (nn.Sequential(linear(3, 4), nn.Tanh(), linear(4, 2)), 4),
        (nn.Sequential(linear(3, 4), nn.BatchNorm(4, constants=("mean",))), 4),
        (nn.Sequential(linear(3, 4, bias=False)), 1),
    ],
    ids=["no bias", "relu between", "no batch norm", "mean constant", "one"],
)
def test_parameters_that_learn_are_only_counted(model, checked):
    findings = tg.check_redundant(model, X)
    assert findings == () and findings.checked == checked
    plural = "" if checked == 1 else "s"
    assert str(findings) == f"{checked} parameter{plural} checked, none redundant"


def test_evaluation_mode_is_refused_because_no_bias_is_redundant_in_it():
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4), nn.ReLU()).eval()
    with pytest.raises(ValueError) as error:
        tg.check_redundant(model, X)
    assert str(error.value) == (
        "check_redundant(model, x): the model must be in training mode. In evaluation "
        "mode, batch norm subtracts its running mean, which does not depend on the "
        "parameters, so no bias is redundant. Call model.train()."
    )


def test_modules_keep_their_own_modes():
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4), linear(4, 4), nn.BatchNorm(4))
    model[1].eval()
    assert [f.name for f in tg.check_redundant(model, X)] == [
        "0.bias", "1.beta", "2.bias"
    ]  # fmt: skip
    switched = Net(
        lambda net, x: net.norm(net.first(x)) if net.training else net.first(x),
        first=linear(3, 4), norm=nn.BatchNorm(4),
    )  # fmt: skip
    assert [f.name for f in tg.check_redundant(switched, X)] == ["first.bias"]
    assert not model[1].training and switched.training


def test_a_cell_used_three_times_is_reported_once():
    cell = nn.Sequential(linear(3, 3), nn.BatchNorm(3), nn.ReLU())
    model = Net(lambda net, x: net.cell(net.cell(net.cell(x))), cell=cell)
    text = str(tg.check_redundant(model, X))
    direct, through = shares(text)
    assert text.startswith("`cell.0.bias` feeds batch norm `cell.1`: direct ")
    assert direct == -through != 0


def test_a_bias_in_front_of_two_batch_norms_names_both():
    model = Net(
        lambda net, x: net.a(h := net.first(x)) * net.b(h),
        first=linear(3, 4), a=nn.BatchNorm(4), b=nn.BatchNorm(4),
    )  # fmt: skip
    (finding,) = tg.check_redundant(model, X)
    number = r"([+-]\d+\.\d{3})"
    found = re.fullmatch(
        rf"feeds batch norms `a` and `b`: direct {number}, via a\.E\[x\] {number}, "
        rf"via b\.E\[x\] {number}; use bias=False",
        finding.reason,
    )
    assert abs(sum(map(float, found.groups()))) < 2e-3


def test_a_shared_module_is_named_by_its_first_place():
    shared = linear(3, 3)
    model = nn.Sequential(shared, nn.BatchNorm(3), nn.ReLU(), shared, nn.BatchNorm(3))
    (finding,) = [f for f in tg.check_redundant(model, X) if f.name == "0.bias"]
    assert finding.reason.startswith("feeds batch norms `1` and `4`: direct ")


def test_a_constant_batch_is_the_cause_and_not_the_parameters():
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4), nn.ReLU(), linear(4, 2))
    for batch in (np.ones((8, 3)), np.full((8, 3), 1 / 3), np.zeros((8, 3))):
        findings = tg.check_redundant(model, batch)
        assert {"0.weight", "0.bias"} <= {finding.name for finding in findings}
        (reason,) = {finding.reason for finding in findings}
        assert reason == (
            "cannot be checked with this batch, in which every row gives batch norm "
            "`1` the same input: pass a batch whose rows differ"
        )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_input_that_is_not_finite_is_refused(bad):
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4))
    with pytest.raises(ValueError) as error, np.errstate(invalid="ignore"):
        tg.check_redundant(model, np.where(X > 1, bad, X))
    assert str(error.value) == (
        "check_redundant(model, x): x must be finite, but it contains NaN or infinity. "
        "tg.find_nonfinite(loss) finds the source."
    )
    model[0].weight.data = model[0].weight.data * np.float32(np.nan)
    with pytest.raises(ValueError, match="the output must be finite"):
        tg.check_redundant(model, X)


@pytest.mark.parametrize("scale", [1e25, 1e300])
def test_a_variance_that_overflows_is_refused(scale):
    model = nn.Sequential(nn.Linear(3, 4, rng=0, dtype=float), nn.BatchNorm(4))
    with pytest.raises(ValueError) as error, np.errstate(all="ignore"):
        tg.check_redundant(model, X * scale)
    assert str(error.value) == (
        "check_redundant(model, x): variances must be finite in float32, but "
        "'1.Var[x]'(1, 4) is not. Scale x or the weights; tg.find_nonfinite(loss) "
        "finds the source."
    )


def test_a_gradient_that_is_not_finite_is_a_finding():
    model = Net(
        lambda net, x: tg.sqrt(tg.relu(x * net.scale - 9)), scale=parameter(1, 1, 1)
    )
    with np.errstate(all="ignore"):
        (finding,) = tg.check_redundant(model, X)
    assert (
        finding.reason
        == "receives NaN or infinity: tg.find_nonfinite(loss) finds the source"
    )


def test_a_bias_in_front_of_two_batch_norms_in_a_row_is_found():
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4, affine=False), nn.BatchNorm(4))
    (finding,) = tg.check_redundant(model, X)
    direct, through = shares(str(finding))
    assert finding.name == "0.bias" and direct == -through and abs(direct) > 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_large_mean_does_not_hide_a_bias(dtype):
    model = nn.Sequential(
        nn.Linear(3, 4, rng=1, dtype=dtype), nn.BatchNorm(4, dtype=dtype)
    )
    (finding,) = tg.check_redundant(model, (X + 1e4).astype(dtype))
    assert finding.name == "0.bias" and "feeds batch norm `1`" in finding.reason


def test_a_model_that_stores_its_activations_can_be_checked():
    model = Net(
        lambda net, x: vars(net).update(last=[net.body(x)]) or net.last[0],
        body=nn.Sequential(*[f for i in range(80) for f in (linear(3, 3), nn.Tanh())]),
    )
    output = model(Tensor(X, dtype=np.float32))
    assert tg.check_redundant(model, X).checked == 160
    assert model.last[0] is output


def test_sixty_blocks_are_checked_in_about_a_second():
    layers = [
        layer
        for i in range(60)
        for layer in (linear(8, 8, seed=i), nn.BatchNorm(8), nn.ReLU())
    ]
    batch = np.random.default_rng(0).standard_normal((32, 8))
    start = time.process_time()
    findings = tg.check_redundant(nn.Sequential(*layers), batch)
    assert time.process_time() - start < 2
    assert [f.name for f in findings] == [f"{3 * i}.bias" for i in range(60)]


def test_layer_norm_and_a_skip_connection_keep_the_bias_alive():
    skip = Net(
        lambda net, x: net.norm(net.first(x)) + net.first(x),
        first=linear(3, 3), norm=nn.BatchNorm(3),
    )  # fmt: skip
    layer_norm = Net(
        lambda net, x: tg.batch_norm(net.first(x), axes=(1,)), first=linear(3, 3)
    )
    assert tg.check_redundant(skip, X) == ()
    assert tg.check_redundant(layer_norm, X) == ()


@pytest.mark.parametrize("settings", [{"constants": ("var",)}, {"fused": False}])
def test_a_bias_is_redundant_whatever_happens_to_the_variance(settings):
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4, **settings), linear(4, 2))
    (finding,) = tg.check_redundant(model, X)
    direct, through = shares(str(finding))
    assert finding.name == "0.bias" and direct == -through and abs(direct) > 0.05


def test_in_a_chain_of_batch_norms_every_bias_and_the_inner_beta_are_found():
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4), linear(4, 5), nn.BatchNorm(5))
    findings = {f.name: str(f) for f in tg.check_redundant(model, X)}
    assert list(findings) == ["0.bias", "1.beta", "2.bias"]
    for name, norm in (("0.bias", 1), ("1.beta", 3), ("2.bias", 3)):
        assert findings[name].startswith(f"`{name}` feeds batch norm `{norm}`: ")
        advice = "use bias=False" if name.endswith("bias") else "leave it out"
        assert findings[name].endswith(advice)
        direct, through = shares(findings[name])
        # Shares of 0.000 would be rounding noise given as a reason.
        assert direct == -through and abs(direct) > 0.01


def test_parameters_of_nested_modules_have_their_qualified_names():
    def block():
        return Net(
            lambda net, x: x + net.body(x),
            body=nn.Sequential(linear(3, 3), nn.BatchNorm(3), nn.ReLU()),
        )

    findings = tg.check_redundant(nn.Sequential(block(), block(), linear(3, 2)), X)
    assert [f.name for f in findings] == ["0.body.0.bias", "1.body.0.bias"]
    assert "feeds batch norm `0.body.1`: " in findings[0].reason
    assert "feeds batch norm `1.body.1`: " in findings[1].reason


def test_what_a_dead_relu_cuts_off_receives_exactly_zero():
    model = Net(
        lambda net, x: net.second(tg.relu(net.first(x) - 1000)),
        first=linear(3, 4), second=linear(4, 2),
    )  # fmt: skip
    words = (
        "receives exactly 0 from this batch, as behind a ReLU whose inputs are all "
        "negative"
    )
    assert str(tg.check_redundant(model, X)) == "\n".join(
        f"`{name}` {words}" for name in ("first.weight", "first.bias", "second.weight")
    )


def test_an_unconnected_parameter_is_distinguished_from_one_that_cancels():
    model = Net(
        lambda net, x: x @ net.used, used=parameter([1], [2], [3]), spare=parameter(1)
    )
    assert str(tg.check_redundant(model, X)) == (
        "`spare` is not connected: the output does not depend on it"
    )


def test_a_parameter_behind_stop_gradient_is_not_connected():
    model = Net(
        lambda net, x: x * net.used + tg.stop_gradient(net.held),
        used=parameter(1, 2, 3), held=parameter(1, 2, 3),
    )  # fmt: skip
    assert [f.name for f in tg.check_redundant(model, X)] == ["held"]


def subtract_mean(x, name=None):
    mean = x.mean(axis=0, keepdims=True)
    return x - (mean if name is None else mean.named(name))


def test_a_gradient_that_cancels_by_unnamed_routes_is_rounding_noise():
    model = Net(
        lambda net, x: subtract_mean(x @ net.weight + net.shift) * net.scale,
        weight=parameter(*np.eye(3)), shift=parameter(1, 2, 3), scale=parameter(2),
    )  # fmt: skip
    (finding,) = tg.check_redundant(model, X)
    assert finding.name == "shift"
    assert re.fullmatch(
        r"receives only rounding noise \(up to \de-\d\d\): its gradient cancels along "
        r"routes without named tensors",
        finding.reason,
    )


@pytest.mark.parametrize("name", [None, "E[x]"])
def test_a_dead_parameter_is_found_even_if_it_is_the_only_one(name):
    model = Net(
        lambda net, x: subtract_mean(x + net.shift, name), shift=parameter(1, 2, 3)
    )
    (finding,) = tg.check_redundant(model, X)
    assert finding.name == "shift"
    expected = (
        "receives only rounding noise" if name is None else "feeds a batch norm: "
    )
    assert finding.reason.startswith(expected)


@pytest.mark.parametrize("seed", range(20))
def test_a_bias_is_found_even_if_its_float32_gradient_happens_to_be_zero(seed):
    # With one channel, rounding adds up to exactly 0 for some of these seeds.
    rng = np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(4, 1, rng=rng), nn.BatchNorm(1), nn.ReLU())
    findings = tg.check_redundant(model, rng.standard_normal((64, 4)))
    assert [finding.name for finding in findings] == ["0.bias"]


def test_a_bias_in_front_of_an_active_relu_cancels_on_this_batch_only():
    model = nn.Sequential(linear(3, 4), nn.ReLU(), nn.BatchNorm(4), linear(4, 2))
    assert not tg.check_redundant(model, X)
    model[0].bias.data = np.full(4, 50, np.float32)
    (finding,) = tg.check_redundant(model, X)
    assert finding.name == "0.bias"
    assert "cancels on this batch only" in finding.reason
    assert "use bias=False" not in finding.reason


def test_a_gradient_that_only_float64_can_represent_is_no_finding():
    model = nn.Sequential(linear(3, 4), nn.Sigmoid(), linear(4, 1))
    model[0].bias.data = np.full(4, 30, np.float32)  # In float32, y (1 - y) is 0.
    assert str(tg.check_redundant(model, X)) == "4 parameters checked, none redundant"


def test_a_gradient_that_vanishes_but_is_not_zero_is_no_finding():
    layers = [
        layer for i in range(12) for layer in (linear(3, 3, seed=i), nn.Sigmoid())
    ]
    model = nn.Sequential(*layers)
    for module in layers[::2]:
        module.weight.data = module.weight.data * np.float32(0.05)
    y = model(Tensor(X, dtype=np.float32))
    first = tg.grad(y, model[0].bias, gradient=np.ones(y.shape)).data
    assert 0 < np.abs(first).max() < 1e-9
    assert tg.check_redundant(model, X) == ()


@pytest.mark.parametrize(
    "batch", [X, X.astype(np.float32), Tensor(X, dtype=np.float32)]
)
def test_inputs_may_be_arrays_or_tensors_of_any_precision(batch):
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4), nn.ReLU(), linear(4, 2))
    assert [f.name for f in tg.check_redundant(model, batch)] == ["0.bias"]


def test_check_redundant_works_under_no_grad():
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4))
    with tg.no_grad():
        assert [f.name for f in tg.check_redundant(model, X)] == ["0.bias"]


def test_a_model_without_parameters_is_refused():
    with pytest.raises(ValueError, match="nothing was recorded for tensor") as error:
        tg.check_redundant(nn.Sequential(nn.ReLU()), X)
    assert str(error.value).startswith("check_redundant(")


@pytest.mark.parametrize("fused", [True, False])
def test_checking_changes_nothing_in_the_model(fused):
    model = nn.Sequential(linear(3, 4), nn.BatchNorm(4, fused=fused), linear(4, 2))
    loss = (model(Tensor(X, dtype=np.float32)) ** 2).sum()
    loss.backward()
    state = model.state_dict()
    grads = [p.grad.copy() for p in model.parameters()]
    tg.check_redundant(model, X)
    after = model.state_dict()
    assert state.keys() == after.keys() and model.training
    for name, value in state.items():
        assert after[name].dtype == value.dtype
        np.testing.assert_array_equal(after[name], value)
    for parameter_, before in zip(model.parameters(), grads):
        np.testing.assert_array_equal(parameter_.grad, before)
        assert parameter_.dtype == np.float32
    loss.backward()
    np.testing.assert_array_equal(model[2].weight.grad, 2 * grads[-2])
