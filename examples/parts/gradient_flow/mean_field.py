"""The theory of how the gradient grows from layer to layer in a deep random network.

=========  =========================================================================
h          the output of a linear layer with weights from N(0, sigma^2 / fan_in)
q          the variance of h, over units and rows
phi        the activation behind h (and behind batch norm, if there is any)
factor     by which |dL/dh|^2 is multiplied from a layer to the one before it
=========  =========================================================================

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

Left out: finite widths and batches, which change the factor by a few percent.

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
