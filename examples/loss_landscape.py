"""How does batch norm help, if not by calming the distributions inside the network?

    python examples/loss_landscape.py
    python examples/loss_landscape.py --mnist-dir FOLDER

By a smoother way ahead. Along the gradient g, the loss of a network with batch norm
varies less and its gradient stays more like itself, so that a step that looks good from
where one stands is good when one arrives. For eta of lr/2, lr, 2 lr and 4 lr:

    range           max loss(th - eta g) - min loss(th - eta g)
    predictiveness  max |grad(th - eta g) - g|
    smoothness      max |grad(th - eta g) - g| / |eta g|

Smaller is better. The first two favor a shorter g; the last one does not, and there the
advantage is small. At first all three favor the deep network without batch norm, which
hardly has a gradient then: a plateau is smooth.

The "internal covariate shift" account fails. Shifting and scaling at random behind each
batch norm, anew at every step, makes the inputs of the sigmoids move more than they do
without batch norm, and the network learns as fast as with clean batch norm.

Not shown: why the way is smoother, or that this is what makes training faster. Only
sigmoid networks show what noise does not do: ReLU and tanh networks of this size learn
without batch norm, too. And beside its own tiny spread, the input of the last sigmoid
layer moves most without batch norm: the table gives both units.

Source: Santurkar et al., How Does Batch Normalization Help Optimization?,
arXiv 1805.11604, sections 2.1, 2.2 and 3.1, appendix A.2.1.
"""

import numpy as np
from lab import add_image_options, images, options, parse, save, seeds
from networks import batches
from noisy_batch_norm import KINDS, network, with_noise
from plots.loss_landscape import plot, report

from tinygrad_bn import nn, optim

LENGTHS = np.array([1 / 2, 1, 2, 4])
EVERY, NOISY_STEPS = 10, 100
LEARNING_RATES = {8: 0.1, 3: 0.5}  # by depth


def gradient(model, sgd, x, y):
    """The loss of a batch, and a copy of its gradient: all parameters in one vector."""
    loss = nn.cross_entropy(model(x), y)
    sgd.zero_grad()
    loss.backward()
    return loss.item(), sgd.grad.copy()


def look_ahead(model, sgd, x, y):
    """Try several step lengths along the gradient, and return to where one was.

    Each try is a forward pass in training mode, which moves the running statistics too;
    they are part of the state that is put back.
    """
    here, lr = model.state_dict(), sgd.lr
    _, g = gradient(model, sgd, x, y)
    losses, changes = [], []
    for length in LENGTHS:
        sgd.grad[...], sgd.lr = g, lr * length
        sgd.step()
        loss, g_ahead = gradient(model, sgd, x, y)
        losses.append(loss)
        changes.append(np.linalg.norm(g_ahead - g))
        model.load_state_dict(here)
    sgd.lr = lr
    way = lr * LENGTHS * np.linalg.norm(g)
    return min(losses), max(losses), max(changes), max(changes / way)


def landscape(data, depth, kind, seed, steps):
    """Train a ReLU network, and what it saw ahead: each measure at every tenth step."""
    model = network(data, depth, nn.ReLU, kind, seed)
    sgd = optim.SGD(model.parameters(), LEARNING_RATES[depth])
    rng, what, seen = np.random.default_rng(seed), f"{kind}, {depth} layers", []
    for step, (x, y) in enumerate(batches(data, 128, steps, rng, what)):
        if step % EVERY == 0:
            seen.append((step, *look_ahead(model, sgd, x, y)))
        gradient(model, sgd, x, y)
        sgd.step()
    step, low, high, change, smoothness = np.array(seen).T
    return {
        "step": step, "low": low, "high": high,
        "range": high - low, "predictiveness": change, "smoothness": smoothness,
    }  # fmt: skip


def measure(data, seed, steps):
    """All measurements for one seed; ratios are of averages, without over with."""
    seen = {
        (depth, kind): landscape(data, depth, kind, seed, steps)
        for depth in LEARNING_RATES
        for kind in ("without", "batch norm")
    }
    ratios = {
        f"{name}, {depth} layers": float(
            seen[depth, "without"][name].mean() / seen[depth, "batch norm"][name].mean()
        )
        for depth in LEARNING_RATES
        for name in ("range", "predictiveness", "smoothness")
    }
    steps = min(steps, NOISY_STEPS)
    noise = {kind: with_noise(data, kind, seed, steps) for kind in KINDS}
    return {"seen": seen, "ratios": ratios, "noise": noise}


def main(arguments=None):
    parser = options(__doc__, steps=300, quick_steps=100)
    add_image_options(parser)
    given = parse(parser, arguments)
    data = images(given)
    runs = [measure(data, s, given.steps) for s in seeds(given.seed, given.quick)]
    save(lambda theme: plot(runs, theme), given, "loss_landscape")
    print(report(runs))
    return runs


if __name__ == "__main__":
    main()
