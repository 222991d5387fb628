"""How the examples measure deviations and losses."""

from collections.abc import Sequence

import numpy as np


def largest(array) -> float:
    """The largest absolute value of an array's entries."""
    return float(np.abs(array).max())


def relative_error(found, expected) -> float:
    """The largest deviation, relative to the largest expected value."""
    return largest(np.subtract(found, expected)) / largest(expected)


def final_loss(losses: Sequence[float]) -> float:
    """The median loss of the last quarter of the steps, which ignores spikes."""
    return float(np.median(losses[-(len(losses) // 4 or 1) :]))
