"""What should one look at while a network trains, and what is seen of batch norm there?

    python examples/diagnostics.py
    python examples/diagnostics.py --lr 1

At the sizes of activations and gradients, layer by layer: where they shrink or grow
from layer to layer, the layers learn at different speeds. At updates beside weights: at
a ratio of 1/10 a layer forgets, at 1/100,000 it stands still. And at dead units, which
give the same whatever comes in: they get no gradient unless the layers below them
change.

Here, ReLU layers start with weights of half the right size, at a learning rate that is
too high. Without batch norm signals fade and units die (with --lr 1 more of them, or
the loss overflows: the seed decides); with it neither happens, because what it gives
out depends neither on the scale of the weights nor on a bias. (Its gradients still grow
a little toward the input: gradient_flow.py says why.)

``layers`` and ``update_ratios`` work for any module. They need no hooks: the tape knows
which module made what.

Not shown: that batch norm is the only remedy (the right scale and learning rate are
two), and which ratio is best: with batch norm the size of a weight means nothing by
itself.

Source: Glorot & Bengio, AISTATS 2010, figures 6 and 7 for the histograms; Ioffe &
Szegedy, arXiv 1502.03167v3, section 3.3 for the scale.
"""

from typing import NamedTuple

import numpy as np
from lab import add_image_options, images, options, parse, rate, save
from networks import batches, linears, perceptron
from plots.diagnostics import plot, report

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim, tape

DEPTH, WIDTH = 5, 100


class Layer(NamedTuple):
    """What one call of a module gave out, and the gradient that came back to it."""

    kind: str
    values: np.ndarray
    gradient: np.ndarray

    @property
    def dead(self) -> float:
        """The fraction of units that give the same for every row of the batch."""
        return float((np.ptp(self.values, axis=0) == 0).mean())


def layers(loss: Tensor) -> dict[str, Layer]:
    """The modules behind ``loss`` by qualified name, in the order of their calls.

    A module that is called again is listed again, as in ``1 (call 2)``.
    """
    outputs = {}
    for tensor in reversed(tape(loss)):
        scope = tensor.scope
        while scope is not None and scope.owner is None:
            scope = scope.parent
        if scope is not None:
            # A call returns what its youngest operation made, and that comes last here.
            outputs[scope] = tensor
    gradients = tg.grad(loss, list(outputs.values()))
    found, calls = {}, {}
    for (scope, output), gradient in zip(outputs.items(), gradients):
        kind = type(scope.owner).__name__
        name = scope.name or kind
        calls[name] = calls.get(name, 0) + 1
        name += f" (call {calls[name]})" if calls[name] > 1 else ""
        found[name] = Layer(kind, output.data, gradient.data)
    return found


def update_ratios(before: dict, model: nn.Module) -> dict[str, float]:
    """How far each parameter moved since ``before``, beside its size at that time.

    ``before`` is the model's ``state_dict()`` then. What was zero has no ratio.
    """
    ratios = {}
    for name, parameter in model.named_parameters():
        if size := np.linalg.norm(before[name]):
            ratios[name] = float(np.linalg.norm(parameter.data - before[name]) / size)
    return ratios


def network(data, norm, gain, rng):
    """ReLU layers whose weights are ``gain`` times as large as Kaiming's."""

    def between(width):
        return [nn.BatchNorm(width), nn.ReLU()] if norm else [nn.ReLU()]

    sizes = (data.train_x.shape[1], *[WIDTH] * DEPTH, data.num_classes)
    model = perceptron(sizes, between, rng, bias=not norm)
    for linear in linears(model)[:-1]:
        linear.weight[:] = gain * linear.weight.data
    return model


def watch(data, norm, gain, lr, seed, steps):
    """Train, and look at every step; keep the ReLU layers of the first."""
    rng = np.random.default_rng(seed)
    model = network(data, norm, gain, rng)
    sgd = optim.SGD(model.parameters(), lr)
    first, seen = None, []
    for step, (x, labels) in enumerate(batches(data, 128, steps, rng, f"BN: {norm}")):
        loss = nn.cross_entropy(model(x), labels)
        sgd.zero_grad()
        loss.backward()
        # To be asked before the step, which changes weights that the tape needs.
        relus = [layer for layer in layers(loss).values() if layer.kind == "ReLU"]
        first, before = first or relus, model.state_dict()
        sgd.step()
        ratios = [r for k, r in update_ratios(before, model).items() if "weight" in k]
        seen.append((step, loss.item(), [layer.dead for layer in relus], ratios))
    series = zip(("step", "loss", "dead", "ratios"), map(np.array, zip(*seen)))
    return {"layers": first, **dict(series)}


def measure(data, seed, steps, gain=0.5, lr=0.6):
    """What one sees without and with batch norm."""
    return {
        "without": watch(data, False, gain, lr, seed, steps),
        "batch norm": watch(data, True, gain, lr, seed, steps),
    }


def main(arguments=None):
    parser = options(__doc__, steps=200, quick_steps=60)
    add_image_options(parser)
    parser.add_argument("--gain", type=float, default=0.5, help="of weights (0.5)")
    parser.add_argument("--lr", type=rate, help="of SGD (0.6; --quick: 1)")
    given = parse(parser, arguments)
    if given.lr is None:
        given.lr = 1.0 if given.quick else 0.6
    found = measure(images(given), given.seed, given.steps, given.gain, given.lr)
    save(lambda theme: plot(found, theme), given, "diagnostics")
    print(report(found))
    return found


if __name__ == "__main__":
    main()
