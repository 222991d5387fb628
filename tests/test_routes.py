"""Routes: exact and complete, and the table that shows them."""

import time

import numpy as np
import pytest
from conftest import Net, leaf
from graphs import (
    GAMMA,
    B,
    C,
    U,
    all_routes_vanish,
    biased_data,
    centered,
    loss,
    normalized,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_bn as tg
from tinygrad_bn import Tensor, functional, nn, routes

E_X, VAR_X, BOTH = ("E[x]",), ("Var[x]",), ("Var[x]", "E[x]")


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


def test_in_centering_the_route_through_the_mean_cancels_the_direct_one():
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


def test_a_route_that_is_zero_in_every_row_is_given_no_reason():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    zero = (a * 0.0).named("zero")
    assert [route.note for route in tg.explain((a + zero).sum(), a)] == ["", ""]


def test_only_a_route_that_is_zero_is_explained_by_rows_that_sum_to_zero():
    b = leaf(np.zeros(2), "b")
    c = np.array([[1.0, 2.0], [-1.0, -2.0]])
    nothing = tg.explain(((np.ones((2, 2)) + b) * c).sum(), b)
    assert ROWS in str(nothing)
    something = tg.explain(((np.ones((2, 2)) + b) * c).sum() + b.sum(), b)
    assert ROWS not in str(something)
    assert [route.gradient.tolist() for route in something] == [[1, 1]]


@pytest.mark.parametrize("size", [1e-170, 1.0, 1e200, np.inf])
def test_a_norm_neither_underflows_nor_overflows(size):
    b = leaf(np.ones(16))
    table = str(tg.explain((b * np.full(16, size)).sum(), b))
    assert table.splitlines()[-1].split()[-1] == f"{4 * size:.4g}"


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


def test_a_cut_route_is_shown_as_cut_and_not_as_zero():
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


def test_rounding_residue_in_float32_is_shown_as_zero_and_its_size_reported():
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


def test_the_largest_of_more_than_six_entries_are_shown_by_index():
    W = Tensor(np.zeros((3, 3)), requires_grad=True, name="W")
    y = Tensor(U) @ W
    explanation = tg.explain(loss(y - y.mean(axis=0).named("E[y]")), W)
    direct, through_mean = (route.gradient for route in explanation)
    np.testing.assert_allclose(direct, U.T @ C, atol=1e-15)
    mean_part = -np.outer(U.mean(0), C.sum(0))
    np.testing.assert_allclose(through_mean, mean_part, atol=1e-15)
    sizes = np.maximum(abs(direct), abs(through_mean)).ravel()
    largest = [divmod(i, 3) for i in sorted(np.argsort(-sizes)[:4])]
    heads, *rows = (line.split() for line in str(explanation).split("\n")[1:])
    assert heads == [*(f"[{i},{j}]" for i, j in largest), "norm"]
    gradients = (direct, through_mean, direct + through_mean)
    for row, gradient in zip(rows, gradients, strict=True):
        assert row[-5:-1] == [f"{gradient[index]:+.4f}" for index in largest]
        assert row[-1] == f"{np.linalg.norm(gradient):.4g}"


def test_the_cancellation_of_many_entries_is_visible():
    rng = np.random.default_rng(0)
    b = Tensor(np.zeros(100), requires_grad=True, name="b")
    y = tg.batch_norm(rng.standard_normal((8, 100)) + b)
    explanation = tg.explain((y * rng.standard_normal((8, 100))).sum(), b)
    rows = {
        line.split("  ")[0]: line.split()[-5:] for line in str(explanation).split("\n")
    }
    direct, via_mean = rows["direct"], rows["via E[x]"]
    assert all(a.translate({43: 45, 45: 43}) == m for a, m in zip(direct, via_mean))
    assert direct[-1] == via_mean[-1] != "0"
    assert rows["total"] == ["0"] * 5
    assert "<th>norm</th>" in explanation._repr_html_()


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


def test_given_gates_are_shown_even_if_every_route_passes_them():
    S = np.array([0.75, 1.5, 1.25])
    explanation = tg.explain(*centered(), gates=["x", "E[x]", "x_hat"])
    assert_routes(explanation, {("x_hat", "x"): S, ("x_hat", "E[x]", "x"): -S}, atol=0)


def test_gates_may_come_from_a_generator():
    explanation = tg.explain(*normalized(), gates=(name for name in ["E[x]"]))
    assert [r.gates for r in explanation] == [(), E_X]


def test_an_unknown_gate_is_refused_with_the_names_that_are_there():
    with pytest.raises(ValueError) as error:
        tg.explain(*centered(), gates=("E[y]", "E[x]"))
    assert str(error.value) == (
        "gates must be names of tensors between 'L' (scalar) and 'b'(3,), but 'E[y]' "
        "is not among them. The names are 'E[x]', 'x', 'x_hat'; x.named() names "
        "another."
    )


def test_the_error_about_unknown_gates_names_the_parameter_by_its_path():
    model = mlp(1)
    with pytest.raises(ValueError) as error:
        explained(model, model[0].bias, gates=["E[x]", "x"])
    assert str(error.value) == (
        "gates must be names of tensors between tensor (scalar) and '0.bias'(8,), but "
        "'E[x]' and 'x' are not among them. The names are '1.E[x]', '1.Var[x]', "
        "'1.x_hat'; x.named() names another."
    )


def test_the_error_about_unknown_gates_says_if_there_are_no_names():
    b = Tensor([1.0, 2.0], requires_grad=True, name="b")
    with pytest.raises(ValueError) as error:
        tg.explain((b * 2).sum().named("L"), b, gates="h")
    assert str(error.value) == (
        "gates must be names of tensors between 'L' (scalar) and 'b'(2,), but 'h' is "
        "not among them. No tensor there has a name; x.named() names one."
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


# --- Fused operations, evaluation, and the cases in which the bias learns -------------


def test_fused_and_composed_batch_norm_have_the_same_routes():
    fused = tg.explain(*normalized(tg.fused_batch_norm))
    S = batch_norm_shares()
    assert_routes(fused, {(): S, E_X: -S, VAR_X: 0 * S, BOTH: 0 * S})
    assert str(fused) == str(tg.explain(*normalized()))


def test_a_fused_operation_in_the_middle_is_unfolded():
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


def test_evaluation_mode_has_one_route_and_its_gradient_is_not_zero():
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
    assert explanation[0].note == ""
    assert explanation[4].note == "not normalized by E[x] and Var[x]"


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


def test_a_route_that_passes_two_tensors_of_one_name_names_both():
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
        "no route: 'L' (scalar) does not depend on 'o'(2,)"
    )


def test_cuts_in_several_places_leave_the_other_routes_intact():
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


def test_a_row_is_cut_only_if_all_of_its_routes_are():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    explanation = tg.explain((a * 3 - tg.stop_gradient(a)).sum().named("L"), a)
    assert str(explanation) == (
        "route    contribution to dL/da\n"
        "direct   +3.0000  +3.0000   some of its routes are cut\n"
        "total    +3.0000  +3.0000"
    )


def test_many_names_and_two_cuts_make_no_route_that_does_not_exist():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    parts = [(a * (i + 1)).named(f"t{i}") for i in range(15)]
    parts[3], parts[7] = map(tg.stop_gradient, (parts[3], parts[7]))
    explanation = tg.explain(sum(parts[1:], parts[0]).sum(), a)
    assert {route.gates for route in explanation if route.cut} == {("t3",), ("t7",)}
    assert [len(route.gates) for route in explanation] == [1] * 15
    np.testing.assert_array_equal(explanation.total, [120 - 12, 120 - 12])


def test_a_graph_that_is_cut_completely_has_only_cut_routes():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    explanation = tg.explain(tg.stop_gradient(a * a).sum(), a)
    assert [(r.gates, r.cut) for r in explanation] == [((), True)]
    np.testing.assert_array_equal(explanation.total, [0, 0])


# --- Deep networks --------------------------------------------------------------------

X = np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 16)
FOUR = ["direct", "via 1.E[x]", "via 1.Var[x]", "via 1.Var[x], then 1.E[x]"]


