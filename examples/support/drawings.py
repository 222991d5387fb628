"""The example of the drawings: four samples of three features, and one bias.

``x = u + b``, and the loss ``L = sum(c * y)`` with fixed weights ``c``, where ``y`` is
what a script computes from ``x``.
"""

import argparse
from collections.abc import Callable

import numpy as np

from support.command_line import picture_name, themes
from tinygrad_bn import Drawing, Tensor

U = np.array([[1, 0, 2], [3, 1, -1], [-2, 4, 0], [2, -1, 3]], float)
B = np.array([0.5, -1, 2])
C = np.array([[0.5, -1, 0.25], [-0.25, 0.75, 1], [1, 0.25, -0.5], [-0.5, 1.5, 0.5]])
GAMMA, BETA = np.array([1, 0.5, 2]), np.array([0.1, 0.2, -0.3])


def biased_data() -> tuple[Tensor, Tensor]:
    """``x = u + b``, and the bias ``b``, whose gradient the drawings explain."""
    u, b = Tensor(U, name="u"), Tensor(B, requires_grad=True, name="b")
    return (u + b).named("x"), b


def gamma_and_beta() -> tuple[Tensor, Tensor]:
    """The scale and the shift of batch norm."""
    gamma = Tensor(GAMMA, requires_grad=True, name="gamma")
    return gamma, Tensor(BETA, requires_grad=True, name="beta")


def loss(y: Tensor) -> Tensor:
    """``L = sum(c * y)``. The gradient of any loss reaches ``y`` as some ``c``."""
    return (y * C).sum().named("L")


def save(
    draw: Callable[[str], dict[str, Drawing]],
    options: argparse.Namespace,
    extension: str | None = None,
) -> None:
    """Save the drawings of ``draw(theme)``, by name, and print the paths.

    ``extension`` is the file format if it is not that of --format.
    """
    for theme in themes(options):
        for name, drawing in draw(theme).items():
            file = f"{picture_name(name, theme)}.{extension or options.format}"
            print(f"picture: {drawing.save(options.out / file)}")
