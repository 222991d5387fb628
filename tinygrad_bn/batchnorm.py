"""Batch normalization, defined twice: as a graph of primitives, and fused by hand.

    N, C                 the batch size, and the number of channels (features)
    axes                 the axes averaged over; the remaining axes index the channels
    m                    the number of values averaged per channel, N for ``axes=(0,)``
    E[.], mean(.)        the average over the m values of a channel; sum(.) is their sum
    g, d_z               dL/dy, where L is the loss, and dL/dz for any other z
    running statistics   averages of mean and var over batches, for evaluation

We start with the geometry, for eps = 0. In each channel, the m values of a batch are
one vector x. Batch norm removes from x its component along the vector of ones (it
subtracts the mean), scales the rest to length sqrt(m), and then multiplies by gamma and
adds beta. The result does not change when a constant is added to x, or when x is
multiplied by a positive factor. Along a direction in which the result does not change,
the slope of the loss is zero. So d_x is orthogonal to the ones, that is, sum(d_x) = 0.
It is also orthogonal to x, and therefore to x_hat, which is a combination of x and the
ones. (For eps > 0, sum(d_x) = 0 still holds. What is said here about x and x_hat holds
in the limit eps -> 0.)

A bias in front of batch norm is added to every value of its channel, so its gradient is
sum(d_x). That is zero, and the bias learns nothing. (In evaluation mode the statistics
do not depend on the batch, and the bias does receive a gradient.)

The derivation shows more: the backward pass removes from the cotangent g its components
along the ones and along x_hat, and rescales the rest.

The derivation starts with the forward pass, with m values per channel:

    mean  = E[x]       x_c     = x - mean
    var   = E[x_c^2]   inv_std = (var + eps)^(-1/2)
    x_hat = inv_std * x_c
    y     = gamma * x_hat + beta

The backward pass starts with the parameters and x_hat:

    d_beta    = sum(g)
    d_gamma   = sum(g * x_hat)
    d_x_hat   = gamma * g

Next is the variance. The derivative of inv_std with respect to var is
-(1/2) (var + eps)^(-3/2) = -(1/2) inv_std^3, and inv_std * x_c = x_hat, so

    d_inv_std = sum(d_x_hat * x_c)
    d_var     = -(1/2) inv_std^3 * d_inv_std
              = -(1/2) inv_std^2 * sum(d_x_hat * x_hat)

x_hat depends on x_c directly and through the variance. The derivative of var = E[x_c^2]
with respect to one value of x_c is (2/m) x_c, and sum(.) / m = mean(.), so

    d_x_c     = inv_std * d_x_hat + d_var * (2/m) x_c
              = inv_std * d_x_hat - inv_std^2 * x_c * mean(d_x_hat * x_hat)
              = inv_std * (d_x_hat - x_hat * mean(d_x_hat * x_hat))

x_c depends on x directly and through the mean. The mean is subtracted from every value,
so d_mean = -sum(d_x_c), and the derivative of the mean with respect to one value of x
is 1/m:

    d_x       = d_x_c + d_mean / m
              = d_x_c - mean(d_x_c)

Finally, d_x_hat = gamma * g, and gamma is constant within a channel. In mean(d_x_c),
the term with x_hat is zero, because sum(x_hat) = 0. So mean(d_x_c) is
gamma * inv_std * mean(g), and

    d_x       = gamma * inv_std * (g - mean(g) - x_hat * mean(g * x_hat))

In this line, ``g`` comes directly from y, ``- mean(g)`` comes through E[x], and the
last term through Var[x]. The last two are the components described above: mean(g), as a
vector, is the component of g along the ones, and x_hat * mean(g * x_hat) is the one
along x_hat, since for eps = 0 the squared length of x_hat is m. (The ones and x_hat are
orthogonal, so both can be subtracted at once.)

This file comes last in the first reading, after ``tape.py``, ``backward.py`` and
``ops.py``. It also imports ``compositions.py`` and ``tensor.py``: take ``x.mean()`` and
``x * y`` to be what they are in NumPy. ``as_rows(x, axes)`` in ``axes.py`` is x as a
matrix (m, C), and ``from_rows`` undoes it. ``channels.py`` checks the arguments, and
``running.py`` holds the running statistics.

Left out on purpose: synchronization between machines, masks, group and instance norm.

Source: Ioffe & Szegedy, Batch Normalization, arXiv 1502.03167v3, section 3, Algorithm 1
and the backward pass after it, which leaves d_x in terms of d_var and d_mean.
"""

from typing import Any

import numpy as np

from .axes import as_rows, count, from_rows
from .backward import Fused
from .channels import (
    averaged_axes,
    broadcastable,
    check_batch,
    checked_constants,
    checked_eps,
    per_channel,
)
from .compositions import float16_in_float32
from .kernels import as_floats, mean_of_rows, sum_of_rows
from .ops import stop_gradient
from .running import RunningStatistics
from .scopes import composite
from .tensor import Tensor, as_tensor