def linear(out=8, seed=0):
    return nn.Linear(8, out, rng=seed)


def block(seed=0):
    return nn.Sequential(linear(seed=seed), nn.BatchNorm(8), nn.ReLU())


def mlp(depth):
    blocks = [layer for i in range(depth) for layer in block(i)]
    return nn.Sequential(*blocks, linear(3))


def residual(depth):
    def forward(net, x):
        x = net.stem(x)
        for inner in net.blocks:
            x = x + inner(x)
        return x

    return Net(forward, stem=linear(), blocks=[block(i) for i in range(depth)])


def parallel(branches):
    def forward(net, x):
        x = net.first(x)
        return sum((norm(x) * (i + 1) for i, norm in enumerate(net.norms)), 0)

    norms = [nn.BatchNorm(8) for _ in range(branches)]
    return Net(forward, first=linear(), norms=norms)


def explained(model, leaf, **options):
    """The routes to ``leaf``; they sum to its gradient, whatever the rows are."""
    y = model(Tensor(X))
    L = nn.cross_entropy(y, LABELS) if y.shape[1] == 3 else (y * y * y).mean()
    explanation = tg.explain(L, leaf, **options)
    expected = tg.grad(L, leaf).data
    np.testing.assert_allclose(
        explanation.total, expected, rtol=0, atol=1e-5 * (explanation.scale + 1e-3)
    )
    return explanation


