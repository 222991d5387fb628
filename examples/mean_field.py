"""How the gradient grows from layer to layer of a deep random network, in theory.

=========  =========================================================================
h          the output of a linear layer, whose weights are N(0, sigma^2 / fan_in)
q          the variance of h, over units and rows
phi        what follows h (behind batch norm, if there is one)
factor     by which |dL/dh|^2 is multiplied from a layer to the one before it
=========  =========================================================================

In a wide network each h is a sum of many small independent terms, hence normal, so that
q tells all about a layer. Its weights add the squares of what they are given:

    forward     q next = sigma^2 E[phi(h)^2]                   h ~ N(0, q)
    backward    |dL/dphi|^2 = sigma^2 |dL/dh next|^2           layers of equal width

and phi multiplies the latter by E[phi'(h)^2]: the factor is sigma^2 E[phi'(h)^2].

With batch norm, phi is given Z ~ N(0, 1), whatever q. The next h then varies over the
batch by q = sigma^2 Var[phi(Z)], around a mean that batch norm removes, and batch norm
divides the gradient by sqrt(q), as it divides h. In sigma^2 E[phi'(Z)^2] / q, the
factor, sigma cancels.

Left out: finite widths and batches, which add some percent.

Source: Schoenholz et al., Deep Information Propagation, arXiv 1611.01232; Yang et al.,
A Mean Field Theory of Batch Normalization, arXiv 1902.08129, theorem 3.10.
"""

import math

import numpy as np

from tinygrad_bn import Tensor, grad

# An even number of points: none is on the kink of ReLU, where a slope is convention.
Z = np.linspace(-8, 8, 4000)
DENSITY = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


def moments(phi, q) -> tuple[float, float, float]:
    """E[phi(h)], E[phi(h)^2] and E[phi'(h)^2] for h ~ N(0, q)."""
    h = Tensor(math.sqrt(q) * Z, requires_grad=True)
    y = phi(h)
    slope = grad(y, h, gradient=np.ones_like(Z)).data
    return tuple(float(DENSITY @ v) for v in (y.data, y.data**2, slope**2))


def factor(phi, bn: bool, sigma, first: int, last: int) -> float:
    """The factor from layer ``last`` to layer ``first``, a geometric mean; 0 is first.

    The data have mean 0 and variance 1, so that in layer 0 q = sigma^2.
    """
    if bn:
        mean, square, slope = moments(phi, 1)
        return slope / (square - mean**2)
    q, factors = sigma**2, []
    for _ in range(last):
        _, square, slope = moments(phi, q)
        factors.append(sigma**2 * slope)
        q = sigma**2 * square
    return math.exp(np.log(factors[first:]).mean())
