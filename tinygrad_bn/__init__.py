"""What batch normalization does to gradients: a small autodiff engine in NumPy.

The files in reading order: ``tape.py``, ``backward.py``, ``ops.py``,
``batchnorm.py``; then ``functional.py``, ``module.py``, ``nn.py``, ``optimizer.py``
and ``optim.py``; then ``routes.py`` and ``draw/``.
"""

from . import nn, optim
from .backward import Fused, grad, tape
from .batchnorm import batch_norm, fused_batch_norm
from .check import check_gradients
from .checkpoint import load, save
from .compositions import (
    broadcast_to,
    clip,
    concatenate,
    expand_dims,
    log_softmax,
    logsumexp,
    matmul,
    softmax,
    squeeze,
    stack,
)
from .draw import Drawing, NoRenderer, draw, draw_routes, side_by_side
from .nonfinite import find_nonfinite
from .ops import (
    absolute,
    exp,
    log,
    maximum,
    minimum,
    relu,
    sigmoid,
    sqrt,
    stop_gradient,
    tanh,
    where,
)
from .pytorch import from_torch, to_torch
from .redundant import check_redundant
from .routes import explain
from .scopes import composite, no_grad
from .summary import summary
from .tape import Primitive
from .tensor import Tensor

__all__ = [
    "Drawing",
    "Fused",
    "NoRenderer",
    "Primitive",
    "Tensor",
    "absolute",
    "batch_norm",
    "broadcast_to",
    "check_gradients",
    "check_redundant",
    "clip",
    "composite",
    "concatenate",
    "draw",
    "draw_routes",
    "exp",
    "expand_dims",
    "explain",
    "find_nonfinite",
    "from_torch",
    "fused_batch_norm",
    "grad",
    "load",
    "log",
    "log_softmax",
    "logsumexp",
    "matmul",
    "maximum",
    "minimum",
    "nn",
    "no_grad",
    "optim",
    "relu",
    "save",
    "side_by_side",
    "sigmoid",
    "softmax",
    "sqrt",
    "squeeze",
    "stack",
    "stop_gradient",
    "summary",
    "tanh",
    "tape",
    "to_torch",
    "where",
]
__version__ = "0.1.0"