def labels(explanation):
    return [str(route) for route in explanation]


@pytest.mark.parametrize("depth", [1, 5, 20])
def test_a_bias_has_the_same_four_rows_under_any_number_of_batch_norms(depth):
    model = mlp(depth)
    explanation = explained(model, model[0].bias)
    assert labels(explanation) == FOUR and explanation.cancels
    direct, via_mean = explanation[0].gradient, explanation[1].gradient
    np.testing.assert_allclose(direct, -via_mean, rtol=1e-4, atol=1e-6)
    assert [r.shown.any() for r in explanation] == [True, True, False, False]
    assert len(explanation.remarks()) <= 2
    assert len(str(explanation).split("\n")) <= 2 + 4 + 1 + 2


def test_a_remark_names_gates_that_would_separate_what_was_summed():
    model = mlp(3)
    explanation = explained(model, model[0].bias)
    assert explanation.remarks()[0] == (
        "a row may sum several routes; to separate them, pass, for example, "
        "gates=['4.E[x]', '4.Var[x]', '7.E[x]', '7.Var[x]']"
    )
    finer = explained(model, model[0].bias, gates=["1.E[x]", "1.Var[x]", "4.E[x]"])
    assert len(finer) == 8 and finer.hint == ""
    for route in explanation:
        parts = [
            r for r in finer if tuple(g for g in r.gates if g[0] == "1") == route.gates
        ]
        assert len(parts) == 2
        np.testing.assert_allclose(
            sum(r.gradient for r in parts), route.gradient, rtol=1e-4, atol=1e-7
        )


def test_a_skip_connection_is_a_row_of_its_own():
    model = residual(1)
    explanation = explained(model, model.stem.bias)
    own = ["direct", "via {0}E[x]", "via {0}Var[x]", "via {0}Var[x], then {0}E[x]"]
    own = [label.format("blocks.0.1.") for label in own]
    assert labels(explanation) == [*own, "around"]
    x = model.stem(Tensor(X)).detach()
    expected = 3 * (model(Tensor(X)).data ** 2).sum(axis=0) / X.size
    np.testing.assert_allclose(explanation[4].gradient, expected, rtol=1e-4)
    inner = explained(model, model.blocks[0][0].bias)
    assert labels(inner) == own and inner.cancels and x.shape == X.shape


@pytest.mark.parametrize(("branches", "rows"), [(2, 7), (3, 10)])
def test_parallel_batch_norms_have_rows_of_their_own(branches, rows):
    model = parallel(branches)
    explanation = explained(model, model.first.bias)
    assert len(explanation) == rows and explanation.cancels
    for i in range(branches):
        assert f"via norms.{i}.E[x]" in labels(explanation)


def test_batch_norms_share_their_rows_if_these_would_be_too_many():
    model = residual(20)
    explanation = explained(model, model.stem.bias)
    assert labels(explanation) == [
        "direct", "via E[x]", "via Var[x]", "via Var[x], then E[x]", "around"
    ]  # fmt: skip
    assert explanation.remarks()[0] == (
        "a row may sum routes through several batch norms; to separate them, pass, "
        "for example, gates=['blocks.0.1.E[x]', 'blocks.0.1.Var[x]', "
        "'blocks.1.1.E[x]', 'blocks.1.1.Var[x]']"
    )
    np.testing.assert_allclose(
        explanation[0].gradient, -explanation[1].gradient, rtol=1e-3, atol=1e-4
    )


