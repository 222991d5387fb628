"""Routes: exact, complete, and told as the design tells them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_bn as tg
from tinygrad_bn import Tensor, functional, nn

U = np.array([[1, 0, 2], [3, 1, -1], [-2, 4, 0], [2, -1, 3]], float)
B = np.array([0.5, -1, 2])
C = np.array([[0.5, -1, 0.25], [-0.25, 0.75, 1], [1, 0.25, -0.5], [-0.5, 1.5, 0.5]])
GAMMA, BETA = np.array([1, 0.5, 2]), np.array([0.1, 0.2, -0.3])
E_X, VAR_X, BOTH = ("E[x]",), ("Var[x]",), ("Var[x]", "E[x]")


def biased_data(dtype=float):
    u = Tensor(U, name="u", dtype=dtype)
    b = Tensor(B, requires_grad=True, name="b", dtype=dtype)
    return (u + b).named("x"), b


def loss(y, c=C):
    return (y * c).sum().named("L")


def centered(treat=lambda mean: mean):
    x, b = biased_data()
    mean = x.mean(axis=0, keepdims=True).named("E[x]")
    return loss((x - treat(mean)).named("x_hat")), b


def normalized(normalize=tg.batch_norm, **settings):
    x, b = biased_data()
    return loss(normalize(x, Tensor(GAMMA), Tensor(BETA), **settings)), b


def by_gates(explanation):
    """``{gates: gradient, None where nothing but a cut leads there}``."""
    found = {}
    for route in explanation:
        if not route.cut:
            found[route.gates] = route.gradient
        found.setdefault(route.gates, None)
    return found


def assert_routes(explanation, expected, atol=1e-14):
    found = by_gates(explanation)
    assert list(found) == list(expected)
    for gates, gradient in expected.items():
        if gradient is None:
            assert found[gates] is None
        else:
            np.testing.assert_allclose(found[gates], gradient, rtol=1e-14, atol=atol)


def batch_norm_shares():
    """What arrives at b directly, by hand: the batch's sum of dL/dx_hat over s."""
    x = U + B
    s = np.sqrt(((x - x.mean(0)) ** 2).mean(0) + 1e-5)
    return (C * GAMMA).sum(0) / s


# --- The tables of the design ---------------------------------------------------------


def test_centering_takes_back_through_the_mean_what_arrives_directly():
    explanation = tg.explain(*centered())
    S = np.array([0.75, 1.5, 1.25])
    assert_routes(explanation, {(): S, E_X: -S}, atol=0)
    np.testing.assert_array_equal(explanation.total, [0, 0, 0])
    assert explanation.cancels


def test_centering_prints_the_table_of_the_pictures():
    assert str(tg.explain(*centered())) == (
        "route      contribution to dL/db\n"
        "direct     +0.7500  +1.5000  +1.2500\n"
        "via E[x]   -0.7500  -1.5000  -1.2500\n"
        "total            0        0        0"
    )


ROWS = "because its rows sum to 0"


def test_a_route_that_brings_nothing_anyway_is_given_no_reason():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    zero = (a * 0.0).named("zero")
    assert [route.note for route in tg.explain((a + zero).sum(), a)] == ["", ""]


def test_batch_norm_prints_the_table_of_the_design():
    explanation = tg.explain(*normalized())
    assert str(explanation) == (
        "route                   contribution to dL/db\n"
        "direct                  +0.4009  +0.4009  +1.5811\n"
        "via E[x]                -0.4009  -0.4009  -1.5811\n"
        f"via Var[x]                    0        0        0   {ROWS}\n"
        f"via Var[x], then E[x]         0        0        0   {ROWS}\n"
        "total                         0        0        0"
    )
    assert repr(explanation) == str(explanation)


def test_a_notebook_shows_the_table_as_html():
    assert tg.explain(*centered(tg.stop_gradient))._repr_html_() == (
        '<table><tr><th style="text-align:left">route</th>'
        '<th colspan="3">contribution to dL/db</th></tr>'
        '<tr><td style="text-align:left">direct</td>'
        "<td>+0.7500</td><td>+1.5000</td><td>+1.2500</td></tr>"
        '<tr><td style="text-align:left">via E[x]</td><td colspan="3">cut</td></tr>'
        '<tr><td style="text-align:left">total</td>'
        "<td>+0.7500</td><td>+1.5000</td><td>+1.2500</td></tr></table>"
    )


