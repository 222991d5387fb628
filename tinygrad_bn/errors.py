"""The messages of the core: each says what must hold, what was received, what to do.

One function per message, so that an algorithm reads ``raise errors.leaf_changed(x,
node)`` and the sentence stays out of its way. Inputs appear under the name that
``describe`` gives them.

This file comes first in the order of imports. Look here only for the wording of an
error.

Left out on purpose: the messages of modules, optimizers, checkpoints and drawings,
which stand where they are raised.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def describe(x: Any, scope: Any = None) -> str:
    """The text for an input in an error: its name, if it has one, and its shape.

    For anything else, it is the type and shape if there is a shape, and the ``repr`` if
    that is short, or else the type.

    ``scope``: the call that uses ``x``, which knows the names of its parameters.
    """
    if hasattr(type(x), "qualified_name"):
        name = x.qualified_name(scope)
        return with_shape("tensor" if name is None else repr(name), x.shape)
    if isinstance(x, np.ndarray):
        return with_shape("array", x.shape)
    if not isinstance(x, type | np.dtype | np.generic):
        shape = getattr(x, "shape", None)
        if isinstance(shape, tuple):
            # The repr of a PyTorch tensor would pass for that of one of this engine.
            return with_shape(type_name(x), tuple(shape))
    text = repr(x)
    return text if len(text) <= 60 and "\n" not in text else type_name(x)


def type_name(x: Any) -> str:
    """The name of the type of ``x``, with its module if another library defines it."""
    kind, module = type(x).__name__, type(x).__module__
    known = module.partition(".")[0] in ("builtins", __package__)
    return kind if known else f"{module}.{kind}"


def with_shape(text: str, shape: tuple) -> str:
    """``text`` and a shape; of an empty shape, "loss()" would look like a call."""
    return text + (str(shape) if shape else " (scalar)")


def _list(tensors: Iterable, scope: Any = None) -> str:
    return ", ".join(describe(x, scope) for x in tensors)


# --- Making and changing tensors ------------------------------------------------------


def data_is_a_tensor(data: Any) -> TypeError:
    return TypeError(
        f"Tensor(data): data must be numbers, but {describe(data)} is a tensor "
        "already. Use it as it is, or data.detach() for one without history."
    )


def name_is_no_string(name: Any) -> TypeError:
    return TypeError(
        f"a name must be a string or None, but {describe(name)} was received. Convert "
        "it with str(name)."
    )


def data_contains_tensors() -> TypeError:
    return TypeError(
        "Tensor(data): data must be numbers, but this sequence contains tensors. Use "
        "tg.stack(tensors), which keeps their gradients."
    )


def data_are_masked(function: str) -> TypeError:
    return TypeError(
        f"{function}: data must not be masked, because the mask would be lost. Use "
        "array.filled(value), or tg.where(mask, ...) to compute with a mask."
    )


def data_are_not_real(function: str, data: Any, dtype: Any) -> TypeError:
    return TypeError(
        f"{function}: data must be real numbers, but NumPy reads {describe(data)} "
        f"as dtype {dtype}."
    )


def data_of_another_kind(x: Any, values: np.ndarray) -> ValueError:
    return ValueError(
        "tensor.data = values: shape and dtype must agree, but "
        f"{describe(x)} is {x.dtype} and the values are {values.shape} "
        f"{values.dtype}. Make a new Tensor instead."
    )


def not_a_leaf(x: Any) -> TypeError:
    return TypeError(
        f"only leaves can be assigned to, but {describe(x)} is the output of "
        f"{x.op.name!r}. Compute a new tensor, or change a leaf and run the forward "
        "pass again."
    )


def floats_truncated(x: Any, dtype: Any) -> TypeError:
    return TypeError(
        f"{describe(x)} has dtype {x.dtype}, which would truncate floats, but values "
        f"of {dtype} were received. Write np.round(values).astype({x.dtype.name!r})."
    )


def assigned_gradient_lost(values: Any) -> TypeError:
    return TypeError(
        "tensor[index] = values: values must be numbers, but "
        f"{describe(values)} requires a gradient, which would be lost. Use tg.stack or "
        "tg.concatenate, or values.data."
    )


def in_place(x: Any, symbol: str) -> TypeError:
    return TypeError(
        f"a leaf that requires a gradient cannot be changed by {symbol}, which would "
        f"bind the name of {describe(x)} to a new tensor. To change its values, "
        f"write p.data {symbol} ...; to compute with it, write "
        f"y = p {symbol.removesuffix('=')} ..."
    )


def gradient_of_an_output(x: Any) -> TypeError:
    return TypeError(
        f"requires_grad can be set on leaves only, but {describe(x)} is the output of "
        f"{x.op.name!r}. Use .detach() or tg.stop_gradient() to stop gradients."
    )


def gradient_of_integers(x: Any) -> TypeError:
    return TypeError(
        f"only floating-point tensors can require a gradient, but {describe(x)} is "
        f"{x.dtype}. Pass dtype=float, or leave out requires_grad."
    )


def gradient_misshapen(x: Any, shape: tuple) -> ValueError:
    return ValueError(
        "tensor.grad = values: a gradient must have the shape of its tensor, but "
        f"{describe(x)} received one of {shape}. Set .grad to None to clear it."
    )


# --- Reading tensors ------------------------------------------------------------------


def not_one_element(x: Any) -> ValueError:
    return ValueError(
        "only a tensor of one element can become a Python number, but "
        f"{describe(x)} has {x.size}. Index it or reduce it first."
    )


def truth_of_many(x: Any) -> ValueError:
    return ValueError(
        "the truth of a tensor is defined for one element only, but "
        f"{describe(x)} has {x.size}. Use .data.any() or .data.all()."
    )


def unknown_to_numpy(name: str, remedy: str) -> TypeError:
    return TypeError(
        f"{name} must be given arrays, but received a tensor, whose gradient it "
        f"would lose. Use {remedy}, or np.asarray(tensor) where no gradient is wanted."
    )


def ufunc_writes(name: str, method: str) -> TypeError:
    if method == "__call__":
        refused = (
            f"np.{name} cannot write a result computed from a tensor into an array"
        )
    else:
        refused = f"np.{name}.{method} accepts arrays only, but received a tensor"
    return TypeError(
        f"{refused}: the gradient would be lost. Use tensor.data to compute with the "
        "values, or the operators and functions of tg, which return new tensors."
    )


# --- Calling an operation -------------------------------------------------------------


def inputs_refused(
    operation: Any, inputs: Sequence, error: Exception, scope: Any
) -> Exception:
    """The error for inputs that do not fit: NumPy's error, with names and shapes."""
    kinds = IndexError, TypeError, ValueError, OverflowError
    kind = next(kind for kind in kinds if isinstance(error, kind))
    demands = operation.demands if kind is ValueError else None
    demands = demands or f"{str(error).rstrip('.')}."
    received = _list(inputs, scope)
    return kind(f"{operation.name}: {demands} Received: {received}.")


