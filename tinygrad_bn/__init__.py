"""tinygrad_bn: what batch normalization does to gradients, in a small tensor engine."""

from . import nn, optim
from .batchnorm import batch_norm, fused_batch_norm
from .check import check_gradients
from .checkpoint import load, save
from .draw import Drawing, NoRenderer, draw, draw_routes, side_by_side
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
from .redundant import check_redundant
from .routes import explain
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
    "Drawing",
    "Fused",
    "NoRenderer",
    "Primitive",
    "Tensor",
    "absolute",
    "batch_norm",
    "check_gradients",
    "check_redundant",
    "composite",
    "concatenate",
    "draw",
    "draw_routes",
    "exp",
    "explain",
    "fused_batch_norm",
    "grad",
    "load",
    "log",
    "matmul",
    "maximum",
    "nn",
    "no_grad",
    "optim",
    "relu",
    "save",
    "side_by_side",
    "sigmoid",
    "sqrt",
    "stack",
    "stop_gradient",
    "tanh",
    "where",
]
__version__ = "0.1.0"