def test_html_of_hostile_names_is_escaped():
    a = Tensor([1.0], requires_grad=True, name="<a>")
    y = (a + (a * a).named("<script>&")).sum().named('"y"')
    text = tg.explain(y, a)._repr_html_()
    assert "contribution to d&quot;y&quot;/d&lt;a&gt;" in text
    assert "via &lt;script&gt;&amp;" in text and "<script>" not in text


@pytest.mark.parametrize(
    ("constants", "shares"),
    [
        ((), {(): 1, E_X: -1, VAR_X: 0, BOTH: 0}),
        (("mean",), {(): 1, E_X: None, VAR_X: 0, BOTH: None}),
        (("var",), {(): 1, E_X: -1, VAR_X: None, BOTH: None}),
        (("mean", "var"), {(): 1, E_X: None, VAR_X: None, BOTH: None}),
    ],
)
def test_a_statistic_taken_as_a_constant_cuts_the_routes_through_it(constants, shares):
    L, b = normalized(constants=constants)
    explanation = tg.explain(L, b)
    S = batch_norm_shares()
    expected = {g: None if k is None else k * S for g, k in shares.items()}
    assert_routes(explanation, expected)
    np.testing.assert_allclose(explanation.total, tg.grad(L, b).data, atol=1e-15)
    assert explanation.cancels == ("mean" not in constants)


def test_a_cut_route_is_told_as_cut_and_not_as_zero():
    assert str(tg.explain(*normalized(constants=("mean",)))) == (
        "route                   contribution to dL/db\n"
        "direct                  +0.4009  +0.4009  +1.5811\n"
        "via E[x]                    cut\n"
        f"via Var[x]                    0        0        0   {ROWS}\n"
        "via Var[x], then E[x]       cut\n"
        "total                   +0.4009  +0.4009  +1.5811"
    )


def test_an_explanation_is_a_sequence_of_routes():
    explanation = tg.explain(*centered(tg.stop_gradient))
    assert len(explanation) == 2 and list(explanation) == list(explanation.routes)
    direct, through_mean = explanation
    assert (direct.gates, direct.cut, direct.around) == ((), False, False)
    assert (through_mean.gates, through_mean.cut) == (E_X, True)
    assert explanation[1] is through_mean
    np.testing.assert_array_equal(through_mean.gradient, np.zeros(3))
    assert (str(direct), str(through_mean)) == ("direct", "via E[x]")


# --- Rounding -------------------------------------------------------------------------


def test_rounding_residue_in_float32_is_shown_as_zero_and_its_size_told():
    rng = np.random.default_rng(0)
    u, c = rng.standard_normal((2, 30, 3)).astype(np.float32)
    b = Tensor(B, requires_grad=True, name="b", dtype=np.float32)
    explanation = tg.explain(loss(tg.batch_norm(u + b), c), b)
    direct, _, via_var, via_both = (route.gradient for route in explanation)
    hidden = np.abs([via_var, via_both, explanation.total]).max()
    assert 1e-8 < hidden / np.abs(direct).max() < 1e-5
    lines = str(explanation).split("\n")
    entries = [line.replace(ROWS, "").split()[-3:] for line in lines[3:6]]
    assert entries == [["0", "0", "0"]] * 3
    assert lines[6:] == [f"0 stands for rounding residue of up to {hidden:.1g}"]
    assert f"</table><p>{lines[6]}</p>" in explanation._repr_html_()


def test_in_float64_no_footnote_is_needed():
    text = str(tg.explain(*normalized()))
    assert "rounding" not in text and len(text.split("\n")) == 6


def test_more_than_six_entries_are_told_by_their_norm():
    W = Tensor(np.zeros((3, 3)), requires_grad=True, name="W")
    y = Tensor(U) @ W
    explanation = tg.explain(loss(y - y.mean(axis=0).named("E[y]")), W)
    direct, through_mean = (route.gradient for route in explanation)
    np.testing.assert_allclose(direct, U.T @ C, atol=1e-15)
    mean_part = -np.outer(U.mean(0), C.sum(0))
    np.testing.assert_allclose(through_mean, mean_part, atol=1e-15)
    sizes = map(np.linalg.norm, (direct, through_mean, direct + through_mean))
    assert [line.split()[-2:] for line in str(explanation).split("\n")[1:]] == [
        ["norm", f"{size:.4g}"] for size in sizes
    ]


