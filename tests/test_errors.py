"""Error messages in full: what must hold, what was received, and what to do.

Most messages are tested next to the behavior that they protect; these have no such
place.
"""

from fractions import Fraction

import numpy as np
import pytest
from conftest import leaf

import tinygrad_bn as tg
from tinygrad_bn import nn
from tinygrad_bn.errors import describe
from tinygrad_bn.optimizer import Optimizer
from tinygrad_bn.tape import Operation

ROUTES = {
    direction: tg.draw(tg.exp(leaf([1.0])), direction=direction)
    for direction in ("LR", "TB")
}


def with_forward_only() -> Operation:
    operation = Operation("half_done")
    operation.forward = np.exp
    return operation


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: tg.tape(np.ones(2)),
            TypeError,
            "tape(y): y must be a tensor, but array(2,) was received.",
        ),
        (
            lambda: with_forward_only()(leaf([1.0])).backward(),
            NotImplementedError,
            "Operation.apply_pullbacks is missing.",
        ),
        (
            lambda: Optimizer([leaf([1.0])], lr=1, weight_decay=0).step(),
            NotImplementedError,
            "Optimizer must define _update().",
        ),
        (
            lambda: Optimizer([leaf([1.0])], lr=1, weight_decay=0).state_dict(),
            NotImplementedError,
            "Optimizer must define _state().",
        ),
        (
            lambda: Optimizer([("scale", leaf(1.0))] * 2, lr=1, weight_decay=0),
            ValueError,
            (
                "Optimizer: each parameter must be given once, but 'scale' (scalar) "
                "was given 2 times. Pass module.parameters()."
            ),
        ),
        (
            lambda: tg.draw(leaf([1.0])),
            ValueError,
            (
                "draw(y): y must be computed from something, but tensor(1,) is a leaf. "
                "The order is draw(y, leaf)."
            ),
        ),
        (
            lambda: tg.draw(nn.Sequential(nn.ReLU(), nn.ReLU())),
            TypeError,
            (
                "draw: the output must be a tensor, but Sequential was received. Pass "
                "what it returns."
            ),
        ),
        (
            lambda: tg.grad(leaf([1.0]), [1.0] * 50),
            TypeError,
            "grad(y, wrt): wrt must be tensors, but it contains 1.0.",
        ),
        (
            lambda: tg.grad([1.0] * 50, nn.ReLU()),
            TypeError,
            (
                "grad(y, wrt): y must be a tensor, and wrt a tensor or a sequence of "
                "them, but list and ReLU() were received."
            ),
        ),
        (
            lambda: tg.Tensor(nn.Sequential(nn.ReLU())),
            TypeError,
            (
                "Tensor(data): data must be real numbers, but NumPy reads Sequential "
                "as dtype object."
            ),
        ),
        (
            lambda: ROUTES["LR"].save("y.png", scale=0),
            ValueError,
            (
                "drawing.save(scale): the scale must be positive, but 0 was received. "
                "2 is sharp on most screens."
            ),
        ),
        (
            lambda: tg.side_by_side(*ROUTES.values()),
            ValueError,
            (
                "side_by_side: one or more drawings of one direction must be given, "
                "but 2 with directions ['LR', 'TB'] were received."
            ),
        ),
    ],
)
def test_an_error_says_what_must_hold_what_was_received_and_what_to_do(
    call, kind, message
):
    with pytest.raises(kind) as error:
        call()
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (np.ones((2, 3)), "array(2, 3)"),
        (np.float32(1.5), repr(np.float32(1.5))),
        ("short", "'short'"),
        ("long" * 20, "str"),
        (nn.Linear(2, 3), "Linear(2 → 3)"),
        (nn.Sequential(nn.Linear(2, 3)), "Sequential"),
        (Fraction(1, 3), "Fraction(1, 3)"),
        (Fraction(1, 3**200), "fractions.Fraction"),
        (memoryview(b"abc"), "memoryview(3,)"),
    ],
)
def test_what_is_no_tensor_is_described_by_a_short_repr_or_by_its_type(x, text):
    assert describe(x) == text
