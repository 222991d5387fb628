"""Which biases of my PyTorch network learn nothing?

    python examples/from_pytorch.py

The network is a residual one, with two biases in front of batch norm that nobody needs.
It is written in PyTorch and runs here on the engine of this project. check_redundant
names those biases as PyTorch does, explain shows what cancels the gradient of the first
one, and the drawing shows where.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import tinygrad_bn as tg
from tinygrad_bn import Drawing, Tensor


class Residual(torch.nn.Module):
    """A block that adds to its input what a small network makes of it."""

    def __init__(self, width: int):
        super().__init__()
        self.fc = torch.nn.Linear(width, width)
        self.bn = torch.nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.bn(self.fc(x)))


def network() -> torch.nn.Module:
    """A classifier of four features into three classes, with random weights."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 5),
        torch.nn.BatchNorm1d(5),
        torch.nn.ReLU(),
        Residual(5),
        torch.nn.Linear(5, 3),
    ).double()


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Six examples of each class, around a center of its own."""
    rng = np.random.default_rng(0)
    labels = np.arange(18) % 3
    return rng.standard_normal((3, 4))[labels] + rng.standard_normal((18, 4)), labels


def measured() -> tuple[tg.nn.Module, Tensor]:
    """The network on this engine, and its loss."""
    features, labels = batch()
    model = tg.from_torch(network())
    x = Tensor(features, name="features")
    return model, tg.nn.cross_entropy(model(x), labels).named("loss")


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """What happens to the gradient of the first bias."""
    model, loss = measured()
    title = "A bias of a PyTorch network"
    return {"from_pytorch": tg.draw(loss, model[0].bias, title=title, theme=theme)}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder")
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    given = parser.parse_args(arguments)

    model, loss = measured()
    features, _ = batch()
    print(tg.check_redundant(model, features))
    print(tg.explain(loss, model[0].bias))
    for name, drawing in drawings(given.theme).items():
        ending = "-dark" if given.theme == "dark" else ""
        print(f"picture: {drawing.save(given.out / f'{name}{ending}.svg')}")


if __name__ == "__main__":
    main()
