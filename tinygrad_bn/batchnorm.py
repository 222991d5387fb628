"""Batch normalization, defined twice: as a graph of primitives, and fused by hand.

Geometry first. Per channel, the m values of a batch are one vector x. Batch norm
removes from x its component along the vector of ones 1 (it subtracts the mean), scales
what is left to length sqrt(m), and then stretches by gamma and shifts by beta. Adding
to x along 1 does not change the result, nor does, as eps -> 0, stretching x by a
positive factor; so the gradient has no component in those directions:

    the backward pass removes from the cotangent g its component along 1 and,
    as eps -> 0, along x_hat, and rescales what is left.

Hence sum(d_x) = 0 over the batch. That sum is the gradient of a bias in front of batch
norm, which is why such a bias learns nothing.

The derivation. Forward, with m values per channel:

    mean  = E[x]       x_c     = x - mean
    var   = E[x_c^2]   inv_std = (var + eps)^(-1/2)
    x_hat = inv_std * x_c
    y     = gamma * x_hat + beta

Backward, from g = dL/dy, with d_x_hat = gamma * g:

    d_beta  = sum(g)
    d_gamma = sum(g * x_hat)
    d_var   = -(1/2) inv_std^3 * sum(d_x_hat * x_c)
            = -(1/2) inv_std^2 * sum(d_x_hat * x_hat)
    d_x_c   = inv_std * d_x_hat + d_var * (2/m) x_c
            = inv_std * (d_x_hat - x_hat * mean(d_x_hat * x_hat))
    d_x     = d_x_c - mean(d_x_c)
            = gamma * inv_std * (g - mean(g) - x_hat * mean(g * x_hat))

The last line holds because sum(x_hat) = 0. In it, ``g`` is the direct route,
``- mean(g)`` came through E[x], and the last term through Var[x].

==================  ====================================================================
N, C                the batch size, and the number of channels (features)
axes                the axes averaged over; the other ones are the channels
m                   the number of values averaged per channel, N for ``axes=(0,)``
running statistics  averages over batches of mean and var, for evaluation
==================  ====================================================================

This file comes third in the reading order, after ``tensor.py`` and ``ops.py``.

Left out on purpose: synchronization between machines, masks, group and instance norm.

Source: Ioffe & Szegedy, Batch Normalization, arXiv 1502.03167v3, section 3, Algorithm 1
and the backward pass after it, which keeps d_var and d_mean apart.
"""

import math

import numpy as np

from .ops import (
    add_row,
    as_floats,
    axes_of,
    count,
    dropped,
    kept,
    mean_of_rows,
    reshape,
    sum_of_rows,
)
from .tensor import Fused, Tensor, composite, describe, stop_gradient


@composite
def batch_norm(
    x,
    gamma=None,
    beta=None,
    *,
    axes: tuple[int, ...] = (0,),
    eps: float = 1e-5,
    mean=None,
    var=None,
    constants: tuple[str, ...] = (),
    running: "RunningStatistics | None" = None,
) -> Tensor:
    """Normalize each channel of ``x`` over the batch, then scale and shift it.

    ``mean`` and ``var``, where given, replace the batch's: that is evaluation mode.
    ``constants`` names statistics, ``"mean"``, ``"var"`` or both, that backward takes
    for constants: the mistake of the paper's section 2, on purpose. ``running`` is told
    the statistics of the batch.

    Shapes: x (N, C), or any shape with ``axes`` for the axes averaged over; gamma,
    beta, mean and var one value per channel, (C,); the result like x. eps >= 0 is added
    to the variance.

    Raises: ``ValueError`` for eps < 0, one value per channel, an unknown constant, and
    a gamma, beta, mean or var that is not one value per channel.

    Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithm 1, and 2 for evaluation.
    """
    x = x if isinstance(x, Tensor) else Tensor(x)
    axes = axes_of(x, axes)
    check_settings("batch_norm", eps, constants)
    if mean is None or var is None:
        _check_batch(x, axes)
    given_mean, given_var = mean, var

    mean = _per_channel("mean", mean, x, axes)
    if mean is None:
        mean = x.mean(axes, keepdims=True).named("E[x]")
        mean = stop_gradient(mean) if "mean" in constants else mean
    x_c = x - mean

    var = _per_channel("var", var, x, axes)
    if var is None:
        var = (x_c**2).mean(axes, keepdims=True).named("Var[x]")
        var = stop_gradient(var) if "var" in constants else var
    x_hat = (x_c * (var + eps) ** -0.5).named("x_hat")

    y = _scale_and_shift(x_hat, gamma, beta, x, axes)
    if running is not None and given_mean is None and given_var is None:
        rows = (statistic.data.reshape(-1) for statistic in (mean, var))
        running.update(*rows, count(x, axes))
    return y


