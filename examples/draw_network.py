"""What happens to the gradients inside a network with batch norm?

The network of train_mlp.py, untrained, on one batch of digits. Folded, each module is
one box with a bar per parameter: the norm of its gradient. The biases are kept here, to
be seen: a diamond between two bars marks a gradient whose routes cancel, and
check_redundant says it in words. Opened, the first batch norm shows the routes inside.
"""

from itertools import pairwise

import easel
import numpy as np
from data import load

import tinygrad_bn as tg
from tinygrad_bn import Drawing, Tensor, nn


def network(data, hidden=(32, 32), seed=0) -> nn.Sequential:
    """Linear layers with biases, each but the last with batch norm and ReLU behind
    it."""
    rng = np.random.default_rng(seed)
    sizes = [data.train_x.shape[1], *hidden]
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out, rng=rng, dtype=float)
        layers += [linear, nn.BatchNorm(fan_out, dtype=float), nn.ReLU()]
    last = nn.Linear(sizes[-1], data.num_classes, rng=rng, dtype=float)
    return nn.Sequential(*layers, last)


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
    given = easel.options(__doc__, arguments)
    data = load("digits")
    print(tg.check_redundant(network(data), data.train_x[:64]))
    easel.save(drawings(given.theme), given)


if __name__ == "__main__":
    main()
