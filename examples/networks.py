"""The perceptrons of the experiments: their batches, their training, their accuracy."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from data import DataSet
from tqdm import tqdm

from tinygrad_bn import Tensor, init, nn, no_grad
from tinygrad_bn.optim import Optimizer

HE = math.sqrt(2)  # sigma of the weights that Kaiming He begins with, init.kaiming_normal


def perceptron(
    sizes: Sequence[int],
    between: Callable[[int], Sequence[nn.Module]],
    rng: np.random.Generator,
    *,
    weights: Callable = init.kaiming_normal,
    bias: bool = True,
    dtype=np.float32,
) -> nn.Sequential:
    """Linear layers from size to size, and ``between(width)`` after each but the last.

    ``weights(shape, rng, dtype)`` are the first weights. Without ``bias``, the last
    layer alone has one: all others stand in front of what is between.
    """
    *hidden, last = pairwise(sizes)
    modules = []
    for fan_in, fan_out in hidden:
        modules.append(nn.Linear(fan_in, fan_out, bias, rng=rng, dtype=dtype))
        modules += between(fan_out)
    modules.append(nn.Linear(*last, rng=rng, dtype=dtype))
    if weights is not init.kaiming_normal:
        for layer in linears(modules):
            layer.weight[:] = weights(layer.weight.shape, rng, dtype)
    return nn.Sequential(*modules)


def linears(model) -> list[nn.Linear]:
    """The linear layers, from the input on."""
    return [module for module in model if isinstance(module, nn.Linear)]


def scaled(sigma: float, shape, rng, dtype) -> np.ndarray:
    """Weights N(0, sigma^2 / fan_in)."""
    std = sigma / math.sqrt(shape[0])
    return (std * rng.standard_normal(shape)).astype(dtype)


def batches(
    data: DataSet,
    batch_size: int,
    steps: int,
    rng: np.random.Generator,
    what: str = "",
    dtype=None,
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Random minibatches of the training data, (x, labels), with a progress bar.

    Raises: ``ValueError`` if a batch has more rows than there are.
    """
    n = len(data.train_y)
    if batch_size > n:
        raise ValueError(
            f"batches: batch_size must be at most the {n} training rows, "
            f"but {batch_size} was received. Use smaller batches."
        )
    for _ in tqdm(range(steps), desc=what, leave=False, disable=None):
        rows = rng.choice(n, batch_size, replace=False)
        yield Tensor(data.train_x[rows], dtype=dtype), data.train_y[rows]


def training(
    model: nn.Module,
    optimizer: Optimizer,
    data: DataSet,
    batch_size: int,
    steps: int,
    rng: np.random.Generator,
    what: str = "",
) -> Iterator[Tensor]:
    """Take steps on random batches; hand over the loss of each before it is taken."""
    dtype = model.parameters()[0].dtype
    for x, labels in batches(data, batch_size, steps, rng, what, dtype):
        loss = nn.cross_entropy(model(x), labels)
        yield loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train(*arguments, **options) -> list[float]:
    """Take all the steps of ``training``, and return the loss before each."""
    return [loss.item() for loss in training(*arguments, **options)]


@no_grad()
def accuracy(model: nn.Module, data: DataSet) -> float:
    """The fraction of the test data that the model tells right, in evaluation mode."""
    mode = model.training
    classes = model.eval()(Tensor(data.test_x)).data.argmax(axis=1)
    model.train(mode)
    return float(np.mean(classes == data.test_y))
