"""``find_nonfinite``: the first operation that makes NaN or infinity."""

import numpy as np
import pytest
from conftest import leaf

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn

X = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)


def network(depth):
    blocks = [f for i in range(depth) for f in (nn.Linear(4, 4, rng=i), nn.ReLU())]
    return nn.Sequential(*blocks)


def test_nothing_is_found_if_everything_is_finite():
    x = leaf([1.0, 2.0], "x")
    found = tg.find_nonfinite((x * x).sum())
    assert (
        not found and str(found) == repr(found) == "all finite" and found.node is None
    )


def test_the_first_output_that_is_not_finite_is_found():
    x = leaf([0.0, 1.0, 2.0], "x")
    with np.errstate(divide="ignore"):
        h = tg.log(x)
        y = (tg.exp(h * 2) + h).sum()
    found = tg.find_nonfinite(y)
    assert found and found.node is h
    assert str(found) == (
        "forward: log is the first whose output is not finite\n"
        "  output         1 -inf of 3, the others from 0 to 0.6931\n"
        "  input 'x'(3,)  from 0 to 2\n"
        "  route          sum_to -> add -> log"
    )


def test_the_module_and_the_route_from_the_loss_are_named():
    model = network(8)
    model[4].weight[1, 2] = np.nan
    found = tg.find_nonfinite((model(Tensor(X)) ** 2).mean())
    assert (found.direction, found.operation) == ("forward", "linear")
    assert found.part == "matmul"
    assert found.module == "module `4` (Linear)"
    assert found.route == ("mean", "power", *map(str, range(15, 3, -1)))
    assert found.ranges[2] == ("input '4.weight'(4, 4)", found.ranges[2][1])
    assert found.ranges[2][1].startswith("1 nan of 16, the others from -")
    assert str(found).split("\n")[-1].split("  ")[-1].strip() == (
        "mean -> power -> 15 -> 14 -> ... -> 7 -> 6 -> 5 -> 4"
    )


def test_the_first_gradient_that_is_not_finite_is_found():
    x = leaf([0.0, 1.0], "x")
    h = (x * 3).named("h")
    y = (tg.sqrt(h) * 2).sum()
    found = tg.find_nonfinite(y)
    assert (found.direction, found.operation) == ("backward", "sqrt")
    assert dict(found.ranges) == {
        "gradient of 'h'(2,)": "1 inf of 2, the others 0.5774",
        "gradient of the output": "2",
        "output": "from 0 to 1.732",
        "input 'h'(2,)": "from 0 to 3",
    }
    assert str(found).startswith(
        "backward: sqrt is the first that passes on a gradient that is not finite\n"
    )
    assert np.isfinite(y.data)


def test_a_sum_of_gradients_that_overflows_is_found():
    b = leaf([1e-3, 0], "x", np.float16)
    y = (b * np.float16(40000) + (b * np.float16(40000)).named("h")).sum()
    found = tg.find_nonfinite(y)
    assert (found.direction, found.operation) == ("backward", "mul")
    assert found.ranges[0] == ("gradient of 'x'(2,)", "2 inf of 2")


def test_every_kind_of_number_is_counted():
    with np.errstate(all="ignore"):
        y = leaf([-1.0, 0, 1, 2], "x") / Tensor([0.0, 0, 0, 1], name="zero")
    found = tg.find_nonfinite(y.sum())
    assert found.ranges[0] == (
        "output",
        "1 nan and 1 inf and 1 -inf of 4, the others 2",
    )
    assert found.ranges[2] == ("input 'zero'(4,)", "from 0 to 1")


def test_what_stop_gradient_hides_from_the_gradient_is_searched_too():
    x = leaf([0.0, 1.0], "x")
    with np.errstate(divide="ignore"):
        y = (x + tg.stop_gradient(tg.log(x))).sum()
    assert tg.find_nonfinite(y).operation == "log"