def inputs_without_pullbacks(operation: Any, inputs: Sequence) -> TypeError:
    return TypeError(
        f"{operation.name}: the number of inputs must be {len(operation.pullbacks)}, "
        f"like that of its pullbacks, but it is {len(inputs)}. Pass inputs by position "
        "and settings by name, and define one pullback per input (None for an input "
        "without a derivative)."
    )


def sequence_of_tensors(operation: Any) -> TypeError:
    name = getattr(operation, "name", operation)
    return TypeError(
        f"{name}: inputs must be tensors, arrays or numbers, but a sequence "
        "of tensors was received. Use tg.stack(tensors), which keeps gradients."
    )


def result_is_not_real(operation: Any, dtype: Any) -> TypeError:
    return TypeError(
        f"{operation.name}: the result must be real numbers, but it is {dtype}."
    )


def axis_refused(axis: Any, x: Any, added: int = 0) -> ValueError:
    result = f", and the result has {x.ndim + added} axes" if added else ""
    return ValueError(
        f"axis must name existing axes, each once, but {axis!r:.60} was received for "
        f"{describe(x)}{result}."
    )


def one_axis_needed(axis: Any, x: Any) -> ValueError:
    return ValueError(
        f"axis must be a single integer, but {axis!r:.60} was received for "
        f"{describe(x)}."
    )


