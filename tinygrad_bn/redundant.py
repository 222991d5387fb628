"""Which parameters of a model cannot learn, and why.

A gradient of 1e-9 may be truly small, or it may be zero in exact arithmetic and consist
of rounding. So the check replays one pass of the model in two precisions: a true
gradient is the same in both, but rounding is not. The routes of ``routes.py`` then show
what cancels.

This file comes after ``routes.py`` and ``summary.py`` in the reading order.

Left out on purpose: parameters that do learn, but that another one could replace, such
as those of two linear layers in a row.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backward import backward_pass
from .errors import describe, type_name
from .explanation import Row
from .gates import STATISTICS, batch_norm_around, choose_gates
from .graph import NEGLIGIBLE, Subgraph, Unfolded, largest_finite, replay
from .nn import Module
from .routes import by_row, carry, refuse_unrecorded
from .scopes import recording
from .summary import trial_copy
from .tensor import Tensor

# Rounding in float64 is about 2e-9 of that in float32: this leaves a wide margin.
ROUNDING_SHRINKS = 1e-4
# On a batch that lies on one side of the kink, these functions are linear.
KINKS = {"relu", "absolute", "maximum", "minimum", "clip"}


@dataclass(frozen=True)
class Finding:
    """A parameter that cannot learn: its qualified ``name``, and the ``reason``."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"`{self.name}` {self.reason}"


class Findings(tuple[Finding, ...]):
    """The findings of a check: a tuple that prints one finding per line.

    ``checked`` is the number of parameters that were checked.
    """

    checked = 0

    def __str__(self) -> str:
        if self:
            return "\n".join(map(str, self))
        plural = "" if self.checked == 1 else "s"
        return f"{self.checked} parameter{plural} checked, none redundant"

    __repr__ = __str__


@recording()
def check_redundant(model: Module, x: Any) -> Findings:
    """Find the parameters of ``model`` that cannot learn from ``x``, a batch of inputs.

    A random cotangent at the model's output stands for the loss. The check
    distinguishes parameters whose gradient always cancels (a bias in front of batch
    norm), parameters that the output does not depend on, and parameters that receive
    nothing from this batch, or only what cancels on it. It runs a copy, so the model
    does not change.

    Raises: ``ValueError`` for a model in evaluation mode; for inputs, an output, or a
    variance in batch norm that are not finite; for an output that requires no gradient.
    ``TypeError`` for a ``model`` that is not a module, and an output that is not a
    tensor.
    """
    if not isinstance(model, Module):
        raise TypeError(
            "check_redundant(model, x): a module and one batch of inputs must be "
            f"given, but {type_name(model)} and {type_name(x)} were received. "
            "tg.from_torch converts modules of PyTorch."
        )
    if not model.training:
        raise ValueError(
            "check_redundant(model, x): the model must be in training mode. In "
            "evaluation mode, batch norm subtracts its running mean, which does not "
            "depend on the parameters, so no bias is redundant. Call model.train()."
        )
    model = trial_copy(model)
    x = Tensor(x.data if isinstance(x, Tensor) else x)
    y = model(x)
    refuse_unrecorded("check_redundant", y)
    for what, t in (("x", x), ("the output", y)):
        if not np.isfinite(t.data).all():
            raise ValueError(
                f"check_redundant(model, x): {what} must be finite, but it contains "
                "NaN or infinity. tg.find_nonfinite(loss) finds the source."
            )
    parameters = list(model.named_parameters())
    reasons = _reasons(y, parameters)
    found = [Finding(name, reasons[name]) for name, _ in parameters if name in reasons]
    findings = Findings(found)
    findings.checked = len(parameters)
    return findings


def _reasons(y: Tensor, parameters: list[tuple[str, Tensor]]) -> dict[str, str]:
    """The reasons why parameters behind ``y`` cannot learn, by name."""
    g = np.random.default_rng(0).standard_normal(y.shape)
    twins, exact = _gradients(y, g, np.float64)
    coarse_twins, coarse = _gradients(y, g, np.float32)
    _refuse_overflow(coarse_twins[y])
    reasons, dead, unclear = {}, {}, set[str]()
    for name, parameter in parameters:
        twin = twins.get(parameter)
        if twin is None or twin not in exact:
            reasons[name] = "is not connected: the output does not depend on it"
        elif not np.isfinite(exact[twin]).all():
            reasons[name] = (
                "receives NaN or infinity: tg.find_nonfinite(loss) finds the source"
            )
        else:
            d = largest_finite(exact[twin])
            rough = largest_finite(coarse[coarse_twins[parameter]])
            if d <= ROUNDING_SHRINKS * rough:
                dead[name] = twin
            elif not rough:
                dead[name] = twin
                # Rounding may add up to exactly 0 in float32, or a factor may be 0 only
                # there, such as the slope of a sigmoid. The routes tell the two apart.
                unclear.add(name)
    graph = Unfolded(twins[y])
    if constant := _constant_input(graph):
        return reasons | dict.fromkeys(dead, constant)
    subgraph = Subgraph(graph, *dead.values())
    arrived = carry(subgraph, choose_gates(subgraph), g)
    for name, twin in dead.items():
        shares = _cancelling(by_row(arrived[twin]), g)
        shares = shares or _cancelling_nearby(graph, twin)
        if shares or name not in unclear:
            kink = _kink_before_batch_norm(graph, twin)
            reasons[name] = _reason(name, shares, exact[twin], kink)
    return reasons


