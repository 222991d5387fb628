"""Which parameters of a model cannot learn, and why.

A gradient of 1e-9 may be small, or zero in exact arithmetic and the rest rounding. The
check runs a copy of the model in float64, where the two are far apart, and asks
``explain`` for the routes that cancel.

This file comes after ``routes.py`` and ``nn.py`` in the reading order.
"""

import copy
from dataclasses import dataclass

import numpy as np

from .backward import backward_pass
from .nn import Module
from .routes import Explanation, refuse_unrecorded, what_cancels
from .scopes import always_recorded
from .tensor import Tensor

SMALL = 1e-9


@dataclass(frozen=True)
class Finding:
    """A parameter that cannot learn: its qualified ``name``, and the ``reason`` in
    words."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"`{self.name}` {self.reason}"


class Findings(tuple):
    """The findings of a check: they can be iterated, and print as one line each."""

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))

    __repr__ = __str__


@always_recorded
def check_redundant(model: Module, x) -> Findings:
    """Tell which parameters of ``model`` cannot learn from ``x``, one batch of inputs.

    A random cotangent at the model's output stands for the loss. Told apart are
    gradients that cancel by structure (a bias in front of batch norm), parameters that
    the output does not depend on, and those to which this batch sends nothing. The
    model is not changed, nor are its running statistics, gradients and mode.

    Raises: ``ValueError`` if nothing in the output requires a gradient.
    """
    if not isinstance(model, Module):
        raise TypeError(
            "check_redundant(model, x): a module and one batch of inputs must be "
            f"given, but {type(model).__name__} and {type(x).__name__} were received."
        )
    twin = _in_float64(model)
    values = x.data if isinstance(x, Tensor) else np.asarray(x)
    y = twin(Tensor(values, dtype=np.float64 if values.dtype.kind == "f" else None))
    refuse_unrecorded("check_redundant", y)
    g = np.random.default_rng(0).standard_normal(y.shape)
    gradients, scaled = backward_pass(y, g), backward_pass(y, 3 * g)
    found = []
    for name, parameter in twin.named_parameters():
        d = gradients.get(parameter)
        if d is None:
            reason = "is not connected: the output does not depend on it"
            found.append(Finding(name, reason))
        # A gradient grows with the cotangent from which it comes; rounding does not.
        elif np.abs(scaled[parameter] - 3 * d).max() >= 1e-3 * np.abs(d).max():
            routes = what_cancels(y, parameter, g)
            if routes is None or routes.scale <= SMALL * np.abs(g).max():
                # Behind another dead end nothing arrives: ask with a cotangent nearby.
                routes = what_cancels(y, parameter)
            found.append(Finding(name, _reason(name, d, routes)))
    return Findings(found)


def _in_float64(model: Module) -> Module:
    twin = copy.deepcopy(model)
    for tensor in {t for _, t in twin.named_parameters()}:
        tensor.move_to(np.empty(tensor.shape), np.empty(tensor.shape))
    return twin


def _reason(name: str, d: np.ndarray, routes: Explanation | None) -> str:
    if routes is None:
        if not d.any():
            return "receives exactly 0 from this batch: every way to it is switched off"
        return (
            f"receives rounding noise only (up to {np.abs(d).max():.0e}): what arrives "
            "cancels, by routes that nobody named"
        )
    direct, through = (route for route in routes if not route.cut)
    i = np.unravel_index(np.abs(direct.gradient).argmax(), d.shape)
    module, _, gate = through.gates[0].rpartition(".")
    where = f"batch norm `{module}`" if module else "a batch norm"
    advice = "use bias=False" if name.rpartition(".")[2] == "bias" else "leave it out"
    return (
        f"feeds {where}: direct {direct.gradient[i]:+.3f}, via {gate} "
        f"{through.gradient[i]:+.3f}; {advice}"
    )
