"""The running statistics of batch norm, which take the batch's place in evaluation.

This file comes after ``kernels.py`` in the order of imports; look here when needed.

Left out on purpose: statistics of several machines.
"""

from typing import Any

import numpy as np

from . import errors


class RunningStatistics:
    """Averages of the batch mean and variance, exponential by default, for evaluation.

    ``momentum`` is the weight of the *new* batch, as in PyTorch (in Keras, of the *old*
    average): ``running = (1 - momentum) * running + momentum * batch``.
    None gives all batches the same weight. A batch is normalized by its own variance,
    which divides by m; the running variance averages the unbiased estimate, which
    is m / (m - 1) times as large.

    ``mean`` starts at 0 and ``var`` at 1, both (C,); ``updates``, an array of shape (),
    counts the batches.

    Raises: ``ValueError`` for a momentum outside [0, 1].

    Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithm 2, lines 8 to 11, with an
    exponential average in place of the average over all batches.
    """

    def __init__(
        self, num_features: int, momentum: float | None = 0.1, dtype: Any = np.float32
    ):
        if momentum is not None and not 0 <= momentum <= 1:
            raise errors.momentum_refused(momentum)
        self.mean = np.zeros(num_features, dtype)
        self.var = np.ones(num_features, dtype)
        self.momentum = momentum
        self.updates = np.zeros((), int)  # an array, so that checkpoints restore it

    def update(self, mean: np.ndarray, var: np.ndarray, m: int) -> None:
        """Include a batch's ``mean`` and biased ``var``, both (C,), of ``m`` values."""
        self.updates[()] += 1
        weight = 1 / int(self.updates) if self.momentum is None else self.momentum
        self.mean *= 1 - weight
        self.mean += weight * mean
        self.var *= 1 - weight
        self.var += weight * m / (m - 1) * var
