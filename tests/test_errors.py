"""Error messages in full: what must hold, what was received, and what to do.

Most messages are tested next to the behavior that they protect; these have no such
place.
"""

import numpy as np
import pytest
from conftest import leaf

import tinygrad_bn as tg
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
