"""The layers of a multilayer perceptron with batch norm, and containers for them.

This file comes after ``module.py`` in the reading order.

Left out on purpose: convolutions, pooling, recurrent networks, and more activations
(each is one primitive; the README shows softplus).
"""

import operator
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from . import ops
from .axes import shape_without
from .batchnorm import batch_norm, fused_batch_norm
from .channels import averaged_axes, checked_constants, checked_eps
from .compositions import flatten
from .errors import describe
from .functional import cross_entropy, fused_linear, layer_norm, mse_loss
from .init import generator, kaiming_normal
from .module import Member, Module, describe_module
from .pytorch_layout import PYTORCH_NAMES
from .running import RunningStatistics
from .tensor import Tensor, as_tensor


class Linear(Module):
    """``x @ weight + bias``, with Kaiming normal weights and a bias of zeros.

    Shapes: x (..., in_features) -> (..., out_features); ``weight`` (in_features,
    out_features), the transpose of PyTorch's; ``bias`` (out_features,) or None.
    ``rng`` is a generator of random numbers or a seed for the weights; without it they
    differ from run to run.

    Raises: ``ValueError`` for sizes that are not positive integers, and for x with the
    wrong number of features.
    """

    pytorch_transposes = ("weight",)

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ):
        _check_size("Linear", "in_features", in_features)
        _check_size("Linear", "out_features", out_features)
        weight = kaiming_normal((in_features, out_features), rng, dtype)
        self.weight = Tensor(weight, requires_grad=True)
        self.bias = (
            Tensor(np.zeros(out_features, dtype), requires_grad=True) if bias else None
        )

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        try:
            return fused_linear(x, self.weight, self.bias)
        except ValueError:
            # Compared only now, which saves one percent of a training step.
            if x.shape[-1:] == self.weight.shape[:1]:
                raise
            raise ValueError(
                f"{describe_module(self)}: the last axis must have {len(self.weight)} "
                f"features, but {describe(x)} was received. Check the layer before it."
            ) from None

    def extra_repr(self) -> str:
        fan_in, fan_out = self.weight.shape
        return f"{fan_in} → {fan_out}" + (", bias=False" if self.bias is None else "")