def test_the_calls_of_one_module_share_their_rows():
    def three_times(net, x):
        return net.cell(net.cell(net.cell(x)))

    model = Net(three_times, cell=block())
    explanation = explained(model, model.cell[0].bias)
    assert labels(explanation) == [
        "direct", "via cell.1.E[x]", "via cell.1.Var[x]",
        "via cell.1.Var[x], then cell.1.E[x]",
    ]  # fmt: skip
    assert explanation.cancels


@pytest.mark.parametrize("fused", [True, False])
def test_a_route_to_gamma_or_beta_does_not_pass_their_own_batch_norm(fused):
    model = nn.Sequential(nn.BatchNorm(8, fused=fused), linear(), nn.BatchNorm(8))
    for parameter in (model[0].gamma, model[0].beta):
        explanation = explained(model, parameter)
        assert [r.gates for r in explanation] == [
            (), ("2.E[x]",), ("2.Var[x]",), ("2.Var[x]", "2.E[x]")
        ]  # fmt: skip
    assert explanation.cancels
    assert labels(explained(model, model[2].gamma)) == ["direct"]


def test_a_shared_gamma_is_reached_around_the_batch_norm_that_uses_it_last():
    def forward(net, x):
        return net.norm(net.first(net.norm(x)))

    shared = Net(forward, norm=nn.BatchNorm(8), first=linear())
    separate = nn.Sequential(nn.BatchNorm(8), linear(), nn.BatchNorm(8))
    explanation = explained(shared, shared.norm.gamma)
    assert labels(explanation) == [
        "direct", "via norm.E[x]", "via norm.Var[x]",
        "via norm.Var[x], then norm.E[x]", "around",
    ]  # fmt: skip
    outer = explained(separate, separate[2].gamma).total
    inner = explained(separate, separate[0].gamma)
    np.testing.assert_allclose(explanation[4].gradient, outer, rtol=1e-5)
    for found, expected in zip(explanation[:4], inner, strict=True):
        np.testing.assert_allclose(
            found.gradient, expected.gradient, rtol=1e-4, atol=1e-6
        )


def test_a_row_of_a_deep_network_is_cut_only_if_all_of_its_routes_are():
    model = nn.Sequential(
        linear(), nn.BatchNorm(8), nn.ReLU(),
        linear(), nn.BatchNorm(8, constants=("mean",)), linear(3),
    )  # fmt: skip
    explanation = explained(model, model[0].bias)
    assert labels(explanation) == FOUR
    assert {r.note for r in explanation[:2]} == {"some of its routes are cut"}
    model[1].constants = ("mean",)
    cut = [r.cut for r in explained(model, model[0].bias)]
    assert cut == [False, True, False, True]


def test_tensors_named_outside_of_batch_norm_are_always_gates():
    def forward(net, x):
        x = net.body(x)
        left, right = (net.left(x) * 2).named("left"), net.right(x)
        return left + right

    model = Net(forward, body=block(), left=linear(seed=1), right=linear(seed=2))
    explanation = explained(model, model.body[0].bias)
    inside = [
        (),
        ("body.1.E[x]",),
        ("body.1.Var[x]",),
        ("body.1.Var[x]", "body.1.E[x]"),
    ]
    assert {r.gates for r in explanation} == {*inside, *(("left", *g) for g in inside)}


def test_a_name_that_every_route_passes_adds_no_rows():
    def forward(net, x):
        return net.last(tg.relu(net.norm(net.first(x).named("x"))).named("h"))

    model = Net(forward, first=linear(), norm=nn.BatchNorm(8), last=linear(3))
    assert len(explained(model, model.first.bias)) == 4


def test_in_evaluation_mode_no_batch_norm_identifies_routes():
    model = residual(1).eval()
    assert labels(explained(model, model.stem.bias)) == ["direct"]


def test_second_derivatives_can_be_explained():
    model = mlp(2)
    L = nn.cross_entropy(model(Tensor(X)), LABELS)
    d = tg.grad(L, model[0].weight, create_graph=True)
    explanation = tg.explain((d * d).sum(), model[3].weight)
    expected = tg.grad((d * d).sum(), model[3].weight).data
    np.testing.assert_allclose(explanation.total, expected, rtol=1e-3, atol=1e-5)
    assert explanation.heading == (
        "contribution to dL/d3.weight, the 4 largest of 64 entries"
    )


