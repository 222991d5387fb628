"""A numerical check of gradients: pullbacks compared with finite differences.

    cotangent   random weights; an output, weighted and summed, becomes one number
    direction   a random change of one input, with entries of size 1/2 to 1
    slope       how fast that number changes along the direction. By pullbacks it is the
                sum of gradient times direction; by differences it is
                ``(f(x + h v) - f(x - h v)) / (2 h)``, improved to fourth order
    scale       the sum of the absolute values of all terms of a slope. Where terms
                cancel, the slope is small, but the scale is not

This file comes after ``tensor.py`` in the order of imports.

Left out on purpose: float32 (too coarse for differences), a search for the best step,
whole Jacobians (a random projection depends on every entry).
"""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .arguments import refuse_masked
from .backward import grad
from .errors import describe
from .scopes import recording
from .tensor import Tensor

SEED = list(b"check_gradients")


@recording()
def check_gradients(
    f: Callable,
    *inputs: Any,
    order: int = 2,
    step: float = 1e-3,
    tolerance: float = 1e-8,
    directions: int = 3,
) -> None:
    """Assert that the gradients of ``f`` agree with differences of its values.

    ``f`` maps tensors to a tensor. ``inputs`` are floating-point arrays or tensors, of
    which it receives copies in float64. Other arguments are passed by a lambda:
    ``check_gradients(lambda x: f(x, labels), x)``. Every run draws the same random
    numbers.

    Outputs are projected on random cotangents, gradients on random directions. A loss
    like ``sum(y)`` would prove nothing: for batch norm it does not depend on x, so that
    the right d_x is 0, and many wrong backward passes also compute 0.

    ``order`` counts differentiations: with 2, the gradient is checked as a function of
    the inputs and of its cotangent. ``step`` has the unit of the inputs; it should be
    small compared with the length over which ``f`` bends, and no input should be within
    two steps of a kink. ``tolerance`` is relative to the scale. (If a result is 0 apart
    from rounding, it has no scale: check the terms of the sum instead.) ``directions``
    is the number of random projections. Each gradient is computed with and without
    ``create_graph``, and both must agree.

    Raises: ``AssertionError`` that names f, the input, the order and the sizes of both
    sides; ``TypeError`` for inputs that are not floating-point and results that are not
    float64 tensors; ``ValueError`` for no inputs and an order below 1.

    Source: Griewank & Walther, Evaluating Derivatives, 2nd ed., section 3.2; for the
    differences Fornberg, Math. Comp. 51 (1988), table 1.
    """
    name = getattr(f, "__name__", None) or getattr(f, "name", type(f).__name__)
    if order < 1 or directions < 1 or not inputs:
        raise ValueError(
            f"check_gradients({name}): there must be an input, and order and "
            f"directions must be at least 1, but {len(inputs)} inputs, order={order!r} "
            f"and directions={directions!r} were received."
        )
    leaves = _leaves(f, name, inputs)
    # A seed that is unlikely to have made the data: for g = x, batch norm's d_x is 0.
    rng = np.random.default_rng(SEED)
    for _ in range(directions):
        _check_once(f, name, leaves, order, step, tolerance, rng)


def _check_once(
    f: Callable,
    name: Any,
    leaves: list[Tensor],
    order: int,
    step: float,
    tolerance: float,
    rng: np.random.Generator,
) -> None:
    """One random projection of every gradient, up to the given order."""
    function, xs, scale = _checked(f, name), leaves, 0.0
    for k in range(1, order + 1):
        outputs = function(*xs)
        cotangents = [
            Tensor(rng.standard_normal(y.shape), True, f"cotangent of order {k}")
            for y in outputs
        ]
        total = _weighted_sum(outputs, cotangents)
        scale += sum(_size(y.data * g.data) for y, g in zip(outputs, cotangents))
        gradients, recorded = grad(total, xs), grad(total, xs, create_graph=True)
        for i, (x, d_x, twin) in enumerate(zip(xs, gradients, recorded)):
            v = rng.uniform(0.5, 1, x.shape) * rng.choice([-1, 1], x.shape)
            slopes = _differences(function, xs, cotangents, i, step * v) / step
            where = f"check_gradients({name}), order {k}, input {i} {describe(x)}"
            _compare_slopes(where, d_x.data * v, slopes, scale, tolerance)
            _compare_algebras(where, d_x.data, twin.data, scale, tolerance)
        # A pullback depends on its cotangent, too. From now on, that is an input.
        function, xs = _gradients_of(function, len(xs)), [*xs, *cotangents]


