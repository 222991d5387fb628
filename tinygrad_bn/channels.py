"""The arguments of batch norm: they are checked before anything is computed.

    axes, channels   the axes averaged over; the remaining axes index the channels
    m                the number of values averaged per channel

This file comes after ``tensor.py`` in the reading order; ``batchnorm.py`` uses it.

Left out on purpose: the features that a layer expects, which the layer checks itself.
"""

import math
from typing import Any

import numpy as np

from . import errors
from .arguments import refuse_masked
from .axes import axes_of, count, shape_with_ones, shape_without
from .ops import reshape
from .running import RunningStatistics
from .tensor import Tensor

# What counts as a number. (A check for numbers.Real is several times slower.)
REAL_NUMBERS = int, float, np.integer, np.floating


def averaged_axes(x: Any, axes: Any) -> tuple[int, ...]:
    """The axes averaged over, sorted and not negative."""
    return axes_of(x, [i for i in range(x.ndim) if i != 1] if axes is None else axes)


def per_channel(name: str, values: Any, x: Tensor, axes: tuple[int, ...]) -> Any:
    """``values`` as a tensor or array. Raises unless it has one value per channel."""
    if values is None:
        return None
    if not isinstance(values, Tensor):
        refuse_masked(values, name)
        values = np.asarray(values)
    channels = shape_without(x, axes)
    if values.shape != channels and values.shape != shape_with_ones(x, axes):
        raise errors.not_per_channel(name, values, x, axes, channels)
    return values


def broadcastable(name: str, values: Any, x: Tensor, axes: tuple[int, ...]) -> Any:
    """``values``, checked, in a shape that broadcasts along ``axes``."""
    values = per_channel(name, values, x, axes)
    # NumPy aligns last axes, so (C,) broadcasts if the averaged axes all come first.
    if values is None or values.ndim == x.ndim or axes == tuple(range(len(axes))):
        return values
    return reshape(values, shape=shape_with_ones(x, axes))


def check_batch(
    x: Tensor, axes: tuple[int, ...], running: RunningStatistics | None
) -> None:
    """Raise for too few values per channel, or if ``running`` has other channels."""
    m = count(x, axes)
    if m < 2:
        raise errors.one_value_per_channel(x, axes)
    # x.size / m is the number of channels.
    if running is not None and running.mean.size * m != x.size:
        channels = shape_without(x, axes)
        raise errors.not_per_channel("running", running.mean, x, axes, channels)


def checked_eps(function: str, eps: Any) -> float:
    """``eps`` as a Python float: a float64 of NumPy would turn float32 into float64."""
    number = float(eps) if isinstance(eps, REAL_NUMBERS) else math.nan
    if not 0 <= number < math.inf:
        raise errors.eps_refused(function, eps)
    return number


def checked_constants(function: str, constants: Any) -> tuple[str, ...]:
    """The names as a tuple; a single string is one name."""
    names = (constants,) if isinstance(constants, str) else tuple(constants)
    if unknown := [name for name in names if name not in ("mean", "var")]:
        raise errors.constants_unknown(function, unknown)
    return names