# --- Gates ----------------------------------------------------------------------------


def test_one_gate_sorts_all_routes_by_that_name():
    explanation = tg.explain(*normalized(), gates="E[x]")
    S = batch_norm_shares()
    assert_routes(explanation, {(): S, E_X: -S})


def test_no_gates_leave_one_route():
    L, b = normalized(constants=("mean",))
    explanation = tg.explain(L, b, gates=())
    routes = [r for r in explanation if not r.cut]
    assert [r.gates for r in routes] == [()]
    np.testing.assert_allclose(routes[0].gradient, batch_norm_shares(), rtol=1e-14)


def test_gates_are_taken_literally_also_where_every_route_passes_them():
    S = np.array([0.75, 1.5, 1.25])
    explanation = tg.explain(*centered(), gates=["x", "E[x]", "x_hat"])
    assert_routes(explanation, {("x_hat", "x"): S, ("x_hat", "E[x]", "x"): -S}, atol=0)


def test_an_unknown_gate_is_refused_with_the_names_that_are_there():
    with pytest.raises(ValueError) as error:
        tg.explain(*centered(), gates=("E[y]", "E[x]"))
    assert str(error.value) == (
        "gates must be names of tensors between 'L'() and 'b'(3,), but ['E[y]'] is not "
        "among ['E[x]', 'x', 'x_hat']. Name a tensor with .named()."
    )


def test_names_inside_modules_are_qualified():
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        nn.Linear(3, 4, rng=rng, dtype=float), nn.BatchNorm(4, dtype=float)
    )
    y = model(Tensor(U))
    g = rng.standard_normal(y.shape)
    explanation = tg.explain(y, model[0].bias, gradient=g)
    assert [r.gates for r in explanation] == [
        (), ("1.E[x]",), ("1.Var[x]",), ("1.Var[x]", "1.E[x]")
    ]  # fmt: skip
    x = U @ model[0].weight.data
    S = g.sum(0) / np.sqrt(x.var(0) + 1e-5)
    np.testing.assert_allclose(explanation[0].gradient, S, rtol=1e-12)
    np.testing.assert_allclose(explanation[1].gradient, -S, rtol=1e-12)
    assert explanation.heading == "contribution to dL/d0.bias"
    only = tg.explain(y, model[0].bias, gradient=g, gates=["1.E[x]"])
    assert [r.gates for r in only] == [(), ("1.E[x]",)]


# --- Fused operations, evaluation, and the cases in which the bias is not dead --------


def test_fused_and_composed_batch_norm_have_the_same_routes():
    fused = tg.explain(*normalized(tg.fused_batch_norm))
    S = batch_norm_shares()
    assert_routes(fused, {(): S, E_X: -S, VAR_X: 0 * S, BOTH: 0 * S})
    assert str(fused) == str(tg.explain(*normalized()))


def test_a_fused_operation_in_the_middle_is_looked_through():
    def in_the_middle(normalize):
        x, b = biased_data()
        return loss(tg.tanh(normalize(tg.tanh(x)) + x)), b

    expected = tg.explain(*in_the_middle(tg.batch_norm))
    assert [str(route) for route in expected] == [
        "direct", "via E[x]", "via Var[x]", "via Var[x], then E[x]", "around"
    ]  # fmt: skip
    found = tg.explain(*in_the_middle(tg.fused_batch_norm))
    assert str(found) == str(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.gradient, b.gradient, rtol=1e-14, atol=1e-14)


def test_evaluation_mode_has_one_route_and_it_is_alive():
    mean, var = np.array([1.0, 2, 3]), np.array([1.0, 4, 0.25])
    explanation = tg.explain(*normalized(mean=mean, var=var))
    expected = (C * GAMMA).sum(0) / np.sqrt(var + 1e-5)
    assert_routes(explanation, {(): expected})
    assert not explanation.cancels