def reshape_refused(x: Any, shape: tuple) -> ValueError:
    return ValueError(
        f"reshape: the shape must hold {x.size} values, and at most one of its sizes "
        f"may be -1, but {describe(x)} received {shape}."
    )


def transpose_refused(x: Any, axes: tuple) -> ValueError:
    return ValueError(
        f"transpose: each of the {x.ndim} axes must be named once, but "
        f"{describe(x)} received {axes}."
    )


def flatten_refused(start_axis: int, end_axis: int, x: Any) -> ValueError:
    return ValueError(
        f"flatten: start_axis must not come after end_axis, but {start_axis} and "
        f"{end_axis} were received for {describe(x)}."
    )


def squeeze_refused(axis: Any, x: Any) -> ValueError:
    return ValueError(
        f"squeeze: the axes to be removed must have length 1, but axis={axis!r} was "
        f"received for {describe(x)}."
    )


def broadcast_refused(x: Any, shape: tuple) -> ValueError:
    return ValueError(
        f"broadcast_to: {describe(x)} does not broadcast to {shape}: its axes must "
        "agree with the last axes of that shape, or have length 1. Reshape it."
    )


def bounds_refused(x: Any, low: Any, high: Any) -> TypeError:
    return TypeError(
        "clip: low and high must be numbers, or one of them None, but "
        f"{describe(low)} and {describe(high)} were received for {describe(x)}. For "
        "other bounds, use tg.maximum and tg.minimum, which also differentiate them."
    )


def ddof_refused(ddof: Any, m: int, x: Any) -> ValueError:
    return ValueError(
        f"var: ddof must be smaller than the number of values averaged, {m}, but "
        f"{ddof!r} was received for {describe(x)}."
    )


def nothing_to_join(function: str) -> ValueError:
    return ValueError(
        f"{function}: at least one tensor must be given, but none was received."
    )


def stack_of_shapes(tensors: Sequence) -> ValueError:
    return ValueError(
        f"stack: all tensors must have one shape. Received: {_list(tensors)}."
    )


# --- Going backward -------------------------------------------------------------------


def nothing_recorded(y: Any) -> RuntimeError:
    return RuntimeError(
        "backward() must start from a tensor that depends on a leaf with "
        f"requires_grad=True, but {describe(y)} does not. Was it computed under "
        "no_grad(), detached, or made of data only?"
    )


def leaf_changed(x: Any, node: Any) -> RuntimeError:
    return RuntimeError(
        "a graph runs backward only with the values it was recorded with, but "
        f"{describe(x, node.scope)} was changed after {node.op.name!r} had used it. "
        "Run the forward pass again after changing a leaf "
        "(an optimizer's step() changes its parameters)."
    )


def cotangent_missing(y: Any) -> ValueError:
    return ValueError(
        f"a backward pass starts from one number, but {describe(y)} has {y.size}. "
        "Reduce it first, for example with .sum() or .mean(), or pass gradient=, an "
        f"array of shape {y.shape}."
    )


def cotangent_misshapen(y: Any, shape: tuple) -> ValueError:
    return ValueError(
        "gradient must have the shape of the tensor it arrives at, but "
        f"{describe(y)} received one of shape {shape}."
    )


def pullback_misshapen(node: Any, x: Any, gradient: Any) -> ValueError:
    received = getattr(gradient, "shape", repr(gradient))
    return ValueError(
        f"{node.op.name}: the gradient of an input must have its shape, but the "
        f"pullback for {describe(x, node.scope)} returned {received}. Correct it, or, "
        "if requires_grad was set after the forward pass, set it before."
    )