@np.errstate(all="ignore")
def test_an_overflow_hidden_inside_a_fused_operation_is_found():
    x = Tensor(X, requires_grad=True, name="x", dtype=float)
    y = tg.fused_batch_norm(x * 1e200)
    assert not y.data.any()
    found = tg.find_nonfinite((y * y).sum())
    assert (found.operation, found.part) == ("batch_norm", "power")
    assert found.node is y
    assert found.route == ("sum_to", "mul", "batch_norm")
    assert str(found).startswith(
        "forward: power inside batch_norm is the first whose output is not finite\n"
        "  output              32 inf of 32\n"
        "  input tensor(8, 4)  from -"
    )


@np.errstate(all="ignore")
def test_a_gradient_that_overflows_inside_a_fused_operation_is_found():
    model = nn.Sequential(nn.Linear(4, 4, rng=0), nn.BatchNorm(4))
    g = np.zeros((8, 4), np.float32)
    g[:2] = 3e38
    found = tg.find_nonfinite(model(Tensor(X)), gradient=g)
    assert (found.direction, found.operation) == ("backward", "batch_norm")
    assert found.module == "module `1` (BatchNorm)"
    assert (found.part, found.ranges[0]) == (
        "broadcast_to",
        ("gradient of '1.beta'(4,)", "4 inf of 4"),
    )
    assert "backward: broadcast_to inside batch_norm in module `1`" in str(found)


def fused(forward, backward, definition):
    return tg.Fused("twice", forward, backward, definition)


def test_infinity_that_only_the_fused_form_computes_is_attributed_to_it():
    x = leaf([1.0, 2.0])
    saves = fused(
        lambda x: (x * 2, np.inf * x), lambda g, *_: (g * 2,), lambda x: x * 2
    )
    assert not tg.find_nonfinite(saves(x).sum())
    forward = fused(lambda x: (x * np.inf, None), None, lambda x: x * 2)
    found = tg.find_nonfinite(forward(x).sum())
    assert (found.direction, found.operation, found.part) == ("forward", "twice", "")
    back = fused(lambda x: (x * 2, None), lambda g, *_: (g * np.inf,), lambda x: x * 2)
    found = tg.find_nonfinite(back(x).sum())
    assert (found.direction, found.operation, found.part) == ("backward", "twice", "")


def test_the_search_goes_into_fused_operations_inside_others():
    inner = fused(lambda x: (x * np.inf, None), None, tg.log)
    outer = fused(lambda x: (x * np.inf, None), None, lambda x: inner(x * 2) + 1)
    with np.errstate(invalid="ignore"):
        y = outer(leaf([0.0, 1.0]))
    found = tg.find_nonfinite(y.sum())
    assert found.node is y
    assert (found.operation, found.part) == ("twice", "log")


def test_the_search_changes_no_gradients():
    x = leaf([0.0, 1.0], "x")
    y = tg.sqrt(x).sum()
    tg.find_nonfinite(y)
    assert x.grad is None


def test_errors_are_those_of_a_backward_pass():
    x = leaf([1.0, 2.0], "x")
    with pytest.raises(ValueError, match="a backward pass starts from one number"):
        tg.find_nonfinite(x * 2)
    assert not tg.find_nonfinite(x * 2, gradient=[1, 1])
    assert tg.find_nonfinite(x * 2, gradient=[1, np.inf]).operation == "mul"
    with pytest.raises(ValueError, match=r"find_nonfinite\(y\): y must be computed"):
        tg.find_nonfinite(x)
    y = (x * 2).sum()
    x.data = x.data + 1
    with pytest.raises(RuntimeError, match="was changed after"):
        tg.find_nonfinite(y)


def test_a_scalar_gradient_that_is_infinite_is_found():
    s = Tensor(0.0, requires_grad=True)
    assert "sqrt" in str(tg.find_nonfinite(tg.sqrt(s)))
    w = Tensor(np.zeros(3), requires_grad=True)
    assert "sqrt" in str(tg.find_nonfinite(tg.sqrt((w * w).sum())))
