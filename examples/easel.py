"""What the scripts that draw share: the data of the pictures, and their options."""

import argparse
from pathlib import Path

import numpy as np

from tinygrad_bn import Drawing, Tensor

U = np.array([[1, 0, 2], [3, 1, -1], [-2, 4, 0], [2, -1, 3]], float)
B = np.array([0.5, -1, 2])
C = np.array([[0.5, -1, 0.25], [-0.25, 0.75, 1], [1, 0.25, -0.5], [-0.5, 1.5, 0.5]])
GAMMA, BETA = np.array([1, 0.5, 2]), np.array([0.1, 0.2, -0.3])


def biased_data() -> tuple[Tensor, Tensor]:
    """``x = u + b``, four samples of three features, and the bias ``b`` to be
    explained."""
    u, b = Tensor(U, name="u"), Tensor(B, requires_grad=True, name="b")
    return (u + b).named("x"), b


def gamma_and_beta() -> tuple[Tensor, Tensor]:
    """The scale and the shift of the pictures of batch norm."""
    gamma = Tensor(GAMMA, requires_grad=True, name="gamma")
    return gamma, Tensor(BETA, requires_grad=True, name="beta")


def loss(y: Tensor) -> Tensor:
    """``L = sum(c * y)``: any loss acts on ``y`` through a cotangent such as ``c``."""
    return (y * C).sum().named("L")


def options(question: str, arguments=None) -> argparse.Namespace:
    """The options of every script that draws; ``question`` is its docstring."""
    parser = argparse.ArgumentParser(
        description=question, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="for pictures")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    formats = ("svg", "png", "pdf", "html", "dot")
    parser.add_argument("--format", choices=formats, default="svg")
    return parser.parse_args(arguments)


def save(drawings: dict[str, Drawing], given: argparse.Namespace) -> None:
    """Save each drawing under its name, and say where."""
    suffix = "-dark" if given.theme == "dark" else ""
    for name, drawing in drawings.items():
        path = drawing.save(given.out / f"{name}{suffix}.{given.format}")
        print(f"picture: {path}")