class BatchNorm(Module):
    """Batch normalization with running statistics for evaluation mode.

    ``axes`` are the axes averaged over, (0,) for x (N, C) and (0, 2, 3) for x
    (N, C, H, W); None means all but axis 1. ``momentum`` in [0, 1] is the weight of the
    *new* batch in the running statistics; None weighs all batches equally. Training
    normalizes by the batch's own variance, which divides by m; the running variance is
    m / (m - 1) times that. Without ``track_running_stats``, there are no running
    statistics, and evaluation mode also normalizes by the batch.

    ``fused=False`` computes with a graph of primitives instead of the fused operation.
    ``constants`` names statistics, ``"mean"``, ``"var"`` or both, that the backward
    pass wrongly treats as constants; this also requires the graph of primitives.

    ``gamma`` starts at 1 and ``beta`` at 0, both (C,). ``bias=False`` leaves out
    ``beta``, and ``affine=False`` leaves out both. ``running_mean`` and ``running_var``
    are NumPy arrays (C,). Whatever is left out is None.

    Raises: ``ValueError`` for the wrong number of features, one value per channel in
    training, momentum outside [0, 1], an eps that is negative or not finite, unknown
    ``constants``, or a dtype that is not a float type.

    Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithms 1 and 2.
    """

    pytorch_names = PYTORCH_NAMES

    def __init__(
        self,
        num_features: int,
        axes: tuple[int, ...] | None = (0,),
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        fused: bool = True,
        constants: tuple[str, ...] = (),
        dtype: Any = np.float32,
        *,
        bias: bool = True,
        track_running_stats: bool = True,
    ):
        _check_size("BatchNorm", "num_features", num_features)
        self.axes = None if axes is None else tuple(np.atleast_1d(axes).tolist())
        _check_float("BatchNorm", dtype)
        self.num_features, self.eps = num_features, checked_eps("BatchNorm", eps)
        self.constants = checked_constants("BatchNorm", constants)
        self.fused = fused
        self.gamma, self.beta = _scale_and_shift(num_features, affine, bias, dtype)
        running = RunningStatistics(num_features, momentum, dtype)
        self.running = running if track_running_stats else None

    @property
    def running_mean(self) -> np.ndarray | None:
        """The exponential average of the batch means, (C,)."""
        return None if self.running is None else self.running.mean

    @property
    def running_var(self) -> np.ndarray | None:
        """The exponential average of the unbiased batch variances, (C,)."""
        return None if self.running is None else self.running.var

    @property
    def momentum(self) -> float | None:
        """The weight of the new batch in the running statistics, which can be set."""
        return None if self.running is None else self.running.momentum

    @momentum.setter
    def momentum(self, value: float | None) -> None:
        if self.running is None:
            raise ValueError(
                "BatchNorm: momentum can be set only if there are running statistics, "
                "but track_running_stats is False."
            )
        self.running.momentum = value

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        axes, eps = averaged_axes(x, self.axes), self.eps
        self._check_features(x, axes)
        if not self.training and self.running is not None:
            return self._by_running_statistics(x, axes, self.running)
        if self.fused and not self.constants:
            return fused_batch_norm(
                x, self.gamma, self.beta, axes=axes, eps=eps, running=self.running
            )
        return batch_norm(
            x, self.gamma, self.beta, axes=axes, eps=eps,
            constants=self.constants, running=self.running,
        )  # fmt: skip

    def _by_running_statistics(
        self, x: Tensor, axes: tuple[int, ...], running: RunningStatistics
    ) -> Tensor:
        # As in training, integers become float64, and without gamma the result has the
        # dtype of x.
        x = x if x.dtype.kind == "f" else x.astype(float)
        y = batch_norm(
            x, self.gamma, self.beta, axes=axes, eps=self.eps,
            mean=running.mean, var=running.var,
        )  # fmt: skip
        if self.gamma is None and x.dtype != y.dtype:
            return y.astype(x.dtype)
        return y

    def _check_features(self, x: Tensor, axes: tuple[int, ...]) -> None:
        channels = shape_without(x, axes)
        if channels != (self.num_features,):
            raise ValueError(
                f"{describe_module(self)}: {self.num_features} features must be left "
                f"when axes {axes} are averaged over, but {describe(x)} was received, "
                f"which leaves {channels}. Check num_features, axes and the layer "
                "before it."
            )

    def _members(self) -> Iterator[tuple[str, Member]]:
        yield from super()._members()
        if self.running is not None:
            yield "running_mean", self.running.mean
            yield "running_var", self.running.var
            yield "updates", self.running.updates

    def _dtypes(self) -> list[np.dtype]:
        arrays = self.gamma, self.beta, self.running_mean, self.running_var
        return list(dict.fromkeys(a.dtype for a in arrays if a is not None))

    def extra_repr(self) -> str:
        shown = [f"{self.num_features}", f"eps={self.eps}"]
        if self.running is None:
            shown.append("track_running_stats=False")
        else:
            shown.append(f"momentum={self.running.momentum}")
        if self.axes != (0,):
            shown.append(f"axes={self.axes}")
        shown += _left_out(self.gamma, self.beta)
        if not self.fused:
            shown.append("fused=False")
        if self.constants:
            shown.append(f"constants={self.constants}")
        shown += [f"dtype={d}" for d in self._dtypes() if d != np.float32]
        return ", ".join(shown)

    def caption(self) -> str:
        return f"BatchNorm {self.num_features}"


class LayerNorm(Module):
    """Layer normalization: each example is normalized over its features.

    Batch norm averages each feature over the examples of the batch; layer norm averages
    each example over its features. So the examples do not depend on each other, there
    are no running statistics, and evaluation and training compute the same. A bias in
    front of layer norm does learn: it differs from feature to feature, and layer norm
    subtracts only what all features have in common.

    Shapes: x (..., C) -> (..., C); ``gamma`` and ``beta`` as in ``BatchNorm``.

    Raises: ``ValueError`` for fewer than two features, for x with another number of
    features, and for eps < 0.

    Source: Ba, Kiros & Hinton, arXiv 1607.06450, section 3.
    """

    pytorch_names = PYTORCH_NAMES

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = np.float32,
    ):
        _check_size("LayerNorm", "num_features", num_features, least=2)
        self.num_features, self.eps = num_features, checked_eps("LayerNorm", eps)
        self.gamma, self.beta = _scale_and_shift(num_features, affine, bias, dtype)

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        if x.shape[-1:] != (self.num_features,):
            raise ValueError(
                f"{describe_module(self)}: the last axis must have {self.num_features} "
                f"features, but {describe(x)} was received. Check the layer before it."
            )
        return layer_norm(x, self.gamma, self.beta, eps=self.eps)

    def extra_repr(self) -> str:
        shown = [f"{self.num_features}", f"eps={self.eps}"]
        return ", ".join(shown + _left_out(self.gamma, self.beta))

    def caption(self) -> str:
        return f"LayerNorm {self.num_features}"