def fused_batch_norm(
    x,
    gamma=None,
    beta=None,
    *,
    axes: tuple[int, ...] = (0,),
    eps: float = 1e-5,
    mean=None,
    var=None,
    running: "RunningStatistics | None" = None,
) -> Tensor:
    """The same as ``batch_norm`` in one operation, with a backward pass by hand.

    It is faster, keeps x_c and a few numbers per channel for backward, and measures
    from the first row, so that x_hat stays accurate when the mean is large beside the
    standard deviation. Evaluation mode (``mean`` or ``var`` given) is left to the
    definition, and so are derivatives of second order.

    Shapes, errors: as for ``batch_norm``.

    Source: the derivation at the top of this file.
    """
    if mean is not None or var is not None:
        return batch_norm(x, gamma, beta, axes=axes, eps=eps, mean=mean, var=var)
    x = x if isinstance(x, Tensor) else Tensor(x)
    axes = axes_of(x, axes)
    gamma, beta = _as_values(gamma), _as_values(beta)
    try:
        y = _fused(x, gamma, beta, axes=axes, eps=eps)
    except ValueError:
        y = None
    if y is None:
        # The definition refuses the same and says why; outside of the except clause,
        # its error stands alone.
        return batch_norm(x, gamma, beta, axes=axes, eps=eps, running=running)
    if running is not None:
        _, _, mean, var = y.saved
        running.update(mean, var, count(x, axes))
    if y.op is None:
        y.saved = None  # nobody will go back
    return y


def _forward(x, gamma, beta, *, axes, eps):
    rows = as_floats(_as_rows(x, axes))
    fits = len(rows) > 1 and 0 <= eps < math.inf
    if not (fits and _fit(gamma, x, axes) and _fit(beta, x, axes)):
        raise ValueError("x, gamma, beta and eps must be as batch_norm demands.")
    # Measured from the first row, a mean of 1e4 is not rounded to 1e-3 (in float32).
    first = rows[0]
    x_c = rows - first
    shift = mean_of_rows(x_c)
    x_c -= shift
    mean, var = first + shift, mean_of_rows(x_c * x_c)
    inv_std = 1 / np.sqrt(var + eps)
    scale = inv_std if gamma is None else gamma.reshape(-1) * inv_std
    y = x_c * scale
    if beta is not None:
        y = add_row(y, beta.reshape(-1))
    return _from_rows(y, x, axes), (x_c, inv_std, mean, var)


def _backward(g, saved, needs, out, x, gamma, beta, *, axes, eps):
    x_c, inv_std, _, _ = saved
    g = _as_rows(g, axes)
    d_beta, d_gamma, d_x = sum_of_rows(g), sum_of_rows(g * x_c) * inv_std, None
    if needs[0]:
        # x_hat mean(g x_hat), as x_c and a row: x_hat itself is never formed.
        d_x = x_c * (d_gamma * inv_std / -len(g))
        d_x += g
        d_x -= d_beta / len(g)
        d_x *= inv_std if gamma is None else gamma.reshape(-1) * inv_std
        d_x = _from_rows(d_x, x, axes)
    return (
        d_x,
        d_gamma.reshape(gamma.shape) if needs[1] else None,
        d_beta.reshape(beta.shape) if needs[2] else None,
    )


_fused = Fused("batch_norm", _forward, _backward, definition=batch_norm)


