"""What stands between the linear layers: an activation, and a norm before or after it.

Layer norm is a composite: for each row, its mean and variance over the features. The
engine differentiates it; there is no backward pass to write.
"""

import numpy as np

from support.networks import ACTIVATIONS
from tinygrad_bn import nn

NONE, BATCH, LAYER = "no norm", "batch norm", "layer norm"
AFTER = "batch norm after the activation"


def between(width, activation, norm, beta=0.0):
    """The modules between two linear layers, with eps = 0 and in float64.

    ``beta`` is the shift of batch norm.
    """
    phi = ACTIVATIONS[activation]()
    if norm == NONE:
        return [phi]
    if norm == LAYER:
        return [nn.LayerNorm(width, eps=0, dtype=np.float64), phi]
    batch_norm = nn.BatchNorm(width, eps=0, dtype=np.float64)
    batch_norm.beta.data += beta
    return [phi, batch_norm] if norm == AFTER else [batch_norm, phi]
