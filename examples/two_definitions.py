"""What is the difference between batch norm as a graph and batch norm by hand?

    python examples/two_definitions.py
    python examples/two_definitions.py --shape 60,100 --dtype float32

Not the numbers: up to rounding, the graph of primitives and the fused operation compute
equal values and gradients. You can look into the graph, and it derives its own
gradient. The fused operation is a single box, runs faster, and saves less for the
backward pass; for a gradient that can be differentiated again, it runs its definition.
The gradient of batch norm needs no other primitives than batch norm itself: add, sub,
mul, power, sum_to and broadcast_to.

With --shape, the script lists the arrays that each definition leaves in memory for a
batch of this shape, and which of them the backward pass reads again. The graph holds
every intermediate result, because each tensor refers to its inputs, but it reads only
some of them again. The fused operation saves x - E[x] and four numbers per channel.

Second derivatives are right in both cases, also where gamma is 0. The classic mistake
is to recover x_hat from the output, as (y - beta) / gamma, which is 0 / 0 there. The
script shows it failing.

Not shown: which one is faster (see benchmarks/), and how other frameworks store x_hat.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithm 1. The backward pass of the fused
operation is derived at the top of tinygrad_bn/batchnorm.py.
"""

import argparse
import math

import numpy as np

import tinygrad_bn as tg
from parts.two_definitions import memory, second_order
from support import drawings as example
from support.command_line import drawing_options, parse, whole_number
from support.measures import largest
from tinygrad_bn import Drawing, Tensor, tape

OPEN = ("batch_norm", "mean")  # composites that are drawn as the primitives inside
MOST_VALUES = 10**7  # in a batch; --shape then takes up to 2 GB


def defined(batch_norm) -> tuple[Tensor, Tensor, Tensor]:
    """The input, the output and the loss of one of the two definitions."""
    x = Tensor(example.U + example.B, requires_grad=True, name="x")
    y = batch_norm(x, *example.gamma_and_beta()).named("y")
    return x, y, example.loss(y)


def of_shape(batch_norm, shape: tuple[int, int], dtype: str) -> Tensor:
    """The output of one of the two definitions for a random batch of this shape."""
    x = np.random.default_rng(0).standard_normal(shape)
    arrays = {"x": x, "gamma": np.ones(shape[1]), "beta": np.zeros(shape[1])}
    tensors = (
        Tensor(array, requires_grad=True, name=name, dtype=dtype)
        for name, array in arrays.items()
    )
    return batch_norm(*tensors).named("y")


def footprint(y: Tensor) -> tuple[int, int]:
    """The number of operations on the tape, and the bytes that they hold in memory."""
    return len(tape(y)), sum(array.size for array in memory.held(y))


def batch_shape(text: str) -> tuple[int, int]:
    """The ``type`` of --shape: rows and features, such as 60,100."""
    rows, comma, features = text.partition(",")
    if not comma:
        demand = "must be rows and features, such as 60,100"
        raise argparse.ArgumentTypeError(f"{demand}, but {text!r} was received")
    shape = whole_number(2)(rows), whole_number(1)(features)
    if math.prod(shape) > MOST_VALUES:
        demand = f"must be a batch of at most {MOST_VALUES:,} values"
        raise argparse.ArgumentTypeError(f"{demand}, but {text!r} was received")
    return shape


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """Both definitions side by side, and the graph of the gradient."""
    _, composed, _ = defined(tg.batch_norm)
    _, fused, _ = defined(tg.fused_batch_norm)
    x, y, _ = defined(tg.batch_norm)
    d_y = Tensor(example.C, name="∂L/∂y")
    count, size = footprint(composed)
    _, size_fused = footprint(fused)
    style = {"direction": "TB", "tiles": False, "theme": theme}
    graph = tg.draw(
        composed,
        open=OPEN,
        title=f"A graph of primitives\n{count} operations, {size} bytes in memory",
        **style,
    )
    by_hand = tg.draw(
        fused,
        title=f"A fused operation\n1 operation, {size_fused} bytes in memory",
        **style,
    )
    opened = tg.draw(
        fused,
        open=OPEN,
        title="The fused operation, opened\nthe same primitives",
        **style,
    )
    gradient = tg.draw(
        tg.grad(y, x, gradient=d_y, create_graph=True).named("∂L/∂x"),
        open=OPEN,
        max_nodes=60,
        title="The gradient of batch norm is a graph, too\n"
        "The frame contains the forward pass. The rest computes the gradient, with the "
        "same primitives.",
        **style,
    )
    title = "Batch norm, defined twice"
    return {
        "two_definitions": tg.side_by_side(graph, opened, by_hand, title=title),
        "gradient_graph": gradient,
    }


def main(arguments=None) -> None:
    parser = drawing_options(__doc__)
    add = parser.add_argument
    add("--shape", type=batch_shape, help="list the arrays in memory, then stop")
    dtypes = {"choices": ("float32", "float64"), "default": "float32"}
    add("--dtype", **dtypes, help="of these arrays (default %(default)s)")
    options = parse(parser, arguments)
    definitions = {"graph": tg.batch_norm, "fused": tg.fused_batch_norm}
    if options.shape:
        for name, batch_norm in definitions.items():
            output = of_shape(batch_norm, options.shape, options.dtype)
            print(memory.report(name, output), end="\n\n")
        return
    x, y, loss = defined(tg.batch_norm)
    x_fused, y_fused, loss_fused = defined(tg.fused_batch_norm)
    d_x, d_x_fused = tg.grad(loss, x).data, tg.grad(loss_fused, x_fused).data
    print(f"{'':12}operations  bytes in memory for backward")
    for name, output in (("graph", y), ("fused", y_fused)):
        count, size = footprint(output)
        print(f"{name:12}{count:10}  {size:10}")
    values, gradients = largest(y.data - y_fused.data), largest(d_x - d_x_fused)
    print(f"largest difference of values {values:.1e}, of gradients {gradients:.1e}")
    print("", second_order.report(), "", sep="\n")
    example.save(drawings, options)


if __name__ == "__main__":
    main()
