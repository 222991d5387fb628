"""What each module of a network computed, and the gradient that came back to it.

``layers`` works for any module and needs no hooks, because the tape records which
module made which tensor.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np

import tinygrad_bn as tg
from tinygrad_bn import Tensor, tape
from tinygrad_bn.scopes import enclosing


class Layer(NamedTuple):
    """The output of one call of a module, and the gradient of the loss there."""

    kind: str
    values: np.ndarray
    gradient: np.ndarray

    @property
    def dead(self) -> float:
        """The fraction of units with the same output for every row of the batch."""
        return float((np.ptp(self.values, axis=0) == 0).mean())


def layers(loss: Tensor) -> dict[str, Layer]:
    """The modules on the tape by qualified name, in the order of their calls.

    The second call of a module is listed separately, as in ``1 (call 2)``.
    """
    outputs = {}
    for tensor in reversed(tape(loss)):
        calls = (call for call in enclosing(tensor.scope) if call.owner is not None)
        if (innermost := next(calls, None)) is not None:
            # A call returns the result of its newest operation, which comes last here.
            outputs[innermost] = tensor
    gradients = tg.grad(loss, list(outputs.values()))
    found, counts = {}, Counter()
    for (call, output), gradient in zip(outputs.items(), gradients):
        kind = type(call.owner).__name__
        name = call.name or kind
        counts[name] += 1
        name += f" (call {counts[name]})" if counts[name] > 1 else ""
        found[name] = Layer(kind, output.data, gradient.data)
    return found
