"""What stands between the linear layers: an activation, and a norm before or after it.

Layer norm is written here as a composite: for each row, its mean and variance over the
features. The engine differentiates it; there is no backward pass to write.

Left out: a scale and a shift behind layer norm, which start as 1 and 0.

Source: Ba, Kiros & Hinton, Layer Normalization, arXiv 1607.06450, section 3.
"""

import numpy as np

import tinygrad_bn as tg
from tinygrad_bn import nn

NONE, BATCH, LAYER = "no norm", "batch norm", "layer norm"
AFTER = "batch norm after the activation"
# An empty sequence of modules is the identity.
ACTIVATIONS = {
    "linear": nn.Sequential, "ReLU": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
}  # fmt: skip


@tg.composite
def layer_norm(x, eps=1e-5):
    """Give each row of ``x`` mean 0 and variance 1 over its features, the last axis."""
    x_c = x - x.mean(axis=-1, keepdims=True)
    var = (x_c**2).mean(axis=-1, keepdims=True)
    return x_c * (var + eps) ** -0.5


class LayerNorm(nn.Module):
    """``layer_norm`` as a module."""

    def __init__(self, eps=1e-5):
        self.eps = eps

    def forward(self, x):
        return layer_norm(x, self.eps)


def between(width, activation, norm, beta=0.0):
    """The modules between two linear layers, with eps = 0 and in float64.

    ``beta`` is the shift of batch norm.
    """
    phi = ACTIVATIONS[activation]()
    if norm == NONE:
        return [phi]
    if norm == LAYER:
        return [LayerNorm(eps=0), phi]
    batch_norm = nn.BatchNorm(width, eps=0, dtype=np.float64)
    batch_norm.beta.data += beta
    return [phi, batch_norm] if norm == AFTER else [batch_norm, phi]
