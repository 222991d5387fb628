"""The cases: networks, optimizers, initial parameters, and batches."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

BN_EPS, BN_MOMENTUM = 1e-5, 0.1
ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Case:
    """A multilayer perceptron for classification, with its batch and its optimizer.

    ``sizes`` lists the layer sizes from the features to the classes. Each hidden layer
    is a linear map, batch norm instead of a bias if ``batch_norm`` is set, and the
    activation, ``"relu"`` or ``"sigmoid"``. The last layer is a linear map with a bias,
    followed by the cross-entropy. ``optimizer`` is ``"sgd"`` or ``"adam"``. ``steps``
    is the number of steps in a turn, enough to be measured. ``allowed_ratio`` bounds
    the time of the engine's step, in multiples of the handwritten one.
    """

    sizes: tuple[int, ...]
    activation: str
    batch_norm: bool
    batch_size: int
    optimizer: str
    lr: float
    steps: int
    allowed_ratio: float = 1.25

    def __str__(self) -> str:
        layers = "-".join(map(str, self.sizes))
        batch_norm = " + BN" if self.batch_norm else ""
        return (
            f"{layers}, {self.activation}{batch_norm}, batch {self.batch_size}, "
            f"{self.optimizer}"
        )

    def parameters(self, dtype=np.float32) -> list[np.ndarray]:
        """The initial values: per layer a weight, then a bias or gamma and beta."""
        rng = np.random.default_rng(0)
        values = []
        for layer, (fan_in, fan_out) in enumerate(pairwise(self.sizes), start=1):
            values.append(rng.normal(0, (2 / fan_in) ** 0.5, (fan_in, fan_out)))
            if self.batch_norm and layer < len(self.sizes) - 1:
                values.append(rng.normal(1, 0.1, fan_out))
            values.append(rng.normal(0, 0.1, fan_out))
        return [value.astype(dtype) for value in values]

    def batches(self, count: int, dtype=np.float32) -> list[tuple]:
        """``count`` batches of noise: images (batch_size, features) and labels (N,)."""
        rng = np.random.default_rng(1)
        features, classes = self.sizes[0], self.sizes[-1]
        return [
            (
                rng.standard_normal((self.batch_size, features), dtype),
                rng.integers(0, classes, self.batch_size),
            )
            for _ in range(count)
        ]


CASES = {
    "tiny-sgd": Case((2, 16, 16, 2), "relu", False, 100, "sgd", 0.1, 1000, 1.4),
    "mnist-sgd": Case((784, 100, 100, 100, 10), "sigmoid", True, 60, "sgd", 0.1, 150),
    "mnist-adam": Case(
        (784, 100, 100, 100, 10), "sigmoid", True, 60, "adam", 1e-3, 150
    ),
    "wide-adam": Case((784, 512, 512, 10), "relu", True, 256, "adam", 1e-3, 15),
}