def test_a_skip_connection_around_batch_norm_keeps_the_bias_alive():
    x, b = biased_data()
    explanation = tg.explain(loss(tg.batch_norm(x) + x), b)
    s = np.sqrt((U + B).var(0) + 1e-5)
    through = C.sum(0) / s
    expected = {
        "direct": through,
        "via E[x]": -through,
        "via Var[x]": 0 * through,
        "via Var[x], then E[x]": 0 * through,
        "around": C.sum(0),
    }
    assert [str(route) for route in explanation] == list(expected)
    for route, gradient in zip(explanation, expected.values()):
        np.testing.assert_allclose(route.gradient, gradient, rtol=1e-14, atol=1e-14)
    np.testing.assert_allclose(explanation.total, [0.75, 1.5, 1.25], rtol=1e-14)


def test_layer_norm_does_not_cancel():
    x, b = biased_data()
    explanation = tg.explain(loss(tg.batch_norm(x, axes=(1,))), b)
    data = U + B
    s = np.sqrt(data.var(1, keepdims=True) + 1e-5)
    x_hat = (data - data.mean(1, keepdims=True)) / s
    S, per_row = (C / s).sum(0), (C / s).sum(1).sum()
    var_part = -(x_hat / s * (C * x_hat).mean(1, keepdims=True)).sum(0)
    assert_routes(
        explanation,
        {(): S, E_X: np.full(3, -per_row / 3), VAR_X: var_part, BOTH: np.zeros(3)},
    )
    assert not explanation.cancels


def test_a_relu_between_keeps_the_bias_alive():
    x, b = biased_data()
    L = loss(tg.batch_norm(tg.relu(x)))
    explanation = tg.explain(L, b)
    data, on = np.maximum(U + B, 0), U + B > 0
    s = np.sqrt(data.var(0) + 1e-5)
    x_hat = (data - data.mean(0)) / s
    np.testing.assert_allclose(explanation[0].gradient, (C / s * on).sum(0), rtol=1e-13)
    through_mean = -(C / s).mean(0) * on.sum(0)
    np.testing.assert_allclose(explanation[1].gradient, through_mean, rtol=1e-13)
    through_var = -(x_hat / s * (C * x_hat).mean(0) * on).sum(0)
    np.testing.assert_allclose(explanation[2].gradient, through_var, atol=1e-15)
    assert not explanation.cancels


def test_a_tensor_used_twice_by_one_operation_counts_twice():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    h = (a * 3).named("h")
    explanation = tg.explain((h * h + a).sum(), a)
    assert_routes(explanation, {(): np.ones(2), ("h",): 18 * a.data}, atol=0)
    assert_routes(tg.explain((a * a).sum(), a), {(): 2 * a.data}, atol=0)


def test_a_tensor_passed_twice_on_one_way_is_named_once_each_time():
    a = Tensor([1.0, 2.0], requires_grad=True)
    inner = (a * 3).named("m")
    outer = (inner * 2).named("m")
    explanation = tg.explain((outer + inner + a).sum(), a)
    assert_routes(explanation, {(): [1, 1], ("m",): [3, 3], ("m", "m"): [6, 6]}, atol=0)


# --- What the output does not depend on, and what is cut ------------------------------


def test_without_a_route_the_total_is_zero_and_the_table_says_so():
    a, other = (Tensor([1.0, 2.0], requires_grad=True, name=n) for n in ("a", "o"))
    explanation = tg.explain((a * a).sum().named("L"), other)
    assert len(explanation) == 0 and not explanation.cancels
    np.testing.assert_array_equal(explanation.total, [0, 0])
    assert str(explanation) == (
        "route   contribution to dL/do\n"
        "total   0  0\n"
        "no route: 'L'() does not depend on 'o'(2,)"
    )


def test_cuts_in_several_places_leave_what_flows_beside_them():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    p = (a * 3).named("p")
    q = (tg.stop_gradient(a * 5) * p).named("q")
    y = (q + tg.stop_gradient(p) * 7 + tg.stop_gradient((q * q).named("r"))).sum()
    explanation = tg.explain(y, a)
    alive = {r.gates: r.gradient for r in explanation if not r.cut}
    assert alive.keys() == {("q", "p")}
    np.testing.assert_array_equal(alive["q", "p"], 15 * a.data)
    cut = {r.gates for r in explanation if r.cut}
    assert cut == {("p",), ("q",), ("r", "q"), ("r", "q", "p")}
    np.testing.assert_array_equal(explanation.total, tg.grad(y, a).data)


