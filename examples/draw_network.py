"""What happens to the gradients inside a network with batch norm?

    python examples/draw_network.py

The script draws an untrained multilayer perceptron on one batch of digits. In the first
drawing, each module is folded into one box, with a bar for the norm of each parameter's
gradient. Unlike the network of train_mlp.py, this one has biases before batch norm: a
diamond between two bars marks a gradient whose routes cancel, and check_redundant says
the same in words. The second drawing opens the first batch norm to show the routes
inside.
"""

import numpy as np

import tinygrad_bn as tg
from support import drawings as example
from support.command_line import drawing_options, parse
from support.data import load
from support.networks import batch_norm_and, perceptron
from tinygrad_bn import Drawing, Tensor, nn


def network(data, hidden=(32, 32), seed=0) -> nn.Sequential:
    """Linear layers with biases, each but the last followed by batch norm and ReLU."""
    sizes = (data.train_x.shape[1], *hidden, data.num_classes)
    between = batch_norm_and(nn.ReLU, dtype=float)
    return perceptron(sizes, between, np.random.default_rng(seed), dtype=float)


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """The network folded, and with its first batch norm open."""
    data = load("digits")
    model, batch = network(data), slice(0, 64)
    images = Tensor(data.train_x[batch].astype(float), name="images")
    loss = nn.cross_entropy(model(images), data.train_y[batch]).named("loss")
    style = {"direction": "TB", "theme": theme}
    folded = tg.draw(
        loss, title="An MLP with batch norm\nbars: norm of ∂loss/∂parameter", **style
    )
    opened = tg.draw(loss, open="1", title="One module open\nthe rest folded", **style)
    return {"network_folded": folded, "network_open": opened}


def main(arguments=None) -> None:
    options = parse(drawing_options(__doc__), arguments)
    data = load("digits")
    print(tg.check_redundant(network(data), data.train_x[:64]))
    example.save(drawings, options)


if __name__ == "__main__":
    main()
