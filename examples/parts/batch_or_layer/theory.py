"""The factors and similarities that wide networks and large batches approach.

``support/mean_field.py`` derives the factors without norm and with batch
norm. With layer norm, the argument is the same except for the denominator: for a row,
the variance of the next h over the *units* is sigma^2 E[phi(Z)^2], because the weights
of different units are independent. The mean over the units is nearly 0.

Similarity: if the inputs Z and Z' of two rows have correlation c, the next h have
correlation E[phi(Z) phi(Z')] / E[phi(Z)^2], which for ReLU is

    (sqrt(1 - c^2) + (pi - arccos c) c) / pi.

Source: for the last formula Cho & Saul, Kernel Methods for Deep Learning, NIPS 2009,
section 2, equations 4 and 6 (n = 1).
"""

import math

import numpy as np

from parts.batch_or_layer.variants import AFTER, LAYER, NONE
from support import mean_field
from support.networks import ACTIVATIONS


def factor_in_theory(activation, norm, sigma, beta, first, last):
    """The factor of |dL/dh|^2 per layer toward the input; without norm, a mean."""
    phi = ACTIVATIONS[activation]()
    if norm == NONE:
        return mean_field.factor(phi, False, sigma, first, last)
    if norm == AFTER:
        mean, square, slope = mean_field.expectations(phi, sigma**2)
        return sigma**2 * slope / (square - mean**2)
    mean, square, slope = mean_field.expectations(lambda z: phi(z + beta), 1)
    return slope / square if norm == LAYER else slope / (square - mean**2)


def similarity_in_theory(depth):
    """The mean cosine of two rows in each layer of a ReLU network with layer norm."""
    c = [0.0]  # The data are random, so their rows have nothing in common.
    for _ in range(depth - 1):
        angle = math.acos(c[-1])
        c.append((math.sin(angle) + (math.pi - angle) * c[-1]) / math.pi)
    return np.array(c)
