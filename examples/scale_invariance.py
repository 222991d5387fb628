"""What happens to the size of weights before batch norm?

    python examples/scale_invariance.py

It does not change the output; it sets the effective learning rate, and it only grows.
For a > 0 and eps = 0, BN((aW)u) = BN(Wu), hence

    dL/d(aW) = (1/a) dL/dW              larger weights get smaller gradients,
    w . dL/dw = 0                       for the weights w of each unit, and
    |W|^2 grows by lr^2 |dL/dW|^2       in each step of plain SGD, by Pythagoras.

Only the direction of w matters, and lr / |w|^2 is the speed at which it turns: the
effective learning rate. It decays by itself, and the larger it is, the faster it
decays, so that a learning rate that is much too large costs only a few steps. The pairs
(W, lr) and (aW, a^2 lr) lead to the same losses.

With eps > 0, let t stretch w. With v = Var[x] and s = sqrt(v + eps),

    x_hat(t) = t x_c / sqrt(t^2 v + eps), whose derivative at t = 1 is
    x_c / s - x_c v / s^3 = x_hat eps / (v + eps), and so
    w . dL/dw = eps / (v + eps) sum(dL/dx_hat x_hat) = eps / (v + eps) gamma dL/dgamma.
    BN(t x; eps) = BN(x; eps / t^2), so dL/d(aW) = (1/a) dL/dW, with eps / a^2 in dL/dW.

So the gradient along w is as small as eps compared with v, and where the loss favors a
larger |gamma|, it also favors larger weights.

The script compares these formulas with a layer and with the training of a network.

Not shown: weight decay (weight_decay.py), momentum and Adam, with which the size of
weights behaves differently; or that a decaying learning rate is a good one.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.3; for the effective learning
rate van Laarhoven, arXiv 1706.05350.
"""

from typing import NamedTuple

import numpy as np

from parts.scale_invariance.plots import plot, report
from parts.scale_invariance.stretched_layer import Layer
from support.command_line import experiment_options, parse
from support.data import DataSet
from support.networks import batch_norm_and, batches, linears, perceptron
from support.plotting import save
from tinygrad_bn import nn, optim

SIZES, BATCH, LR = (20, 50, 50, 50, 5), 128, 0.5
RATES, SCALES = (0.5, 5.0, 50.0), (0.1, 3.0, 10.0)
EPSILONS = 10.0 ** np.arange(-6, 5)


class Path(NamedTuple):
    """The loss, |W|^2 and |dL/dW|^2 of all layers before BN, before each step."""

    loss: np.ndarray
    size: np.ndarray
    slope: np.ndarray
    lr: float

    @property
    def pythagoras(self) -> np.ndarray:
        """The |W|^2 that follows from its initial value and the gradients since."""
        growth = self.lr**2 * np.cumsum(self.slope)
        return self.size[0] + np.concatenate([[0], growth[:-1]])

    @property
    def effective_lr(self) -> np.ndarray:
        return self.lr / self.size


def points(rng):
    """Points of five classes, defined by five random directions."""
    x = rng.standard_normal((512, SIZES[0]))
    y = (x @ rng.standard_normal((SIZES[0], SIZES[-1]))).argmax(axis=1)
    return DataSet("points", x, y, x, y, SIZES[-1])


def train(seed, steps, a=1.0, lr=LR):
    """Train weights aW before batch norm at ``lr``, other parameters at LR."""
    rng = np.random.default_rng(seed)
    data = points(rng)
    # With eps = 0, the scale of the weights has no effect at all.
    between = batch_norm_and(nn.Tanh, eps=0, dtype=float)
    model = perceptron(SIZES, between, rng, bias=False, dtype=float)
    weights = [layer.weight for layer in linears(model)[:-1]]
    for w in weights:
        w.data = a * w.data
    rest = [p for p in model.parameters() if p not in set(weights)]
    optimizers = optim.SGD(weights, lr), optim.SGD(rest, LR)
    seen = []
    for x, labels in batches(data, BATCH, steps, rng, f"{a:g} W, lr {lr:g}"):
        loss = nn.cross_entropy(model(x), labels)
        model.zero_grad()
        loss.backward()
        size = sum((w.data**2).sum() for w in weights)
        slope = sum((w.grad**2).sum() for w in weights)
        seen.append((loss.item(), size, slope))
        for optimizer in optimizers:
            optimizer.step()
    return Path(*np.array(seen).T, lr)


def measure(seed, steps):
    """A layer for several a and eps, a network for several learning rates and a."""
    layer = Layer(seed)
    rates = {lr: train(seed, steps, lr=lr) for lr in RATES}
    return {
        "invariance": {
            (a, eps): layer.invariance(a, eps) for a in SCALES for eps in (0.0, 1.0)
        },
        "radial": {eps: layer.radial(eps) for eps in (0.0, *EPSILONS)},
        "reference": rates[LR],
        "rates": rates,
        "scaled": {a: train(seed, steps, a, a**2 * LR) for a in SCALES},
        "same rate": train(seed, steps, SCALES[-1], LR),
    }


def main(arguments=None):
    options = parse(experiment_options(__doc__, steps=300, quick_steps=40), arguments)
    measured = measure(options.seed, options.steps)
    save(lambda theme: plot(measured, theme), options, "scale_invariance")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
