"""How time grows with the size of a network, of its inputs, and of its drawing.

The time of a computation of size n is modeled as a constant times n^p. The exponent p
is the slope of a straight line through the logarithms of time and size: 1 is linear, 2
is quadratic. Times are processor times, which other programs disturb less, and use one
BLAS thread, because BLAS adds a second one only for large matrices.

The C library keeps freed memory here, as it does in training (``optimizer.py``).
Otherwise every operation on arrays of 2 MB asks the system for new memory, a batch of
8,192 rows takes twice as long per row as one of 4,096, and the exponent for batches is
not 1.0 but 1.3.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import thread_time

import numpy as np

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim
from tinygrad_bn.optimizer import keep_freed_memory

from .measure import ONE_THREAD

REPEATS = 5
Run = Callable[[], object]


@dataclass(frozen=True)
class Growth:
    """A computation whose size can be chosen.

    ``prepare(n)`` returns the computation to measure. ``at_most`` is the largest
    exponent allowed: that of the number of operations, plus a quarter for caches and
    garbage collection.
    """

    what: str
    prepare: Callable[[int], Run]
    sizes: tuple[int, ...]
    at_most: float = 1.25


def chain(n: int) -> Run:
    x = Tensor([1.0], requires_grad=True)
    y = x
    for _ in range(n):
        y = y + 1.0
    return y.backward


def perceptron(depth: int, width: int = 16, batch_size: int = 32) -> Run:
    """A forward pass: the loss of a perceptron of linear layers, batch norm, ReLU."""
    rng = np.random.default_rng(0)
    layers = [
        layer
        for _ in range(depth)
        for layer in (
            nn.Linear(width, width, rng=rng), nn.BatchNorm(width), nn.ReLU()
        )
    ]  # fmt: skip
    model = nn.Sequential(*layers)
    x = Tensor(rng.standard_normal((batch_size, width), np.float32))
    return lambda: (model(x) ** 2).mean()


def forward_and_backward(**sizes: int) -> Run:
    loss = perceptron(**sizes)
    return lambda: loss().backward()


def stack(n: int) -> Run:
    tensors = [Tensor(np.ones(3), requires_grad=True) for _ in range(n)]
    return lambda: tg.stack(tensors).sum().backward()


def step(n: int) -> Run:
    optimizer = optim.Adam([Tensor(np.ones(3), requires_grad=True) for _ in range(n)])
    return optimizer.step


def picture(depth: int) -> Run:
    loss = perceptron(depth)()
    return lambda: tg.draw(loss).source


def picture_of_routes(depth: int) -> Run:
    loss = perceptron(depth)()
    bias = first_bias(loss)
    return lambda: tg.draw(loss, bias).source


def explanation(depth: int) -> Run:
    loss = perceptron(depth)()
    bias = first_bias(loss)
    return lambda: str(tg.explain(loss, bias))


def first_bias(loss: Tensor) -> Tensor:
    """The bias of the first layer: the last input of the oldest operation."""
    return tg.tape(loss)[-1].inputs[-1]


GROWTHS = {
    "chain": Growth(
        "backward pass through n additions", chain, (2000, 4000, 8000, 16000, 32000)
    ),
    "depth": Growth(
        "forward and backward pass of n layers",
        lambda n: forward_and_backward(depth=n),
        (16, 32, 64, 128, 256),
    ),
    "width": Growth(
        "forward and backward pass, layers of n features",
        lambda n: forward_and_backward(depth=3, width=n, batch_size=64),
        (256, 512, 1024, 2048),
        at_most=2.5,
    ),
    "batch": Growth(
        "forward and backward pass, batches of n",
        lambda n: forward_and_backward(depth=3, width=64, batch_size=n),
        (1024, 2048, 4096, 8192),
    ),
    "inputs": Growth(
        "stack of n tensors, with backward pass", stack, (1000, 2000, 4000, 8000, 16000)
    ),
    "parameters": Growth(
        "optimizer step for n parameters", step, (4000, 8000, 16000, 32000)
    ),
    "explain": Growth(
        "explanation of a gradient n layers deep", explanation, (8, 16, 32, 64)
    ),
    "draw": Growth("drawing of n layers", picture, (8, 16, 32, 64)),
    "routes": Growth(
        "drawing of the routes to a bias n layers deep",
        picture_of_routes,
        (8, 16, 32, 64),
    ),
}  # fmt: skip


def main(repeats: int) -> None:
    """Report on every kind of growth, from a process with one BLAS thread."""
    call = f"report_all({repeats})"
    program = [sys.executable, "-c", f"from benchmarks.growth import *; {call}"]
    subprocess.run(program, env=os.environ | ONE_THREAD, check=True)


def report_all(repeats: int) -> None:
    keep_freed_memory()
    for growth in GROWTHS.values():
        print(f"\n{report(growth, measure(growth, repeats))}", flush=True)


def measure(growth: Growth, repeats: int = REPEATS) -> list[float]:
    """Seconds for each size: the shortest of several times."""
    return [
        min(seconds(growth.prepare(size)) for _ in range(repeats))
        for size in growth.sizes
    ]


def seconds(run: Run) -> float:
    start = thread_time()
    run()
    return thread_time() - start


def exponent(sizes: Iterable[float], times: Iterable[float]) -> float:
    """The p for which n^p fits the times best."""
    slope, _ = np.polyfit(np.log([*sizes]), np.log([*times]), 1)
    return float(slope)


def report(growth: Growth, times: list[float]) -> str:
    """The time of each size, the exponent, and whether it is within its bound."""
    p = exponent(growth.sizes, times)
    outcome = "within" if p <= growth.at_most else "ABOVE"
    pairs = zip(growth.sizes, times, strict=True)
    measured = ", ".join(f"{n}: {time * 1e3:.1f} ms" for n, time in pairs)
    return (
        f"{growth.what}\n  {measured}\n  grows like n^{p:.2f}: "
        f"{outcome} n^{growth.at_most}"
    )
