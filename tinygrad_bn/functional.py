"""Layers and losses as functions, each fused operation next to its definition.

    logits   one score per class; their softmax is a probability distribution
    labels   for each row of logits, the index of the correct class

This file comes after ``batchnorm.py`` in the reading order.

Left out on purpose: class weights, label smoothing, and other options of losses.
"""

import functools
from typing import Any

import numpy as np

from . import errors
from .backward import Fused
from .batchnorm import batch_norm
from .compositions import log_softmax
from .kernels import as_floats, mean_of_rows, sum_of_rows
from .scopes import composite
from .tensor import Tensor, as_tensor

# --- Linear ---------------------------------------------------------------------------


@composite
def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """``x @ weight + bias``: the definition of ``fused_linear``.

    Shapes: x (..., in_features), weight (in_features, out_features),
    bias (out_features,); the result (..., out_features).
    """
    y = x @ weight
    return y if bias is None else y + bias


def _linear_forward(x, weight, bias):
    bias_fits = bias is None or bias.shape == weight.shape[1:]
    if not x.ndim or weight.ndim != 2 or not bias_fits:
        raise ValueError("The error will quote what fused_linear demands.")
    # For two matrices, dot is matmul with half the overhead.
    y = x.dot(weight)
    return (y if bias is None else y + bias), None


def _linear_backward(g, saved, needs, x, weight, bias):
    d_x = g.dot(weight.T) if needs[0] else None
    if x.ndim != 2:
        x, g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    d_weight = x.T.dot(g) if needs[1] else None
    d_bias = sum_of_rows(g) if needs[2] else None
    return d_x, d_weight, d_bias


fused_linear = Fused(
    "linear",
    _linear_forward,
    _linear_backward,
    definition=linear,
    demands="x (..., in_features), weight (in_features, out_features) and bias "
    "(out_features,) must fit together.",
    doc="``x @ weight + bias`` in one operation; shapes as for ``linear``.",
)

# --- Layer norm -----------------------------------------------------------------------


@composite
def layer_norm(
    x: Any, gamma: Any = None, beta: Any = None, *, eps: float = 1e-5
) -> Tensor:
    """Normalize each example over its features: batch norm over another axis.

    Shapes: x (..., C); gamma and beta (C,), one value per feature; the result like x.

    Source: Ba, Kiros & Hinton, arXiv 1607.06450, section 3.
    """
    y = batch_norm(x, axes=(-1,), eps=eps)
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


# --- Losses ---------------------------------------------------------------------------


def cross_entropy(logits: Any, labels: Any) -> Tensor:
    """The mean negative log-likelihood of the labels under the softmax of the logits.

    Shapes: logits (N, C), labels (N,), integers in [0, C); the result is a scalar.

    Raises: ``TypeError`` for labels that are not integers; ``ValueError`` for shapes
    that do not fit, and for labels out of range.
    """
    logits, labels = as_tensor(logits), as_tensor(labels)
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise errors.labels_misshapen(logits, labels)
    if labels.dtype.kind not in "iu":
        raise errors.labels_are_not_integers(labels.dtype)
    return _fused_cross_entropy(logits, labels)


@composite
def softmax_cross_entropy(logits: Any, labels: Any) -> Tensor:
    """The mean of ``-log softmax(logits)[label]``: the definition of the fused loss.

    Shapes: logits (N, C), labels (N,), integers in [0, C); the result is a scalar.
    """
    log_probabilities = log_softmax(logits, axis=1)
    return -log_probabilities[np.arange(len(log_probabilities)), labels].mean()


def _cross_entropy_forward(logits, labels):
    # One row per class, also in memory, so that NumPy's inner loops run over the batch.
    z = as_floats(logits).T.copy()
    z -= np.maximum.reduce(z)
    positions = _positions_of_labels(labels, z.shape)
    z_of_label = z.reshape(-1)[positions]
    probabilities = np.exp(z)
    total = sum_of_rows(probabilities)
    probabilities /= total
    loss = mean_of_rows(np.log(total) - z_of_label).astype(z.dtype)
    return loss, (probabilities, positions)


def _positions_of_labels(labels, shape):
    """The index of each example's label in an array (C, N) that is read row by row."""
    try:
        return np.ravel_multi_index((labels, _range(shape[1])), shape)
    except ValueError:
        raise errors.labels_out_of_range(labels, shape[0]) from None


_range = functools.lru_cache(maxsize=16)(np.arange)


def _cross_entropy_backward(g, saved, needs, logits, labels):
    probabilities, positions = saved
    weight = g.item() / len(logits)
    d_logits = probabilities * weight
    d_logits.reshape(-1)[positions] -= weight
    return d_logits.T, None


_fused_cross_entropy = Fused(
    "softmax_cross_entropy",
    _cross_entropy_forward,
    _cross_entropy_backward,
    definition=softmax_cross_entropy,
)


@composite
def mse_loss(prediction: Any, target: Any) -> Tensor:
    """The mean of the squared differences.

    Shapes: prediction and target have the same shape; the result is a scalar.

    Raises: ``ValueError`` for shapes that differ (broadcasting would hide a mistake).
    """
    if np.shape(prediction) != np.shape(target):
        raise errors.targets_misshapen(prediction, target)
    prediction = as_tensor(prediction)
    if prediction.dtype.kind != "f":
        prediction = prediction.astype(float)  # Integers would wrap around.
    return ((prediction - target) ** 2).mean()
