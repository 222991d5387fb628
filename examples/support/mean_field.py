"""The theory of how the gradient grows from layer to layer in a deep random network.

    h        the output of a linear layer with weights from N(0, sigma^2 / fan_in)
    q        the variance of h, over units and rows
    phi      the activation after h (and after batch norm, if there is any)
    factor   by which |dL/dh|^2 is multiplied from a layer to the one before it

In a wide network, each h is a sum of many small independent terms and hence normal, so
that q describes a layer completely. The weights sum the squares of their inputs:

    forward     q next = sigma^2 E[phi(h)^2]                   h ~ N(0, q)
    backward    |dL/dphi|^2 = sigma^2 |dL/dh next|^2           layers of equal width

The activation multiplies |dL/dphi|^2 by E[phi'(h)^2]. So the factor is
sigma^2 E[phi'(h)^2].

With batch norm, the input of phi is Z ~ N(0, 1), whatever q is. The next h then has
variance q = sigma^2 Var[phi(Z)] over the batch, around a mean that batch norm removes.
Batch norm divides the gradient by sqrt(q), as it divides h. In the factor,
sigma^2 E[phi'(Z)^2] / q, sigma cancels.

If only B rows are normalized together, each unit's column of B values of Z is not
normal, but uniform on a sphere: x_hat has mean 0 and mean square 1. Its length before
the normalization, s^2 = mean((h - mean)^2), is independent of its direction. Let D be
the diagonal matrix of phi'(x_hat), G the projection that subtracts the mean, and
P = G - x_hat x_hat^T / B the projection of batch norm's backward pass. The cotangent of
the next h is spread evenly over the directions that G leaves, so that the factor is

    E[1 / s^2] sigma^2 E[tr(P D G D P)] / (B - 1)
    E[1 / s^2] = (B - 1) B / ((B - 3) sigma^2 E|G phi(x_hat)|^2),

the latter from the mean of 1 / chi^2 with B - 1 degrees of freedom. Without phi, the
factor is (B - 2) / (B - 3). It assumes that the rows are exchangeable, which they are
after a few layers.

Left out: finite widths, which change the factor by a few percent.

Source: Schoenholz et al., Deep Information Propagation, arXiv 1611.01232; Yang et al.,
A Mean Field Theory of Batch Normalization, arXiv 1902.08129, theorem 3.10.
"""

import math

import numpy as np

from tinygrad_bn import Tensor, grad

# The number of points is even, so that none is at 0, where ReLU has no derivative.
Z = np.linspace(-8, 8, 4000)
DENSITY = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


def expectations(phi, q) -> tuple[float, float, float]:
    """E[phi(h)], E[phi(h)^2] and E[phi'(h)^2] for h ~ N(0, q)."""
    h = Tensor(math.sqrt(q) * Z, requires_grad=True)
    y = phi(h)
    slope = grad(y, h, gradient=np.ones_like(Z)).data
    return tuple(float(DENSITY @ v) for v in (y.data, y.data**2, slope**2))


def factor(phi, bn: bool, sigma, first: int, last: int) -> float:
    """The factor per layer from layer ``last`` to layer ``first``, a geometric mean.

    Layer 0 is the first. The data have mean 0 and variance 1, so q = sigma^2 there.
    """
    if bn:
        mean, square, slope = expectations(phi, 1)
        return slope / (square - mean**2)
    q, factors = sigma**2, []
    for _ in range(last):
        _, square, slope = expectations(phi, q)
        factors.append(sigma**2 * slope)
        q = sigma**2 * square
    return math.exp(np.log(factors[first:]).mean())


def finite_batch_factor(phi, batch: int) -> float:
    """The factor per layer with batch norm over ``batch`` rows, of which 4 are enough.

    Expectations are over two rows of a column of x_hat. They are two coordinates of a
    point on a sphere in n = ``batch - 1`` dimensions, at an angle, since columns sum to
    0. In polar coordinates, 1 - radius^2 is distributed like exp(-2 e / (n - 2)), where
    e has an exponential distribution.
    """
    n = batch - 1
    e, weights = np.polynomial.laguerre.laggauss(40)
    radius = np.sqrt(1 - np.exp(-2 * e / (n - 2)))[:, None]
    angle = 2 * np.pi * (np.arange(1000) + 0.5) / 1000

    def mean(values):
        return float(weights @ values.mean(axis=1))

    first, second = radius * np.cos(angle), radius * np.sin(angle)
    second = -first / n + math.sqrt(1 - 1 / n**2) * second
    x = math.sqrt(n) * np.stack([first, second])
    h = Tensor(x, requires_grad=True)
    y = phi(h)
    d = grad(y, h, gradient=np.ones_like(x)).data
    own, other = mean(y.data[0] ** 2), mean(y.data[0] * y.data[1])
    own_d, other_d = mean(d[0] ** 2), mean(d[0] * d[1])
    own_dx, other_dx = mean((d * x)[0] ** 2), mean((d * x)[0] * (d * x)[1])
    # tr(G D G D), and what the projection that removes x_hat takes from it.
    trace = (batch - 2 + 1 / batch) * own_d + n / batch * other_d
    taken = n / batch * (own_dx - other_dx)
    return batch / (batch - 3) * (trace - taken) / (n * (own - other))
