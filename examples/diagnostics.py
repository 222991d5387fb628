"""What should one look at while a network trains, and what is seen of batch norm there?

    python examples/diagnostics.py
    python examples/diagnostics.py --gain 2 --lr 0.1

At the sizes of activations and gradients, layer by layer: where they shrink or grow
from layer to layer, the layers learn at different speeds. At updates beside weights: at
a ratio of 1/10 a layer forgets, at 1/100,000 it stands still. And at dead units, which
give the same whatever comes in: they get no gradient unless the layers below them
change.

Here, ReLU layers start with weights of half the right size, at a learning rate that is
too high. Without batch norm signals fade and units die; with it neither happens,
because what it gives out depends neither on the scale of the weights nor on a bias.
(Its gradients still grow a little toward the input: gradient_flow.py says why.)

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
from lab import add_image_options, figure, images, options, parse, save, table
from tqdm import tqdm

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim
from tinygrad_bn.tensor import tape

DEPTH, WIDTH, EVERY = 5, 100, 5

# --- The diagnostics, for any module --------------------------------------------------


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
    for tensor in reversed(tape(loss)[0]):
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


# --- The experiment -------------------------------------------------------------------


def network(data, norm, gain, seed):
    """ReLU layers whose weights are ``gain`` times as large as Kaiming's."""
    rng = np.random.default_rng(seed)
    modules, width = [], data.train_x.shape[1]
    for _ in range(DEPTH):
        modules.append(nn.Linear(width, WIDTH, bias=not norm, rng=rng))
        modules[-1].weight.data = modules[-1].weight.data * np.float32(gain)
        modules += [nn.BatchNorm(WIDTH), nn.ReLU()] if norm else [nn.ReLU()]
        width = WIDTH
    return nn.Sequential(*modules, nn.Linear(width, data.num_classes, rng=rng))


def watch(data, norm, gain, lr, seed, steps):
    """Train, and look at every fifth step; keep the ReLU layers of the first."""
    model = network(data, norm, gain, seed)
    sgd = optim.SGD(model.parameters(), lr)
    rng = np.random.default_rng(seed)
    seen = {"step": [], "loss": [], "dead": [], "ratios": []}
    for step in tqdm(range(steps), desc=f"norm: {norm}", leave=False, disable=None):
        rows = rng.choice(len(data.train_y), 128, replace=False)
        loss = nn.cross_entropy(model(Tensor(data.train_x[rows])), data.train_y[rows])
        sgd.zero_grad()
        loss.backward()
        if looking := step % EVERY == 0:
            now = [v for v in layers(loss).values() if v.kind == "ReLU"]
            seen.setdefault("layers", now)
            before = model.state_dict()
        sgd.step()
        if looking:
            ratios = update_ratios(before, model)
            seen["ratios"].append([r for n, r in ratios.items() if "weight" in n])
            seen["step"].append(step)
            seen["loss"].append(loss.item())
            seen["dead"].append([layer.dead for layer in now])
    return {k: v if k == "layers" else np.array(v) for k, v in seen.items()}


def measure(data, seed, steps, gain=0.5, lr=1.0):
    """What one sees without and with batch norm."""
    return {
        name: watch(data, norm, gain, lr, seed, steps)
        for name, norm in (("without", False), ("batch norm", True))
    }


def growth(seen, field):
    """The standard deviation of the last layer beside that of the first one."""
    arrays = [getattr(layer, field) for layer in seen["layers"]]
    return float(arrays[-1].std() / arrays[0].std())


def plot(found, theme):
    """Without batch norm on the left, with it on the right."""
    fig, axes = figure(theme, 4, 2, size=(4.2, 2.4), sharex="row", sharey="row")
    for (name, seen), (values, gradients, updates, dead) in zip(found.items(), axes.T):
        for i, layer in enumerate(seen["layers"]):
            draw_sizes(values, layer.values, f"layer {i + 1}")
            draw_sizes(gradients, layer.gradient, f"layer {i + 1}")
        updates.plot(seen["step"], seen["ratios"][:, :DEPTH])
        dead.plot(seen["step"], 100 * seen["dead"])
        up, down = growth(seen, "values"), 1 / growth(seen, "gradient")
        values.set(title=f"{name}: layer 5 / layer 1 = {up:.2g}")
        values.set(xlabel="log10 |activation| where not 0, first step")
        gradients.set(title=f"{name}: layer 1 / layer 5 = {down:.2g}")
        gradients.set(xlabel="log10 |gradient| where not 0, first step")
        updates.set(
            title=f"{name}: updates beside weights", xlabel="step", yscale="log"
        )
        dead.set(title=f"{name}: {seen['dead'][-1].mean():.0%} dead", xlabel="step")
    labels = ("density", "density", "|update| / |weight|", "dead units (%)")
    for panel, label in zip(axes[:, 0], labels):
        panel.set_ylabel(label)
    axes[0, 1].legend()
    return fig


def draw_sizes(panel, array, label):
    """The histogram of the orders of magnitude in an array."""
    density, edges = np.histogram(np.log10(np.abs(array[array != 0])), 40, density=True)
    panel.plot((edges[1:] + edges[:-1]) / 2, density, label=label)


def report(found):
    """What the pictures show, as numbers."""
    rows = [
        (
            name, growth(seen, "values"), 1 / growth(seen, "gradient"),
            float(np.median(seen["ratios"])), f"{seen['dead'][-1].mean():.1%}",
            float(seen["loss"][-1]),
        )
        for name, seen in found.items()
    ]  # fmt: skip
    return table(
        "Activations of layer 5 / 1 and gradients of layer 1 / 5 at first, and at last",
        ("", "activations", "gradients", "updates", "dead", "loss"),
        rows,
    )


def main(arguments=None):
    parser = options(__doc__, steps=200, quick_steps=60)
    add_image_options(parser)
    parser.add_argument("--gain", type=float, default=0.5, help="of weights (0.5)")
    parser.add_argument("--lr", type=float, default=1.0, help="learning rate (1)")
    given = parse(parser, arguments)
    found = measure(images(given), given.seed, given.steps, given.gain, given.lr)
    save(lambda theme: plot(found, theme), given, "diagnostics")
    print(report(found))
    return found


if __name__ == "__main__":
    main()