def _scale_and_shift(
    num_features: int, affine: bool, bias: bool, dtype: Any
) -> tuple[Tensor | None, Tensor | None]:
    """gamma and beta of a normalization, each None if it is left out."""
    ones, zeros = np.ones(num_features, dtype), np.zeros(num_features, dtype)
    gamma = Tensor(ones, requires_grad=True) if affine else None
    beta = Tensor(zeros, requires_grad=True) if affine and bias else None
    return gamma, beta


def _left_out(gamma: Tensor | None, beta: Tensor | None) -> list[str]:
    """The arguments that left out gamma and beta, as ``repr`` shows them."""
    if gamma is None:
        return ["affine=False"]
    return ["bias=False"] if beta is None else []


class Dropout(Module):
    """In training, replace each value by 0 with probability ``p``.

    The other values are divided by 1 - p, so that the expected value is x. Evaluation
    mode returns x. ``rng`` is a generator of random numbers or a seed; it is not part
    of the state, so a resumed run draws different values from an uninterrupted one.

    Raises: ``ValueError`` for p outside [0, 1].

    Source: Srivastava et al., JMLR 15 (2014), section 4; here training is rescaled
    instead of evaluation (section 10).
    """

    def __init__(self, p: float = 0.5, *, rng: np.random.Generator | int | None = None):
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout: p must be in [0, 1], but {p!r} was received.")
        self.p, self.rng = p, generator(rng)

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        if not self.training or self.p == 0:
            return x
        factor = 1 / (1 - self.p) if self.p < 1 else 0
        mask = (self.rng.random(x.shape) >= self.p) * factor
        return x * mask.astype(x.dtype if x.dtype.kind == "f" else float)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """Merge several axes into one: by default, all but the first.

    Shapes: (N, C, H, W) -> (N, C·H·W); in general, the axes from ``start_axis`` to
    ``end_axis``, both included, become one.
    """

    def __init__(self, start_axis: int = 1, end_axis: int = -1):
        self.start_axis, self.end_axis = start_axis, end_axis

    def forward(self, x: Any) -> Tensor:
        return flatten(as_tensor(x), self.start_axis, self.end_axis)

    def extra_repr(self) -> str:
        axes = (self.start_axis, self.end_axis)
        return "" if axes == (1, -1) else f"start_axis={axes[0]}, end_axis={axes[1]}"


class Identity(Module):
    """Return x itself, in place of a layer that is left out."""

    def forward(self, x: Any) -> Any:
        return x


class ReLU(Module):
    """``max(x, 0)``, elementwise."""

    def forward(self, x: Any) -> Any:
        return ops.relu(x)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``, elementwise."""

    def forward(self, x: Any) -> Any:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, elementwise."""

    def forward(self, x: Any) -> Any:
        return ops.tanh(x)


class ModuleList(Module):
    """Modules in a list, named ``0``, ``1``, ..., without a ``forward``.

    Modules in a plain list attribute are members, too, but a list has no
    ``parameters()`` and no state of its own.

    Raises: ``TypeError`` for anything but modules.
    """

    def __init__(self, modules: Iterable[Module] = ()):
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> None:
        """Add a module at the end."""
        i = len(self)
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__}: every item must be a module, but item {i} is "
                f"{module!r}. Is it a class that was not called, a function, or a "
                "module of PyTorch (which tg.from_torch converts)?"
            )
        setattr(self, str(i), module)

    def __iter__(self) -> Iterator[Module]:
        return iter([v for v in vars(self).values() if isinstance(v, Module)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, i: Any) -> Any:
        return list(self)[i]


class Sequential(ModuleList):
    """A chain of modules, named ``0``, ``1``, ... and indexed like a list."""

    def __init__(self, *modules: Module):
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x


def _check_float(layer: str, dtype: Any) -> None:
    if np.dtype(dtype).kind != "f":
        raise ValueError(
            f"{layer}: dtype must be a float type, but {dtype!r} was received."
        )


def _check_size(layer: str, setting: str, value: int, least: int = 1) -> None:
    try:
        size = operator.index(value)
    except TypeError:
        size = -1
    if size < least:
        raise ValueError(
            f"{layer}: {setting} must be an integer of at least {least}, but {value!r} "
            "was received."
        )


__all__ = [
    "BatchNorm",
    "Dropout",
    "Flatten",
    "Identity",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleList",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "cross_entropy",
    "mse_loss",
]


def __dir__() -> list[str]:
    """What completion offers: no imports."""
    return __all__
