"""What is the difference between batch norm as a graph and batch norm by hand?

    python examples/two_definitions.py

Not the numbers: up to rounding, the graph of primitives and the fused operation compute
equal values and gradients. The graph can be looked into, and it derives its own
gradient. The fused operation is a single box, runs faster, and saves less for the
backward pass; for a gradient that can be differentiated again, it runs its definition.
The gradient of batch norm needs no other primitives than batch norm itself: add, sub,
mul, power, sum_to and broadcast_to.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithm 1. The backward pass of the fused
operation is derived at the top of tinygrad_bn/batchnorm.py.
"""

import numpy as np

import tinygrad_bn as tg
from support import drawings as example
from support.command_line import drawing_options, parse
from support.measures import largest
from tinygrad_bn import Drawing, Tensor, tape

OPEN = ("batch_norm", "mean")  # composites that are drawn as the primitives inside


def defined(batch_norm) -> tuple[Tensor, Tensor, Tensor]:
    """The input, the output and the loss of one of the two definitions."""
    x = Tensor(example.U + example.B, requires_grad=True, name="x")
    y = batch_norm(x, *example.gamma_and_beta()).named("y")
    return x, y, example.loss(y)


def footprint(y: Tensor) -> tuple[int, int]:
    """The number of operations behind ``y``, and the bytes that they keep in memory."""
    operations = tape(y)
    results = [t.data for t in operations if t.data.base is None]
    saved = [a for t in operations for a in t.saved or () if isinstance(a, np.ndarray)]
    return len(operations), sum(array.nbytes for array in [*results, *saved])


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """Both definitions side by side, and the graph of the gradient."""
    _, composed, _ = defined(tg.batch_norm)
    _, fused, _ = defined(tg.fused_batch_norm)
    x, _, loss = defined(tg.batch_norm)
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
        tg.grad(loss, x, create_graph=True).named("∂L/∂x"),
        open=OPEN,
        max_nodes=60,
        title="The gradient of batch norm is a graph, too\n"
        "The frame contains the forward pass. The rest computes the gradient, with the "
        "same primitives.",
        **style,
    )
    title = "Batch norm, defined twice"
    return {
        "two_definitions": tg.side_by_side(graph, by_hand, opened, title=title),
        "gradient_graph": gradient,
    }


def main(arguments=None) -> None:
    given = parse(drawing_options(__doc__), arguments)
    x, y, loss = defined(tg.batch_norm)
    x_fused, y_fused, loss_fused = defined(tg.fused_batch_norm)
    d_x, d_x_fused = tg.grad(loss, x).data, tg.grad(loss_fused, x_fused).data
    print(f"{'':12}operations  bytes in memory for backward")
    for name, output in (("graph", y), ("fused", y_fused)):
        count, size = footprint(output)
        print(f"{name:12}{count:10}  {size:10}")
    values, gradients = largest(y.data - y_fused.data), largest(d_x - d_x_fused)
    print(f"largest difference of values {values:.1e}, of gradients {gradients:.1e}")
    example.save(drawings, given)


if __name__ == "__main__":
    main()
