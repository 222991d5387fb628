"""Which biases of a PyTorch network learn nothing?

    python examples/from_pytorch.py

The network is a residual one with two superfluous biases, each before batch norm.
It is written in PyTorch, and from_torch makes it run on this engine. check_redundant
names the biases as PyTorch does, explain shows what cancels the gradient of the first
one, and the drawing shows where. PyTorch must be installed.
"""

import numpy as np

import tinygrad_bn as tg
from support import drawings as example
from support.command_line import drawing_options, parse
from tinygrad_bn import Drawing, Tensor, nn


def network():
    """A network in PyTorch: four features, a residual block, and three classes."""
    import torch  # here, because the other examples do without it

    class Residual(torch.nn.Module):
        def __init__(self, width):
            super().__init__()
            self.fc = torch.nn.Linear(width, width)
            self.bn = torch.nn.BatchNorm1d(width)

        def forward(self, x):
            return x + torch.relu(self.bn(self.fc(x)))

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(4, 3),
        torch.nn.BatchNorm1d(3),
        torch.nn.ReLU(),
        Residual(3),
        torch.nn.Linear(3, 3),
    ).double()


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Six examples of each class, scattered around the center of the class."""
    rng = np.random.default_rng(0)
    labels = np.arange(18) % 3
    centers, noise = rng.standard_normal((3, 4)), rng.standard_normal((18, 4))
    return centers[labels] + noise, labels


def loss_and_bias() -> tuple[Tensor, Tensor]:
    """The loss on this engine, and the bias of the first layer."""
    model = tg.from_torch(network())
    features, labels = batch()
    logits = model(Tensor(features, name="features"))
    return nn.cross_entropy(logits, labels).named("loss"), model[0].bias


# Not named ``drawings``: the gallery is built without PyTorch.
def pictures(theme: str = "light") -> dict[str, Drawing]:
    """Where the gradient of the bias cancels."""
    title = "A bias of a PyTorch network, before batch norm"
    return {"from_pytorch": tg.draw(*loss_and_bias(), title=title, theme=theme)}


def main(arguments=None) -> None:
    options = parse(drawing_options(__doc__), arguments)
    features, _ = batch()
    print(tg.check_redundant(tg.from_torch(network()), features))
    print(tg.explain(*loss_and_bias()))
    example.save(pictures, options)


if __name__ == "__main__":
    main()