@composite
@float16_in_float32  # In float32, sums of float16 values do not overflow.
def batch_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    axes: tuple[int, ...] | None = (0,),
    eps: float = 1e-5,
    mean: Any = None,
    var: Any = None,
    constants: tuple[str, ...] = (),
    running: RunningStatistics | None = None,
) -> Tensor:
    """Normalize each channel of ``x`` over the batch, then scale and shift it.

    ``mean`` and ``var``, if given, replace those of the batch, as in evaluation mode.
    For experiments, ``constants`` names statistics, ``"mean"``, ``"var"`` or both, that
    the backward pass treats as constants. With ``"mean"``, a bias in front drifts
    forever, although the output does not depend on it (section 2 of the paper warns of
    this). ``running`` is updated with the batch statistics, unless ``mean`` or ``var``
    is given.

    Shapes: x (N, C), or any shape if ``axes`` names the axes averaged over (None: all
    but axis 1); gamma, beta, mean and var (C,), or the shape of x with 1 for the axes
    averaged over; the result has the shape of x. eps >= 0 is added to the variance.

    Raises: ``ValueError`` for axes that x does not have, an eps that is negative or not
    finite, an unknown constant, statistics of fewer than two values per channel, and a
    gamma, beta, mean, var or ``running`` whose shape does not fit.

    Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithms 1 and 2 (evaluation).
    """
    x = as_tensor(x)
    axes = averaged_axes(x, axes)
    eps = checked_eps("batch_norm", eps)
    constants = checked_constants("batch_norm", constants)
    gamma = broadcastable("gamma", gamma, x, axes)
    beta = broadcastable("beta", beta, x, axes)
    mean = broadcastable("mean", mean, x, axes)
    var = broadcastable("var", var, x, axes)
    if mean is not None or var is not None:
        running = None  # Running statistics are averages of batch statistics only.
    if mean is None or var is None:
        check_batch(x, axes, running)

    if mean is None:
        mean = x.mean(axes, keepdims=True).named("E[x]")
        if "mean" in constants:
            mean = stop_gradient(mean)
    x_c = x - mean

    if var is None:
        var = (x_c**2).mean(axes, keepdims=True).named("Var[x]")
        if "var" in constants:
            var = stop_gradient(var)
    x_hat = (x_c * (var + eps) ** -0.5).named("x_hat")

    y = x_hat if gamma is None else x_hat * gamma
    y = y if beta is None else y + beta
    if running is not None:
        running.update(mean.data.reshape(-1), var.data.reshape(-1), count(x, axes))
    return y


def fused_batch_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    *,
    axes: tuple[int, ...] | None = (0,),
    eps: float = 1e-5,
    mean: Any = None,
    var: Any = None,
    running: RunningStatistics | None = None,
) -> Tensor:
    """The same as ``batch_norm`` in one operation, with a hand-written backward pass.

    It is faster. For the backward pass, it saves only x_c and a few numbers per
    channel. Unlike ``batch_norm``, it stays accurate in float32 when the mean is large
    compared with the standard deviation. Evaluation mode (``mean`` or ``var`` given),
    float16, and derivatives of higher order are left to ``batch_norm``; there are no
    ``constants``.

    Shapes, errors: as for ``batch_norm``.

    Source: the derivation at the top of this file.
    """
    x = as_tensor(x)
    if mean is not None or var is not None or x.dtype == np.float16:
        return batch_norm(
            x, gamma, beta, axes=axes, eps=eps, mean=mean, var=var, running=running
        )
    axes = averaged_axes(x, axes)
    eps = checked_eps("batch_norm", eps)
    gamma = per_channel("gamma", gamma, x, axes)
    beta = per_channel("beta", beta, x, axes)
    check_batch(x, axes, running)
    y = _fused(x, gamma, beta, axes=axes, eps=eps)
    if running is not None:
        # The forward pass has computed the statistics already.
        x_c, _, _, mean, var = y.saved
        running.update(mean, var, m=len(x_c))
    if y.op is None:
        y.saved = None  # No backward pass will read it.
    return y


def _forward(x, gamma, beta, *, axes, eps):
    rows = as_floats(as_rows(x, axes))
    # The first row is subtracted before averaging, so that rounding errors are small.
    # The float32 mean of thousands of values near 1e4 could otherwise be wrong by 1e-2.
    first = rows[0]
    x_c = rows - first  # not centered yet, only relative to the first row
    shift = mean_of_rows(x_c)
    x_c -= shift
    mean = first + shift
    var = mean_of_rows(x_c * x_c)
    inv_std = 1 / np.sqrt(var + eps)
    scale = inv_std if gamma is None else gamma.reshape(-1) * inv_std
    y = x_c * scale
    if beta is not None:
        y = y + beta.reshape(-1)  # not +=, because beta may have a wider dtype
    # mean and var are for the running statistics only.
    return from_rows(y, x, axes), (x_c, inv_std, scale, mean, var)


def _backward(g, saved, needs, x, gamma, beta, *, axes, eps):
    x_c, inv_std, scale, _, _ = saved
    g = as_rows(g, axes)
    m = len(g)
    d_beta = sum_of_rows(g)
    d_gamma = sum_of_rows(g * x_c) * inv_std
    d_x = None
    if needs[0]:
        # The last line of the derivation, with scale = gamma * inv_std,
        # x_hat = inv_std * x_c, mean(g) = d_beta / m, mean(g * x_hat) = d_gamma / m:
        # d_x = scale * (g - x_c * inv_std * d_gamma / m - d_beta / m)
        d_x = g - x_c * (inv_std * d_gamma / m)
        d_x -= d_beta / m
        d_x *= scale
        d_x = from_rows(d_x, x, axes)
    return (
        d_x,
        d_gamma.reshape(gamma.shape) if needs[1] else None,
        d_beta.reshape(beta.shape) if needs[2] else None,
    )


# Pictures and errors do not distinguish the two, so both are called batch_norm.
_fused = Fused("batch_norm", _forward, _backward, definition=batch_norm)
