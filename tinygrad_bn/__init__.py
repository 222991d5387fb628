"""tinygrad_bn: what batch normalization does to gradients, in a small tensor engine."""

from . import nn, optim
from .batchnorm import batch_norm, fused_batch_norm
from .ops import (
    absolute,
    concatenate,
    exp,
    log,
    matmul,
    maximum,
    relu,
    sigmoid,
    sqrt,
    stack,
    tanh,
    where,
)
from .tensor import (
    Fused,
    Primitive,
    Tensor,
    composite,
    grad,
    no_grad,
    stop_gradient,
)

__all__ = [
    "Fused",
    "Primitive",
    "Tensor",
    "absolute",
    "batch_norm",
    "composite",
    "concatenate",
    "exp",
    "fused_batch_norm",
    "grad",
    "log",
    "matmul",
    "maximum",
    "nn",
    "no_grad",
    "optim",
    "relu",
    "sigmoid",
    "sqrt",
    "stack",
    "stop_gradient",
    "tanh",
    "where",
]
__version__ = "0.1.0"