def test_a_living_route_is_told_before_a_cut_one_of_the_same_gates():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    explanation = tg.explain((a * 3 - tg.stop_gradient(a)).sum().named("L"), a)
    assert str(explanation) == (
        "route    contribution to dL/da\n"
        "direct   +3.0000  +3.0000\n"
        "direct       cut\n"
        "total    +3.0000  +3.0000"
    )


def test_a_graph_that_is_cut_altogether_has_only_cut_routes():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    explanation = tg.explain(tg.stop_gradient(a * a).sum(), a)
    assert [(r.gates, r.cut) for r in explanation] == [((), True)]
    np.testing.assert_array_equal(explanation.total, [0, 0])


# --- Too many routes ------------------------------------------------------------------


def forks(n):
    """A graph of ``2**n`` routes: n times, two named ways side by side."""
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    h = a
    for i in range(n):
        h = (h * 0.5).named(f"p{i}") + (h * (0.3 + 0.01 * i)).named(f"q{i}")
    return h.sum(), a


@pytest.mark.parametrize("n", [5, 6, 9])
def test_beyond_sixteen_routes_one_row_tells_how_many_were_merged(n):
    y, a = forks(n)
    explanation = tg.explain(y, a)
    assert [r.merged for r in explanation] == [1] * 15 + [2**n - 15]
    merged = explanation[15]
    assert (merged.gates, str(merged)) == ((), f"{2**n - 15} other routes")
    np.testing.assert_allclose(explanation.total, tg.grad(y, a).data, rtol=1e-14)


def test_the_routes_that_are_kept_are_the_largest():
    explanation = tg.explain(*forks(5))
    sizes = np.array([1.0])
    for i in range(5):
        sizes = np.concatenate([sizes * 0.5, sizes * (0.3 + 0.01 * i)])
    kept = sorted((r.gradient[0] for r in explanation if r.merged == 1), reverse=True)
    np.testing.assert_allclose(kept, np.sort(sizes)[::-1][:15], rtol=1e-12)
    np.testing.assert_allclose(
        explanation[15].gradient, np.sort(sizes)[:17].sum(), rtol=1e-12
    )


def test_sixteen_routes_are_told_one_by_one():
    explanation = tg.explain(*forks(4))
    assert [r.merged for r in explanation] == [1] * 16


# --- Errors ---------------------------------------------------------------------------


def test_a_result_computed_under_no_grad_cannot_be_explained():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    with tg.no_grad():
        y = (a * a).sum().named("L")
    with pytest.raises(ValueError) as error:
        tg.explain(y, a)
    assert str(error.value) == (
        "explain(y): y must be computed from something that requires a gradient, but "
        "nothing was recorded for 'L'(). Was it computed under no_grad(), detached, or "
        "made of tensors without requires_grad=True?"
    )


@pytest.mark.parametrize(
    ("leaf", "received"), [(Tensor([1.0], name="u"), "'u'(1,)"), (3, "3")]
)
def test_a_leaf_without_gradient_cannot_be_explained(leaf, received):
    a = Tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError) as error:
        tg.explain((a * a).sum(), leaf)
    assert str(error.value) == (
        "explain(y, leaf): the leaf must be a tensor that requires a gradient, but "
        f"{received} was received. Make it with requires_grad=True."
    )


def test_an_output_of_several_elements_needs_a_gradient_of_its_shape():
    a = Tensor([1.0, 2.0], requires_grad=True)
    y = a * a
    with pytest.raises(ValueError, match="a gradient starts from one number"):
        tg.explain(y, a)
    with pytest.raises(ValueError, match="must have the shape of the tensor"):
        tg.explain(y, a, gradient=np.ones(3))
    assert_routes(tg.explain(y, a, gradient=[5, 7]), {(): [10, 28]}, atol=0)


@pytest.mark.parametrize("normalize", [tg.batch_norm, tg.fused_batch_norm])
def test_a_leaf_changed_since_is_an_error_that_names_it(normalize):
    L, b = normalized(normalize)
    b.data = b.data + 1
    with pytest.raises(RuntimeError, match=r"'b'\(3,\) was changed after"):
        tg.explain(L, b)


# --- Explaining changes nothing -------------------------------------------------------


def test_explaining_works_under_no_grad():
    L, b = normalized(tg.fused_batch_norm)
    with tg.no_grad():
        explanation = tg.explain(L, b)
    S = batch_norm_shares()
    assert_routes(explanation, {(): S, E_X: -S, VAR_X: 0 * S, BOTH: 0 * S})


