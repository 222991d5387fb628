"""The running statistics of batch norm, which replace those of the batch in evaluation.

This file comes after ``kernels.py`` in the order of imports; look here when needed.

Left out on purpose: synchronization between machines.
"""

from numbers import Real
from typing import Any

import numpy as np

from . import errors


class RunningStatistics:
    """Averages of the batch mean and variance, exponential by default, for evaluation.

    ``momentum`` is the weight of the *new* batch, as in PyTorch (in Keras, of the *old*
    value): ``running = (1 - momentum) * running + momentum * batch``. With None, all
    batches have the same weight. A batch is normalized by its own variance, which
    divides by m; the running variance averages the unbiased estimate, which is
    m / (m - 1) times as large.

    ``mean`` starts at 0 and ``var`` at 1, both (C,); ``updates``, an array of shape (),
    counts the batches.

    Raises: ``ValueError`` for a momentum outside [0, 1].

    Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithm 2, lines 8 to 11, with an
    exponential average in place of the average over all batches.
    """

    def __init__(
        self, num_features: int, momentum: float | None = 0.1, dtype: Any = np.float32
    ):
        self.mean = np.zeros(num_features, dtype)
        self.var = np.ones(num_features, dtype)
        self.momentum = momentum
        self.updates = np.zeros((), int)  # an array, so that checkpoints restore it

    @property
    def momentum(self) -> float | None:
        """The weight of the new batch, in [0, 1]; None weighs all batches equally."""
        return self._momentum

    @momentum.setter
    def momentum(self, value: float | None) -> None:
        in_range = isinstance(value, Real) and 0 <= float(value) <= 1
        if value is not None and not in_range:
            raise errors.momentum_refused(value)
        self._momentum = value

    def update(self, mean: np.ndarray, var: np.ndarray, m: int) -> None:
        """Include a batch's ``mean`` and biased ``var``, both (C,), of ``m`` values."""
        self.updates[()] += 1
        weight = self._momentum
        if weight is None:
            weight = 1 / int(self.updates)
        self.mean *= 1 - weight
        self.mean += weight * mean
        self.var *= 1 - weight
        self.var += weight * m / (m - 1) * var
