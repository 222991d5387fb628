"""What covariate_shift.py observes while a network trains."""

from typing import NamedTuple

import numpy as np

PERCENTILES = (15, 50, 85)


class Run(NamedTuple):
    """The observations during one training.

    Shapes: steps, at which the network was observed, and test accuracy, (T,);
    percentiles of the inputs of each sigmoid in the last hidden layer, (T, 3, 100);
    the learning rate is a number.
    """

    steps: np.ndarray
    accuracy: np.ndarray
    percentiles: np.ndarray
    lr: float

    @property
    def spread(self) -> np.ndarray:
        """The spread p85 - p15 of each unit, (T, 100)."""
        return self.percentiles[:, 2] - self.percentiles[:, 0]

    @property
    def growth(self) -> np.ndarray:
        """The spread of each unit at the end, relative to the start, (100,)."""
        return self.spread[-1] / self.spread[0]

    @property
    def shift(self) -> np.ndarray:
        """The change of each unit's median from start to end, (100,)."""
        return np.abs(self.percentiles[-1, 1] - self.percentiles[0, 1])
