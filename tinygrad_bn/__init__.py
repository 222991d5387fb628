"""What batch normalization does to gradients: a small autodiff engine in NumPy.

The names, by purpose:

- tensors and gradients: ``Tensor``, ``grad``, ``tape``, ``no_grad``, ``stop_gradient``;
- batch norm, defined twice: ``batch_norm``, ``fused_batch_norm``;
- why a gradient is what it is: ``explain``, ``draw``, ``draw_routes``,
  ``side_by_side``, ``check_redundant``, ``find_nonfinite``;
- networks: ``nn``, ``optim``, ``summary``, ``save``, ``load``, ``from_torch``,
  ``to_torch``;
- operations of your own: ``Primitive``, ``Fused``, ``composite``, ``check_gradients``.

All other functions of tensors have the names that they have in NumPy and PyTorch.

The files in reading order:

1. ``tape.py``, ``backward.py``, ``ops.py``, ``batchnorm.py``: the first reading.
2. ``errors.py``, ``arguments.py``, ``scopes.py``, ``clock.py``, ``axes.py``,
   ``kernels.py``, ``running.py``, ``init.py``, ``pytorch_layout.py``, ``files.py``:
   helpers, to look up when needed.
3. ``compositions.py``, ``tensor.py``, ``channels.py``: functions composed of
   primitives; operators and methods; the arguments of batch norm.
4. ``functional.py``, ``module.py``, ``nn.py``: losses, modules, layers.
5. ``optimizer.py``, ``schedules.py``, ``optim.py``: optimizers.
6. ``graph.py``, ``gates.py``, ``explanation.py``, ``routes.py``: ``explain``.
7. ``summary.py``, ``redundant.py``, ``nonfinite.py``: a table of a model, parameters
   that cannot learn, the origin of NaN.
8. ``draw/``: pictures.
9. ``program.py``, ``pytorch.py``: the bridge to PyTorch.
10. ``check.py``, ``checkpoint.py``: a numerical check of gradients, and checkpoints.

A file imports only files that come before it in this list. (The exceptions are the
first four, which use the helpers; ``batchnorm.py`` uses the third group, too.)

Left out on purpose: GPUs, convolutions, and complex numbers. ``to_torch`` converts a
network made of the layers of ``nn`` to PyTorch, which has them.
"""

from . import nn, optim
from .backward import Fused, grad
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
from .tape import Primitive, tape
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


def __dir__() -> list[str]:
    """What completion offers: no files and no imports."""
    return [*__all__, "__version__"]