def fused_gradients_missing(operation: Any, inputs: int, gradients: int) -> ValueError:
    return ValueError(
        f"{operation.name}: backward must return one gradient per input, but for "
        f"{inputs} inputs it returned {gradients}. Return None where none is needed."
    )


def tape_of_no_tensor(y: Any) -> TypeError:
    return TypeError(f"tape(y): y must be a tensor, but {describe(y)} was received.")


def grad_of_no_tensor(y: Any, wrt: Any) -> TypeError:
    return TypeError(
        "grad(y, wrt): y must be a tensor, and wrt a tensor or a sequence of them, but "
        f"{describe(y)} and {describe(wrt)} were received."
    )


def wrt_is_no_tensor(x: Any) -> TypeError:
    return TypeError(
        f"grad(y, wrt): wrt must be tensors, but it contains {describe(x)}."
    )


def wrt_requires_no_gradient(x: Any) -> ValueError:
    return ValueError(
        "grad(y, wrt): wrt must require a gradient, so that the tape records how y "
        f"depends on it, but {describe(x)} ({x.dtype}) does not. Make it with "
        "Tensor(..., requires_grad=True)."
    )


# --- Batch norm, layers and losses ----------------------------------------------------


def eps_refused(function: str, eps: Any) -> ValueError:
    return ValueError(
        f"{function}: eps must be a finite number of at least 0, but {eps!r} was "
        "received."
    )


def constants_unknown(function: str, unknown: Iterable[str]) -> ValueError:
    return ValueError(
        f"{function}: constants may contain 'mean' and 'var', but {sorted(unknown)} "
        "was received."
    )


def one_value_per_channel(x: Any, axes: tuple) -> ValueError:
    return ValueError(
        "batch_norm: at least two values per channel must be averaged. A single value "
        "is its own mean, so x_hat would be 0 whatever x is. Received "
        f"{describe(x)} with axes={axes}. Use a larger batch, or evaluation mode with "
        "running statistics."
    )


def not_per_channel(
    name: str, values: Any, x: Any, axes: tuple, channels: tuple
) -> ValueError:
    return ValueError(
        f"batch_norm: {name} must have one value per channel, {channels}, for "
        f"{describe(x)} with axes={axes}, but {np.shape(values)} was received. "
        "Check the axes."
    )


def momentum_refused(momentum: Any) -> ValueError:
    return ValueError(
        "momentum, the weight of the new batch, must be in [0, 1], or None for the "
        f"average over all batches, but {momentum!r} was received."
    )


def labels_are_not_integers(dtype: Any) -> TypeError:
    return TypeError(
        "cross_entropy: labels must be integers, the index of the correct class for "
        f"each row, but an array of {dtype} was received. Convert with "
        "labels.astype(int)."
    )


def labels_misshapen(logits: Any, labels: Any) -> ValueError:
    remedy = ""
    if labels.ndim == 2 and labels.shape == logits.shape:
        remedy = " For one-hot labels, pass labels.argmax(axis=1)."
    elif labels.ndim == 2 and labels.shape[:1] == logits.shape:
        remedy = " Pass the logits first."
    return ValueError(
        "cross_entropy: logits (N, C) need labels (N,) with N > 0, but "
        f"{describe(logits)} and labels {labels.shape} were received.{remedy}"
    )


def labels_out_of_range(labels: np.ndarray, classes: int) -> ValueError:
    return ValueError(
        f"labels must be in [0, {classes}), one of the columns of the logits, but they "
        f"range from {labels.min()} to {labels.max()}"
    )


def targets_misshapen(prediction: Any, target: Any) -> ValueError:
    return ValueError(
        "mse_loss: prediction and target must have the same shape, but "
        f"{describe(prediction)} and {np.shape(target)} were received. "
        "Reshape one of them."
    )