def _leaves(f: Any, name: Any, inputs: Any) -> list[Tensor]:
    """Copies of the inputs, under their own names or those in f's signature."""
    refuse_masked(inputs, "check_gradients")
    for i, x in enumerate(map(np.asarray, inputs)):
        if x.dtype.kind != "f":
            raise TypeError(
                f"check_gradients({name}): inputs must be floating-point, but input "
                f"{i} is {x.dtype}. Convert it, or pass it by a lambda: "
                "check_gradients(lambda x: f(x, labels), x)."
            )
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except ValueError:  # NumPy's functions have no signature.
        parameters = []
    named = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    names = [*named, *[None] * len(inputs)]
    return [
        Tensor(np.asarray(x), True, name=getattr(x, "name", None) or name, dtype=float)
        for x, name in zip(inputs, names)
    ]


def _checked(f: Any, name: Any) -> Callable:
    """``f`` as a function to a list of tensors, which is what gradients are, too."""

    def outputs(*leaves):
        y = f(*leaves)
        if not isinstance(y, Tensor) or y.dtype != np.float64:
            received = f"a tensor of {y.dtype}" if isinstance(y, Tensor) else type(y)
            raise TypeError(
                f"check_gradients({name}): f must return one float64 tensor, like its "
                f"inputs, but {received} was received. Let no operation convert."
            )
        return [y]

    return outputs


def _gradients_of(function: Any, count: Any) -> Callable:
    """The gradients of ``function`` as a function of its inputs and of cotangents."""

    def gradients(*xs):
        inputs, cotangents = xs[:count], xs[count:]
        total = _weighted_sum(function(*inputs), cotangents)
        return grad(total, inputs, create_graph=True)

    return gradients


def _weighted_sum(outputs: Any, cotangents: Any) -> Tensor:
    return sum((y * g).sum() for y, g in zip(outputs, cotangents))


def _differences(
    function: Any, xs: Any, cotangents: Any, i: Any, change: Any
) -> np.ndarray:
    """The effect of a small ``change`` of input ``i`` on each term of the sum."""

    def terms(amount):
        moved = list(xs)
        moved[i] = Tensor(xs[i].data + amount * change, True, xs[i].name)
        weighted = zip(function(*moved), cotangents)
        return np.concatenate([(y.data * g.data).ravel() for y, g in weighted])

    return (8 * (terms(1) - terms(-1)) - (terms(2) - terms(-2))) / 12


def _size(terms: np.ndarray) -> float:
    return float(np.abs(terms).sum())


def _compare_slopes(
    where: str,
    by_pullbacks: np.ndarray,
    by_differences: np.ndarray,
    scale: float,
    tolerance: float,
) -> None:
    scale += _size(by_pullbacks) + _size(by_differences)
    pullbacks, differences = by_pullbacks.sum(), by_differences.sum()
    if not abs(pullbacks - differences) <= tolerance * scale:
        raise AssertionError(
            f"{where}: the slope along a random direction must be the same by "
            f"pullbacks and by differences, but pullbacks give {pullbacks:+.9g} and "
            f"differences {differences:+.9g}, at a scale of {scale:.3g}. Correct the "
            "pullback; if it is right, keep inputs away from kinks, or change step=."
        )


def _compare_algebras(
    where: str,
    by_arrays: np.ndarray,
    by_tensors: np.ndarray,
    scale: float,
    tolerance: float,
) -> None:
    gap = _size(by_arrays - by_tensors)
    if not gap <= tolerance * (scale + _size(by_arrays) + _size(by_tensors)):
        raise AssertionError(
            f"{where}: the gradient must be the same with and without create_graph, "
            f"but its size is {_size(by_tensors):.9g} with and {_size(by_arrays):.9g} "
            f"without, and they differ by {gap:.3g}. A pullback must use operators and "
            "functions of tg only; a fused operation must compute what its definition "
            "computes."
        )
