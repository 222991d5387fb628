"""What should you look at while a network trains, and what does batch norm change?

    python examples/diagnostics.py
    python examples/diagnostics.py --lr 1

Look at the sizes of activations and gradients, layer by layer: if they shrink or grow
from layer to layer, the layers learn at different speeds. Look at updates relative to
weights: at a ratio of 1/10 a layer forgets, at 1/100,000 it stands still. And look at
dead units, whose output is the same for every input: they get no gradient unless the
layers below them change.

In this experiment, ReLU layers start with weights of half the right size, at a learning
rate that is too high, lr 0.5. Without batch norm, signals fade and units die. (At
higher rates more of them die, and from about lr 0.6 on, the loss overflows for some
seeds.) With batch norm neither happens, because its output depends neither on the scale
of the weights nor on a bias. Its gradients still grow a little toward the input:
gradient_flow.py says why. A third network shows that batch norm is not the only remedy:
with weights of the right size, Kaiming He's, and lr 0.1, it needs no batch norm.

``support.layers.layers`` and ``update_ratios`` work for any module.

Not shown: which ratio is best. With batch norm, the size of a weight means nothing by
itself.

Source: Glorot & Bengio, AISTATS 2010, figures 6 and 7 for the histograms; Ioffe &
Szegedy, arXiv 1502.03167v3, section 3.3 for the scale.
"""

import numpy as np

from parts.diagnostics.plots import plot, report
from support.command_line import (
    add_image_options,
    experiment_options,
    images,
    number,
    parse,
    rate,
)
from support.layers import layers
from support.networks import batch_norm_and, batches, linears, perceptron
from support.plotting import save
from tinygrad_bn import nn, optim

DEPTH, WIDTH = 5, 100


def update_ratios(before: dict, model: nn.Module) -> dict[str, float]:
    """The change of each parameter since ``before``, relative to its size then.

    ``before`` is an earlier ``state_dict()`` of the model. Parameters that were zero
    have no ratio.
    """
    ratios = {}
    for name, parameter in model.named_parameters():
        if size := np.linalg.norm(before[name]):
            ratios[name] = float(np.linalg.norm(parameter.data - before[name]) / size)
    return ratios


def network(data, bn, gain, rng):
    """ReLU layers whose weights are ``gain`` times as large as Kaiming He's."""
    sizes = (data.train_x.shape[1], *[WIDTH] * DEPTH, data.num_classes)
    model = perceptron(sizes, batch_norm_and(nn.ReLU, bn), rng, bias=not bn)
    for linear in linears(model)[:-1]:
        linear.weight.data = gain * linear.weight.data
    return model


def watch(data, bn, gain, lr, seed, steps):
    """Train until the loss overflows, and observe every step.

    Return the ReLU layers of the first step, too, and whether the loss overflowed.
    """
    rng = np.random.default_rng(seed)
    model = network(data, bn, gain, rng)
    sgd = optim.SGD(model.parameters(), lr)
    first, seen = None, []
    for step, (x, labels) in enumerate(batches(data, 128, steps, rng, f"BN: {bn}")):
        loss = nn.cross_entropy(model(x), labels)
        if not np.isfinite(loss.item()):
            break
        sgd.zero_grad()
        loss.backward()
        # This must precede the step, which changes weights that the tape needs.
        relus = [layer for layer in layers(loss).values() if layer.kind == "ReLU"]
        first, before = first or relus, model.state_dict()
        sgd.step()
        ratios = [r for k, r in update_ratios(before, model).items() if "weight" in k]
        seen.append((step, loss.item(), [layer.dead for layer in relus], ratios))
    series = zip(("step", "loss", "dead", "ratios"), map(np.array, zip(*seen)))
    return {"layers": first, "overflow": len(seen) < steps, **dict(series)}


def measure(data, seed, steps, gain=0.5, lr=0.5):
    """The observations without and with batch norm, and without at a better start."""
    return {
        "without": watch(data, False, gain, lr, seed, steps),
        "batch norm": watch(data, True, gain, lr, seed, steps),
        "He, lr 0.1": watch(data, False, 1.0, 0.1, seed, steps),
    }


# At high rates some networks overflow, which is a result, not a reason for a warning.
@np.errstate(over="ignore", invalid="ignore")
def main(arguments=None):
    parser = experiment_options(__doc__, steps=200, quick_steps=60)
    add_image_options(parser)
    parser.add_argument(
        "--gain",
        type=number(0.001, 1000),
        default=0.5,
        help="scale of the weights (default 0.5)",
    )
    parser.add_argument("--lr", type=rate, help="of SGD (default 0.5; --quick: 0.6)")
    options = parse(parser, arguments)
    if options.lr is None:
        options.lr = 0.6 if options.quick else 0.5
    data = images(options)
    found = measure(data, options.seed, options.steps, options.gain, options.lr)
    save(lambda theme: plot(found, theme), options, "diagnostics")
    print(report(found))
    return found


if __name__ == "__main__":
    main()
