"""What does the backward pass of batch norm look like?

    python examples/geometry.py

Like two projections and a change of scale. In each channel, the N values of a batch are
one vector x. So are the x_hat that batch norm makes of it, and the gradient g that
arrives at its output y = gamma x_hat.

Forward, x_hat has mean 0: it is orthogonal to the ones, (1, ..., 1). It also has
variance 1: its length is sqrt(N). So it lives on a sphere in the space orthogonal to
the ones; for N = 3, this is a circle in a plane. Adding a constant to x does not move
x_hat, nor does stretching x, which multiplies x - E[x] by a positive factor.

Backward, dL/dx says how the loss changes when x moves. Where a movement of x does not
move x_hat, the loss does not change, so dL/dx has no component in that direction:

    1. E[x] removes the component of g along the ones, mean(g) for each value.
    2. Var[x] removes the component along x_hat, x_hat mean(g x_hat).
    3. What is left is tangent to the circle. It is rescaled by gamma / sigma, because
       y = gamma (x - E[x]) / sigma moves gamma / sigma times as far as x.

The first is why sum(dL/dx) = 0, so that a bias added to all values learns nothing. The
second is why stretching x has no effect either. Of N directions, N - 2 are left. With
N = 2, the "circle" is two points, +-(1, -1), and dL/dx = 0, whatever g is.

The vectors in the picture are the routes of ``tg.explain``, divided by gamma / sigma.
The script also compares the projections with the gradient of ``tg.batch_norm`` for
random batches of up to a thousand values.

Not shown: eps > 0, with which a small part along x_hat remains, eps / (var + eps) of
it; and the gradients of gamma and beta, which receive what x does not:
dL/dgamma = sum(g x_hat) and dL/dbeta = sum(g).

Source: the derivation in ``tinygrad_bn/batchnorm.py``; Ioffe & Szegedy,
arXiv 1502.03167v3, section 3.
"""

from typing import NamedTuple

import numpy as np

import tinygrad_bn as tg
from parts.geometry.plots import plot, report
from support.command_line import experiment_options, parse
from support.measures import largest
from support.plotting import save
from tinygrad_bn import Tensor

X, G, GAMMA = (1.0, 2.0, 6.0), (2.0, -0.5, 2.5), 1.5
SIZES = (2, 3, 10, 100, 1000)


class Backward(NamedTuple):
    """The vectors of the picture, (N,), and the scale gamma / sigma.

    ``through_mean`` and ``through_var`` are what is added to g to remove a component.
    """

    x_hat: np.ndarray
    g: np.ndarray
    through_mean: np.ndarray
    through_var: np.ndarray
    d_x: np.ndarray
    scale: float


def backward(x, g, gamma):
    """The routes of the gradient of a batch of one channel, from ``tg.explain``."""
    x = Tensor(np.reshape(x, (-1, 1)), requires_grad=True, name="x")
    x_hat = tg.batch_norm(x, eps=0)
    loss = (x_hat * gamma * np.reshape(g, (-1, 1))).sum().named("L")
    routes = {route.gates: route.gradient[:, 0] for route in tg.explain(loss, x)}
    scale = float(gamma / x.data.std())
    return Backward(
        x_hat.data[:, 0],
        routes[()] / scale,
        routes[("E[x]",)] / scale,
        routes[("Var[x]",)] / scale,
        tg.grad(loss, x).data[:, 0],
        scale,
    )


def project(g, direction):
    """``g`` without its component along ``direction``."""
    return g - direction * (g @ direction) / (direction @ direction)


def compare(n, rng):
    """The gradient of a random batch, compared with its projections.

    Returns the largest deviation, the components along the ones and along x_hat, and
    the length of the gradient, all relative to gamma / sigma |g|.
    """
    x, g, gamma = rng.normal(3, 2, n), rng.standard_normal(n), rng.uniform(0.5, 2)
    leaf = Tensor(x[:, None], requires_grad=True)
    y = tg.batch_norm(leaf, np.array([gamma]), eps=0)
    d_x = tg.grad(y, leaf, gradient=g[:, None]).data[:, 0]
    d_x /= gamma / x.std() * np.linalg.norm(g)
    ones, x_hat = np.ones(n), (x - x.mean()) / x.std()
    expected = project(project(g, ones), x_hat) / np.linalg.norm(g)
    along = (abs(d_x @ v) / np.sqrt(n) for v in (ones, x_hat))
    return largest(d_x - expected), *along, np.linalg.norm(d_x)


def measure(seed):
    """The example of the picture, and random batches of several sizes."""
    rng = np.random.default_rng(seed)
    return {
        "picture": backward(X, G, GAMMA),
        "random": {n: np.array([compare(n, rng) for _ in range(300)]) for n in SIZES},
    }


def main(arguments=None):
    options = parse(experiment_options(__doc__), arguments)
    measured = measure(options.seed)
    save(lambda theme: plot(measured["picture"], theme), options, "geometry")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