def test_sixty_blocks_are_explained_in_well_under_a_second():
    model = mlp(60)
    L = nn.cross_entropy(model(Tensor(X)), LABELS)
    start = time.process_time()
    explanation = tg.explain(L, model[0].bias)
    assert time.process_time() - start < 1
    assert labels(explanation) == FOUR


def pullbacks_called(monkeypatch, function):
    calls = []
    counted = routes.Subgraph.apply_pullbacks
    with monkeypatch.context() as patched:
        patched.setattr(
            routes.Subgraph,
            "apply_pullbacks",
            lambda *given: calls.append(1) or counted(*given),
        )
        function()
    return len(calls)


def test_the_work_grows_linearly_with_depth(monkeypatch):
    def explain(depth):
        model = mlp(depth)
        L = nn.cross_entropy(model(Tensor(X)), LABELS)
        return pullbacks_called(monkeypatch, lambda: tg.explain(L, model[0].bias))

    few, more, most = map(explain, (10, 20, 40))
    assert most - more == 2 * (more - few)


def test_the_work_of_checking_a_residual_network_grows_linearly_too(monkeypatch):
    def check(depth):
        model = residual(depth)
        return pullbacks_called(monkeypatch, lambda: tg.check_redundant(model, X))

    few, more, most = map(check, (5, 10, 20))
    assert most - more == 2 * (more - few)


# --- Many names -----------------------------------------------------------------------


def forks(n):
    """A graph of ``2**n`` routes: n times, two named tensors side by side."""
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    h = a
    for i in range(n):
        h = (h * 0.5).named(f"p{i}") + (h * (0.3 + 0.01 * i)).named(f"q{i}")
    return h.sum(), a


def test_sixteen_routes_have_a_row_each():
    explanation = tg.explain(*forks(4))
    assert [len(route.gates) for route in explanation] == [4] * 16
    assert explanation.hint == ""


@pytest.mark.parametrize("n", [5, 9, 30])
def test_beyond_sixteen_rows_the_names_nearest_to_the_leaf_are_gates(n):
    y, a = forks(n)
    explanation = tg.explain(y, a)
    assert len(explanation) == 16
    assert {gate[1:] for route in explanation for gate in route.gates} == set("0123")
    np.testing.assert_allclose(explanation.total, tg.grad(y, a).data, rtol=1e-12)
    above = np.prod([0.5 + 0.3 + 0.01 * i for i in range(4, n)])
    nearest = [
        route for route in explanation if route.gates == ("p3", "p2", "p1", "p0")
    ]
    np.testing.assert_allclose(nearest[0].gradient, above * 0.5**4, rtol=1e-12)
    assert explanation.hint == (
        "a row may sum several routes; to separate them, pass, for example, "
        f"gates={['p4', 'q4', 'p5', 'q5'][: 2 * (n - 4)]}"
    )


def test_given_gates_may_make_many_rows_up_to_a_limit():
    y, a = forks(9)
    names = [f"{letter}{i}" for i in range(9) for letter in "pq"]
    explanation = tg.explain(y, a, gates=names)
    assert len(explanation) == 16
    assert str(explanation[15]) == f"{2**9 - 15} other rows"
    np.testing.assert_allclose(explanation.total, tg.grad(y, a).data, rtol=1e-12)
    y, a = forks(30)
    with pytest.raises(ValueError) as error:
        tg.explain(y, a, gates=[f"p{i}" for i in range(30)])
    assert str(error.value) == (
        "gates must make at most 1000 rows, but these 30 names make more. Name fewer "
        "of them."
    )


# --- What is zero ---------------------------------------------------------------------


def entries_of(y, b):
    """The entries that the table shows, row by row."""
    return [cells for _, cells, _ in tg.explain(y, b).rows()]


