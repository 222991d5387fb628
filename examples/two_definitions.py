"""What is the difference between batch norm as a graph and batch norm by hand?

None in the numbers: the graph of primitives and the fused operation give the same
values and gradients. The graph can be looked into, and derives its own gradient; the
fused operation is one box, runs faster, and keeps less for the backward pass. Asked for
a gradient that can be differentiated again, it runs its definition. And the gradient of
batch norm is spelled with the same six letters as batch norm itself: add, sub, mul,
power, sum_to, broadcast_to.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithm 1; the derivation of the fused
backward pass is at the top of tinygrad_bn/batchnorm.py.
"""

import easel
import numpy as np

import tinygrad_bn as tg
from tinygrad_bn import Drawing, Tensor, tape

LETTERS = ("batch_norm", "mean")


def defined(batch_norm) -> tuple[Tensor, Tensor, Tensor]:
    """The input, the output and the loss of one of the two."""
    x = Tensor(easel.U + easel.B, requires_grad=True, name="x")
    y = batch_norm(x, *easel.gamma_and_beta()).named("y")
    return x, y, easel.loss(y)


def kept(y: Tensor) -> tuple[int, int]:
    """How many operations the tape behind ``y`` holds, and how many bytes of
    results."""
    operations = tape(y)
    results = [t.data for t in operations if t.data.base is None]
    saved = [a for t in operations for a in t.saved or () if isinstance(a, np.ndarray)]
    return len(operations), sum(array.nbytes for array in [*results, *saved])


def drawings(theme: str = "light") -> dict[str, Drawing]:
    """Both definitions side by side, and the graph of the gradient."""
    _, composed, _ = defined(tg.batch_norm)
    _, fused, _ = defined(tg.fused_batch_norm)
    x, _, loss = defined(tg.batch_norm)
    count, size = kept(composed)
    count_fused, size_fused = kept(fused)
    style = {"direction": "TB", "tiles": False, "theme": theme}
    graph = tg.draw(
        composed,
        open=LETTERS,
        title=f"A graph of primitives\n{count} operations, {size} bytes kept",
        **style,
    )
    by_hand = tg.draw(
        fused,
        title=f"One fused operation\n{count_fused} operation, {size_fused} bytes kept",
        **style,
    )
    opened = tg.draw(
        fused, open=LETTERS, title="The fused one, opened\nthe same operations", **style
    )
    gradient = tg.draw(
        tg.grad(loss, x, create_graph=True).named("∂L/∂x"),
        open=LETTERS,
        max_nodes=60,
        title="The gradient of batch norm, drawn as the graph that it is\n"
        "In the frame, what it takes from the forward pass; the rest is the gradient, "
        "in the same letters.",
        **style,
    )
    title = "Batch norm, defined twice"
    return {
        "two_definitions": tg.side_by_side(graph, by_hand, opened, title=title),
        "gradient_graph": gradient,
    }


def main(arguments=None) -> None:
    given = easel.options(__doc__, arguments)
    (x, y, loss), (x_fused, y_fused, loss_fused) = map(
        defined, (tg.batch_norm, tg.fused_batch_norm)
    )
    d_x, d_x_fused = tg.grad(loss, x).data, tg.grad(loss_fused, x_fused).data
    print(f"{'':12}operations  bytes kept for backward")
    for name, output in (("graph", y), ("fused", y_fused)):
        count, size = kept(output)
        print(f"{name:12}{count:10}  {size:10}")
    apart = np.abs(y.data - y_fused.data).max(), np.abs(d_x - d_x_fused).max()
    print("largest difference of values {:.1e}, of gradients {:.1e}".format(*apart))
    easel.save(drawings(given.theme), given)


if __name__ == "__main__":
    main()
