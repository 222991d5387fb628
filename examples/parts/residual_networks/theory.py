"""How the gradient grows in wide networks and large batches.

With q_l for the variance of x_l, ``residual_networks.py`` derives that a block
multiplies |dL/dx|^2 toward the input by 1 + sigma^2 E[relu'^2] / q_l, where
E[relu'^2] = 1/2. Without a skip connection, the 1 is missing, and q_l for l > 0 is what
the branch before returned. Without a norm, nothing is divided by q_l.
"""

import math

import numpy as np

from parts.residual_networks.blocks import BATCH, LAYER, NONE

# The variance of relu(Z) for Z ~ N(0, 1), as the norm of the next block measures it.
SPREAD = {BATCH: (math.pi - 1) / (2 * math.pi), LAYER: 1 / 2}


def growth_in_theory(norm, skip, sigma, depth):
    """|dL/dx_l|^2 for l from 0 to depth, relative to that of the output."""
    before, factors = 1 if skip else 0, []
    for block in range(depth):
        if norm == NONE:
            q = 1
        elif skip:
            q = 1 + block * sigma**2 * SPREAD[norm]
        else:
            q = sigma**2 * SPREAD[norm] if block else 1
        factors.append(before + sigma**2 / 2 / q)
    return np.append(np.cumprod(factors[::-1])[::-1], 1)