def _gradients(y: Tensor, g: np.ndarray, dtype: Any) -> tuple[dict, dict]:
    """The twins of a replay, and the gradients of those that are leaves."""
    twins = replay(y, dtype)
    with np.errstate(all="ignore"):
        return twins, backward_pass(twins[y], g.astype(dtype))


def _refuse_overflow(y: Tensor) -> None:
    """Raise if a variance is not finite: x_hat is then 0, and so are all gradients."""
    for t in Unfolded(y).order:
        if t.name == "Var[x]" and not np.isfinite(t.data).all():
            raise ValueError(
                "check_redundant(model, x): variances must be finite in float32, but "
                f"{describe(t)} is not. Scale x or the weights; "
                "tg.find_nonfinite(loss) finds the source."
            )


def _constant_input(graph: Unfolded) -> str:
    """The reason if nothing is left after some batch norm subtracts its mean."""
    means = {batch_norm_around(t): t for t in graph.order if t.name == "E[x]"}
    means.pop(None, None)
    for t in reversed(graph.order):
        mean = means.get(batch_norm_around(t)) if t.name == "Var[x]" else None
        if mean is not None and (t.data <= (NEGLIGIBLE * mean.data) ** 2).all():
            norm = str(t.qualified_name()).rpartition(".")[0]
            return (
                "cannot be checked with this batch, in which every row gives "
                f"{_norms([norm])} the same input: pass a batch whose rows differ"
            )
    return ""


def _cancelling(rows: dict[Row, list], g: np.ndarray) -> dict[Row, np.ndarray]:
    """The rows that are not negligible compared with ``g``, provided they cancel."""
    shares = {
        row: sum(d for d in parts if d is not None) for row, parts in rows.items()
    }
    scale = max((np.abs(d).max(initial=0) for d in shares.values()), default=0)
    total = np.abs(sum(shares.values())).max(initial=0)
    if scale <= NEGLIGIBLE * np.abs(g).max() or total > NEGLIGIBLE * scale:
        return {}
    alive = [row for row, d in shares.items() if np.abs(d).max() > NEGLIGIBLE * scale]
    # Listed as in a table, from the leaf to the loss.
    alive.reverse()
    alive.sort(key=lambda row: (row.around, len(row.gates)))
    return {row: shares[row] for row in alive}


def _cancelling_nearby(graph: Unfolded, parameter: Tensor) -> dict[Row, np.ndarray]:
    """The same for a random cotangent at the tensor where the routes separate.

    The cotangent of the output may not get there, because something nearer to the
    output may cancel it.
    """
    subgraph = Subgraph(graph, parameter)
    gates, every = choose_gates(subgraph), subgraph.on_every_route()
    if not gates.names:
        return {}
    nearest = list(gates.names)[-1]
    before = itertools.takewhile(lambda t: t is not nearest, subgraph.steps)
    fork = [t for t in before if t in every][-1]
    g = np.random.default_rng(0).standard_normal(fork.shape)
    return _cancelling(by_row(carry(subgraph, gates, g, start=fork)[parameter]), g)


def _kink_before_batch_norm(graph: Unfolded, parameter: Tensor) -> bool:
    """Whether a function such as ReLU lies between a parameter and its batch norm."""
    steps = list(Subgraph(graph, parameter).steps)  # from the output to the parameter
    inside = [i for i, t in enumerate(steps) if batch_norm_around(t) is not None]
    before = steps[inside[-1] + 1 :] if inside else []
    return any(t.op is not None and t.op.name in KINKS for t in before)


def _reason(name: str, shares: dict[Row, np.ndarray], d: np.ndarray, kink: bool) -> str:
    if shares and kink:
        return (
            f"{_in_words(shares)}; it cancels on this batch only, because a function "
            "with a kink in between, such as ReLU, is linear on it"
        )
    if shares:
        is_bias = name.rpartition(".")[2] == "bias"
        return f"{_in_words(shares)}; {'use bias=False' if is_bias else 'leave it out'}"
    if not d.any():
        return (
            "receives exactly 0 from this batch, as behind a ReLU whose inputs are all "
            "negative"
        )
    return (
        f"receives only rounding noise (up to {largest_finite(d):.0e}): its gradient "
        "cancels along routes without named tensors"
    )


def _in_words(shares: dict[Row, np.ndarray]) -> str:
    """The largest entry of the gradient, by the routes that bring it."""
    sizes = np.maximum.reduce([np.abs(d) for d in shares.values()])
    largest = np.unravel_index(sizes.argmax(), sizes.shape)
    gates = [gate.rpartition(".") for row in shares for gate in row.gates]
    norms = list(dict.fromkeys(path for path, _, name in gates if name in STATISTICS))
    parts = [f"{row} {d[largest]:+.3f}" for row, d in shares.items()]
    where = f"feeds {_norms(norms)}" if norms else "receives what cancels"
    text = f"{where}: {', '.join(parts)}"
    return text.replace(f"via {norms[0]}.", "via ") if len(norms) == 1 else text


def _norms(paths: Iterable[str]) -> str:
    quoted = [f"`{path}`" for path in paths if path]
    if not quoted:
        return "a batch norm"
    plural = "s" if len(quoted) > 1 else ""
    return f"batch norm{plural} {' and '.join(quoted)}"