def test_infinity_is_shown_and_never_cancels():
    b = leaf([1.0, 2.0], "b")
    explanation = tg.explain((b * [np.inf, 3]).sum(), b)
    assert [cells for _, cells, _ in explanation.rows()] == [["+inf", "+3.0000"]] * 2
    assert not explanation.cancels and explanation.scale == 3
    with np.errstate(invalid="ignore"):
        both = (b * [np.inf, 3]).named("p") - (b * [np.inf, 3]).named("q")
        explanation = tg.explain(both.sum(), b)
    rows = [cells for _, cells, _ in explanation.rows()]
    assert rows == [["+inf", "+3.0000"], ["-inf", "-3.0000"], ["nan", "0"]]
    assert not explanation.cancels


def test_entries_that_are_not_finite_are_shown_among_many():
    b = leaf(np.ones(9), "b")
    c = np.array([1, 2, np.nan, 4, 5, 6, 7, -np.inf, 9])
    explanation = tg.explain((b * c).sum(), b)
    assert explanation.heads() == ["[2]", "[6]", "[7]", "[8]", "norm"]
    assert entries_of((b * c).sum(), b)[0][:4] == ["nan", "+7.0000", "-inf", "+9.0000"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_that_are_all_rounding_are_shown_as_zero(dtype):
    net, loss = all_routes_vanish(dtype)
    found = tg.explain(loss, net[0].bias)
    assert np.any([route.gradient for route in found])
    assert not np.any([route.shown for route in found])
    assert {route.note for route in found} == {"because its rows sum to 0"}


def test_a_small_sum_of_large_terms_is_not_mistaken_for_rounding():
    b = Tensor(np.zeros(1), requires_grad=True)
    loss = ((Tensor(np.ones((2, 1))) + b) * [[1e10], [1 - 1e10]]).sum()
    assert tg.explain(loss, b).shown_total.tolist() == [1]


def test_a_small_contribution_is_not_mistaken_for_rounding():
    b = Tensor([1e-6, 1.0], requires_grad=True, name="b")
    x = Tensor([[1.0, 1e6], [2.0, -1e6], [3.0, 1e6]]) + b
    loss = (tg.batch_norm(x) * [[1.0, 1e8], [-2.0, 1e8], [1.0 + 1e-6, 1e8]]).sum()
    direct = tg.explain(loss, b)[0]
    np.testing.assert_array_equal(direct.shown, direct.gradient)
    assert 0 < abs(direct.shown[0]) < 1e-5


def test_an_exact_half_is_not_mistaken_for_rounding_in_float16():
    b = leaf([1.0, 2.0], "b", np.float16)
    assert (
        entries_of((b * np.array([1, 0.5], np.float16)).sum(), b)
        == [["+1.0000", "+0.5000"]] * 2
    )


def test_what_nearly_cancels_does_not_cancel_in_float32():
    b = leaf([1.0, 2.0], "b", np.float32)
    explanation = tg.explain((b - (b * 0.9999).named("h")).sum(), b)
    assert not explanation.cancels
    assert [cells for _, cells, _ in explanation.rows()][-1] == ["+1.0e-04"] * 2


def test_a_small_entry_next_to_a_large_one_is_shown():
    b = leaf([1.0, 2.0], "b")
    assert entries_of((b * [1, 1e-12]).sum(), b)[0] == ["+1.0000", "+1.0e-12"]


def test_an_entry_in_which_only_rounding_arrives_is_zero():
    b = leaf([1.0, 2.0], "b")
    c = np.array([[0.1, 1], [0.2, 1], [-0.3, 1]])
    assert c.sum(axis=0)[0] != 0
    x = np.zeros((3, 1)) + b
    y = ((x - x.mean(axis=0).named("E[x]")) * c).sum()
    assert entries_of(y, b) == [["0", "+3.0000"], ["0", "-3.0000"], ["0", "0"]]


@pytest.mark.parametrize(("dtype", "mean"), [(np.float32, 1e4), (np.float16, 100)])
def test_the_route_through_the_variance_is_zero_whatever_rounding_makes_of_it(
    dtype, mean
):
    rng = np.random.default_rng(0)
    u = (rng.standard_normal((30, 3)) + mean).astype(dtype)
    b = leaf(np.ones(3), "b", dtype)
    y = tg.batch_norm(u + b) * rng.standard_normal((30, 3)).astype(dtype)
    explanation = tg.explain(y.sum(), b)
    assert explanation.residue > 1e-4 * explanation.scale and explanation.cancels
    assert [r.shown.any() for r in explanation] == [True, True, False, False]
    assert f"residue of up to {explanation.residue:.1g}" in str(explanation)


def test_an_empty_batch_contributes_zero():
    b = leaf([1.0, 2.0], "b")
    explanation = tg.explain((Tensor(np.zeros((0, 2))) + b).named("x").sum(), b)
    assert entries_of((Tensor(np.zeros((0, 2))) + b).sum(), b) == [["0", "0"]] * 2
    assert not explanation.cancels and explanation.scale == 0
    nothing = leaf(np.zeros((0, 2)))
    assert str(tg.explain((nothing * 2).sum(), nothing)).startswith("route")


# --- Errors ---------------------------------------------------------------------------

MAKE_IT_ONE = "Make it one, with requires_grad=True, before computing y."
PASS_A_PARAMETER = "Pass a parameter of the model itself, such as model[0].weight."


def test_a_result_computed_under_no_grad_cannot_be_explained():
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    with tg.no_grad():
        y = (a * a).sum().named("L")
    with pytest.raises(ValueError) as error:
        tg.explain(y, a)
    assert str(error.value) == (
        "explain(y): y must be computed from something that requires a gradient, but "
        "nothing was recorded for 'L' (scalar). Was it computed under no_grad(), "
        "detached, or made of tensors without requires_grad=True?"
    )


@pytest.mark.parametrize(
    ("leaf", "received", "remedy"),
    [
        (Tensor([1.0], name="u"), "'u'(1,)", MAKE_IT_ONE),
        (np.ones(3), "array(3,)", MAKE_IT_ONE),
        (3, "3", PASS_A_PARAMETER),
        ("0.bias", "'0.bias'", PASS_A_PARAMETER),
        (
            nn.Linear(2, 3),
            "Linear(2 → 3)",
            "Pass one of its parameters, such as weight.",
        ),
        (
            nn.Sequential(nn.ReLU(), nn.Linear(2, 3)),
            "Sequential",
            "Pass one of its parameters, such as 1.weight.",
        ),
        (
            nn.ReLU(),
            "ReLU()",
            "It has no parameters; pass one of another module.",
        ),
        (
            nn.Linear(2, 3, bias=False).bias,
            "None",
            "The layer has no such parameter; pass another one.",
        ),
    ],
)
def test_what_is_no_leaf_with_a_gradient_cannot_be_explained(leaf, received, remedy):
    a = Tensor([1.0], requires_grad=True)
    with pytest.raises(ValueError) as error:
        tg.explain((a * a).sum(), leaf)
    assert str(error.value) == (
        "explain(y, leaf): the leaf must be a tensor that requires a gradient, but "
        f"{received} was received. {remedy}"
    )


def test_an_output_of_several_elements_needs_a_gradient_of_its_shape():
    a = Tensor([1.0, 2.0], requires_grad=True)
    y = a * a
    with pytest.raises(ValueError, match="a backward pass starts from one number"):
        tg.explain(y, a)
    with pytest.raises(ValueError, match="must have the shape of the tensor"):
        tg.explain(y, a, gradient=np.ones(3))
    assert_routes(tg.explain(y, a, gradient=[5, 7]), {(): [10, 28]}, atol=0)


@pytest.mark.parametrize("normalize", [tg.batch_norm, tg.fused_batch_norm])
def test_a_leaf_that_changed_after_it_was_used_is_an_error_that_names_it(normalize):
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


def test_the_last_of_many_rows_by_hand_sums_the_smallest():
    b = leaf([1.0, -2.0, 0.5], "b")
    h, names = b * 1, []
    for i in range(5):
        names.append(f"s{i}")
        h = h + (h * 0.3**i).named(names[-1])
    y = (h * np.array([1.0, 2.0, 3.0])).sum().named("L")
    table = tg.explain(y, b, gates=names)
    assert len(table) == 16 and str(table[15]) == "17 other rows"
    total = tg.grad(y, b).data
    np.testing.assert_allclose(sum(r.gradient for r in table), total, rtol=1e-12)
    np.testing.assert_allclose(table.total, total, rtol=1e-12)
    smallest = min(np.abs(r.gradient).max() for r in table.routes[:15])
    assert smallest > 0 and table[15].shown.any()
    assert "17 other rows" in tg.draw_routes(y, b, gates=names).source