class RunningStatistics:
    """Averages over batches of the mean and the variance, for evaluation mode.

    ``momentum`` is the weight of the *new* batch, as in PyTorch (Keras weighs the old
    ones): ``running = (1 - momentum) * running + momentum * batch``. None averages over
    all batches alike. While a batch is normalized by its own variance, which divides by
    m, the running variance is of the unbiased one, m / (m - 1) times as large.

    ``mean`` starts at 0 and ``var`` at 1, both (C,); ``updates`` counts the batches.

    Raises: ``ValueError`` for a momentum outside [0, 1].

    Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithm 2, lines 8 to 11.
    """

    def __init__(
        self, num_features: int, momentum: float | None = 0.1, dtype=np.float32
    ):
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(
                "momentum, the weight of the new batch, must be in [0, 1], or None for "
                f"the average over all batches, but {momentum!r} was received."
            )
        self.mean = np.zeros(num_features, dtype)
        self.var = np.ones(num_features, dtype)
        self.momentum, self.updates = momentum, np.zeros((), int)

    def update(self, mean: np.ndarray, var: np.ndarray, m: int) -> None:
        """Take in a batch's ``mean`` and biased ``var``, both (C,), of ``m`` values."""
        self.updates += 1
        weight = 1 / int(self.updates) if self.momentum is None else self.momentum
        self.mean *= 1 - weight
        self.mean += weight * mean
        self.var *= 1 - weight
        self.var += weight * m / (m - 1) * var


def _channels_last(x, axes):
    return (*axes, *(i for i in range(x.ndim) if i not in axes))


def _as_rows(x, axes):
    """``x`` as a matrix: a row for each value averaged, a column for each channel."""
    if x.ndim == 2 and axes == (0,):
        return x
    return x.transpose(_channels_last(x, axes)).reshape(count(x, axes), -1)


def _from_rows(rows, x, axes):
    """The matrix in the shape of ``x`` again."""
    if x.ndim == 2 and axes == (0,):
        return rows
    order = _channels_last(x, axes)
    return rows.reshape([x.shape[i] for i in order]).transpose(np.argsort(order))


def _scale_and_shift(x_hat, gamma, beta, x, axes):
    y = x_hat
    if gamma is not None:
        y = y * _per_channel("gamma", gamma, x, axes)
    if beta is not None:
        y = y + _per_channel("beta", beta, x, axes)
    return y


def _per_channel(name, values, x, axes):
    """One value per channel, shaped so that it broadcasts along ``axes``."""
    values = _checked(name, values, x, axes)
    leading = axes == tuple(range(len(axes)))
    if values is None or values.ndim == x.ndim or leading:
        return values
    return reshape(values, shape=kept(x, axes))


def _checked(name, values, x, axes):
    """``values``, if there is one for each channel."""
    values = _as_values(values)
    if not _fit(values, x, axes):
        raise ValueError(
            f"batch_norm: {name} must have one value per channel, {dropped(x, axes)}, "
            f"for {describe(x)} with axes={axes}, but {values.shape} was received. "
            "Check the axes."
        )
    return values


def _fit(values, x, axes) -> bool:
    channels = dropped(x, axes)
    return values is None or values.shape == channels or values.shape == kept(x, axes)


def _as_values(x):
    return x if x is None or isinstance(x, Tensor) else np.asarray(x)


def check_settings(function: str, eps: float, constants=()) -> None:
    """Raise for settings that make no sense."""
    if not 0 <= eps < math.inf:
        raise ValueError(
            f"{function}: eps must be finite and at least 0, but {eps!r} was received."
        )
    names = [constants] if isinstance(constants, str) else constants
    if unknown := set(names).difference(("mean", "var")):
        raise ValueError(
            f"{function}: constants may contain 'mean' and 'var', but "
            f"{sorted(unknown)} was received."
        )


def _check_batch(x, axes):
    if count(x, axes) < 2:
        raise ValueError(
            "batch_norm: at least two values per channel must be averaged, because of "
            "a single one nothing is left when its mean is subtracted: "
            "x_hat would be 0 whatever x is. "
            f"Received {describe(x)} with axes={axes}. "
            "Use a larger batch, or evaluation mode."
        )
