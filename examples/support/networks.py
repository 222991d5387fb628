"""Perceptrons: how the experiments build, train and test them."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from tqdm import tqdm

from support.data import DataSet
from tinygrad_bn import Tensor, nn, no_grad
from tinygrad_bn.optim import Optimizer

# An empty sequence of modules is the identity.
ACTIVATIONS = {
    "linear": nn.Sequential, "ReLU": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
}  # fmt: skip
HE = math.sqrt(2)  # sigma of Kaiming He's weights, with which nn.Linear starts


def perceptron(
    sizes: Sequence[int],
    between: Callable[[int], Iterable[nn.Module]],
    rng: np.random.Generator,
    *,
    weights: Callable | None = None,
    bias: bool = True,
    dtype=np.float32,
) -> nn.Sequential:
    """Linear layers of the given sizes, with ``between(width)`` after all but the last.

    ``weights(shape, rng, dtype)`` returns the initial weights; without it, they are
    those of ``nn.Linear``. ``bias`` says whether hidden layers have a bias; the last
    layer always has one.
    """
    *hidden, last = pairwise(sizes)
    modules = []
    for fan_in, fan_out in hidden:
        modules.append(nn.Linear(fan_in, fan_out, bias, rng=rng, dtype=dtype))
        modules += between(fan_out)
    modules.append(nn.Linear(*last, rng=rng, dtype=dtype))
    if weights is not None:
        for layer in linears(modules):
            layer.weight.data = weights(layer.weight.shape, rng, dtype)
    return nn.Sequential(*modules)


def batch_norm_and(
    activation: Callable[[], nn.Module], bn: bool = True, **settings
) -> Callable[[int], Iterator[nn.Module]]:
    """``between`` for ``perceptron``: batch norm if ``bn``, and then an activation."""

    def between(width):
        if bn:
            yield nn.BatchNorm(width, **settings)
        yield activation()

    return between


def linears(model: Iterable[nn.Module]) -> list[nn.Linear]:
    """The linear layers, from the input on."""
    return [module for module in model if isinstance(module, nn.Linear)]


def scaled(sigma: float, shape, rng, dtype) -> np.ndarray:
    """Weights from N(0, sigma^2 / fan_in)."""
    std = sigma / math.sqrt(shape[0])
    return (std * rng.standard_normal(shape)).astype(dtype)


def glorot(shape, rng, dtype) -> np.ndarray:
    """Weights from N(0, 2 / (fan_in + fan_out)).

    Source: Glorot & Bengio, AISTATS 2010, section 4.2.1, equation 12.
    """
    return (math.sqrt(2 / sum(shape)) * rng.standard_normal(shape)).astype(dtype)


def batches(
    data: DataSet,
    batch_size: int,
    steps: int,
    rng: np.random.Generator,
    title: str = "",
    dtype=None,
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Random minibatches of the training data, (x, labels), with a progress bar.

    Raises: ``ValueError`` if a batch would have more rows than the training data.
    """
    n = len(data.train_y)
    if batch_size > n:
        raise ValueError(
            f"batches: batch_size must be at most the {n} training rows, "
            f"but {batch_size} was received. Use smaller batches."
        )
    for _ in tqdm(range(steps), desc=title, leave=False, disable=None):
        rows = rng.choice(n, batch_size, replace=False)
        yield Tensor(data.train_x[rows], dtype=dtype), data.train_y[rows]


def training(
    model: nn.Module,
    optimizer: Optimizer,
    data: DataSet,
    batch_size: int,
    steps: int,
    rng: np.random.Generator,
    title: str = "",
) -> Iterator[Tensor]:
    """Train on random batches, and yield the loss of each before its step is taken."""
    dtype = model.parameters()[0].dtype
    for x, labels in batches(data, batch_size, steps, rng, title, dtype):
        loss = nn.cross_entropy(model(x), labels)
        yield loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train(*arguments, **options) -> list[float]:
    """Take all the steps of ``training``, and return the loss before each."""
    return [loss.item() for loss in training(*arguments, **options)]


@no_grad()
def predict(model: nn.Module, x: np.ndarray) -> np.ndarray:
    """The most likely class of each row, according to the model in evaluation mode."""
    mode = model.training
    classes = model.eval()(Tensor(x)).data.argmax(axis=1)
    model.train(mode)
    return classes


def accuracy(model: nn.Module, data: DataSet) -> float:
    """The fraction of correctly classified test data, in evaluation mode."""
    return float(np.mean(predict(model, data.test_x) == data.test_y))