@pytest.mark.parametrize("fused", [True, False])
def test_explaining_changes_nothing_in_the_model(fused):
    rng = np.random.default_rng(1)
    model = nn.Sequential(nn.Linear(3, 4, rng=rng), nn.BatchNorm(4, fused=fused))
    y = model(Tensor(U, dtype=np.float32))
    g = rng.standard_normal(y.shape)
    y.backward(gradient=g)
    before = model.state_dict()
    grads = [p.grad.copy() for p in model.parameters()]
    names = [p.name for p in model.parameters()]
    for p in model.parameters():
        tg.explain(y, p, gradient=g)
    after = model.state_dict()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    for p, before_grad in zip(model.parameters(), grads):
        np.testing.assert_array_equal(p.grad, before_grad)
    assert model.training and [p.name for p in model.parameters()] == names
    y.backward(gradient=g)
    for p, before_grad in zip(model.parameters(), grads):
        np.testing.assert_array_equal(p.grad, 2 * before_grad)


# --- Random graphs --------------------------------------------------------------------

NAMES = ["p", "q", "r", "s"]
OPERATIONS = {
    "add": lambda x, z, b, W, norm: x * 0.5 + z,
    "sub": lambda x, z, b, W, norm: x - z * 0.7,
    "mul": lambda x, z, b, W, norm: tg.tanh(x) * z,
    "tanh": lambda x, z, b, W, norm: tg.tanh(x),
    "stop": lambda x, z, b, W, norm: x + tg.stop_gradient(z),
    "center": lambda x, z, b, W, norm: x - x.mean(axis=0).named("E[x]"),
    "fused": lambda x, z, b, W, norm: tg.fused_batch_norm(x, GAMMA, b, eps=0.1),
    "linear": lambda x, z, b, W, norm: functional.fused_linear(x, W, b) * 0.3,
    "module": lambda x, z, b, W, norm: norm(x + z),
}
STEP = st.tuples(
    st.sampled_from(list(OPERATIONS)),
    st.integers(0, 30),
    st.integers(0, 30),
    st.sampled_from([None, *NAMES]),
)
GATES = st.one_of(st.none(), st.sets(st.sampled_from(NAMES)))


def run(steps, cut=()):
    """The random graph of ``steps``: its loss, and its leaf.

    Tensors whose name is in ``cut`` are followed by ``stop_gradient``.
    """
    rng = np.random.default_rng(len(steps))
    b = Tensor(B, requires_grad=True, name="b")
    W = Tensor(rng.standard_normal((3, 3)), requires_grad=True, name="W")
    norm = nn.BatchNorm(3, dtype=float)
    made = [U + b]
    for operation, i, j, name in steps:
        x, z = made[i % len(made)], made[j % len(made)]
        y = OPERATIONS[operation](x, z, b, W, norm)
        if name is not None:
            y = y.named(name)
            y = tg.stop_gradient(y) if name in cut else y
        made.append(y)
    out = made[-1] * C + made[len(made) // 2] * U
    return out.sum(), b


def close(a, b, scale):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * (1 + scale))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(STEP, min_size=1, max_size=8), GATES)
def test_routes_of_random_graphs_sum_to_the_gradient(steps, gates):
    y, b = run(steps)
    if gates is not None:
        between = {r for route in tg.explain(y, b, gates=None) for r in route.gates}
        gates = gates & between
    explanation = tg.explain(y, b, gates=gates)
    close(explanation.total, tg.grad(y, b).data, explanation.scale)
    for route in explanation:
        assert not (route.cut and route.gradient.any())
        assert gates is None or set(route.gates) <= gates


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(STEP, min_size=2, max_size=8))
def test_what_misses_a_gate_is_the_gradient_with_that_tensor_held_constant(steps):
    y, b = run(steps)
    names = {name for *_, name in steps if name is not None}
    for name in sorted(names):
        try:
            explanation = tg.explain(y, b, gates=[name])
        except ValueError:
            # The loss does not depend on the tensor of this name.
            continue
        direct = [r.gradient for r in explanation if not r.gates]
        held, b_held = run(steps, cut={name})
        expected = tg.grad(held, b_held).data
        close(sum(direct, np.zeros(3)), expected, explanation.scale)
