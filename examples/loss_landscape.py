"""How does batch norm help, if not by stabilizing the distributions inside the network?

    python examples/loss_landscape.py
    python examples/loss_landscape.py --mnist-dir FOLDER

By making the loss smoother ahead of a step. Along the gradient g, the loss of a network
with batch norm varies less and its gradient changes less, so that a step that looks
good before it is taken still looks good after it. With theta for the parameters, and
for the step lengths eta = lr/2, lr, 2 lr and 4 lr, the script measures

    loss variation           max loss(theta - eta g) - min loss(theta - eta g)
    gradient predictiveness  max |grad(theta - eta g) - g|
    effective smoothness     max |grad(theta - eta g) - g| / |eta g|

Smaller is better. The first two favor a shorter g. The third does not, and in it the
advantage of batch norm is small. In the first steps, all three favor the deep network
without batch norm, whose gradient is then close to zero: a plateau is smooth.

The paper on batch norm explained its success by "internal covariate shift", the change
in the distribution of a layer's inputs during training. This account fails. Random
shifts and scales after each batch norm, drawn again in every step, make the inputs of
the sigmoids move more than they do without batch norm, and yet the network learns as
fast as with plain batch norm.

Not shown: why the loss is smoother, or that this is what makes training faster. Only
sigmoid networks show that noise does no harm: ReLU and tanh networks of this size also
learn without batch norm. And relative to its own small spread, the input of the last
sigmoid layer moves most without batch norm: the table gives both units.

Source: Santurkar et al., How Does Batch Normalization Help Optimization?,
arXiv 1805.11604, section 3.2 for the measures, section 2.1 and appendix A.2.1 for the
noise.
"""

from functools import partial

import numpy as np

from parts.loss_landscape.noisy_batch_norm import KINDS, network, with_noise
from parts.loss_landscape.plots import plot, report
from support.command_line import (
    add_image_options,
    experiment_options,
    images,
    parse,
    seeds,
)
from support.networks import batches
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import nn, optim

LENGTHS = np.array([1 / 2, 1, 2, 4])
EVERY, NOISY_STEPS = 10, 100
# By depth. At 0.5, 3 layers without batch norm overflow for some seeds (2 of 12 tried).
LEARNING_RATES = {8: 0.1, 3: 0.2}
MEASURES = ("loss variation", "gradient predictiveness", "effective smoothness")


def gradient(model, sgd, x, y):
    """The loss of a batch, and a copy of its gradient as a single vector."""
    loss = nn.cross_entropy(model(x), y)
    sgd.zero_grad()
    loss.backward()
    return loss.item(), sgd.grad.copy()


def look_ahead(model, sgd, x, y):
    """Try several step lengths along the gradient, and restore the model each time.

    Returns the smallest and the largest loss, the gradient predictiveness, and the
    effective smoothness. A forward pass in training mode changes the running statistics
    as well; they are part of the state that is restored.
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
    distances = lr * LENGTHS * np.linalg.norm(g)
    return min(losses), max(losses), max(changes), max(changes / distances)


def landscape(data, depth, kind, seed, steps):
    """Train a ReLU network, and look ahead at every tenth step."""
    model = network(data, depth, nn.ReLU, kind, seed)
    sgd = optim.SGD(model.parameters(), LEARNING_RATES[depth])
    rng, title, seen = np.random.default_rng(seed), f"{kind}, {depth} layers", []
    for step, (x, y) in enumerate(batches(data, 128, steps, rng, title)):
        if step % EVERY == 0:
            seen.append((step, *look_ahead(model, sgd, x, y)))
        gradient(model, sgd, x, y)
        sgd.step()
    step, low, high, change, smoothness = np.array(seen).T
    return {
        "step": step, "low": low, "high": high,
        "loss variation": high - low, "gradient predictiveness": change,
        "effective smoothness": smoothness,
    }  # fmt: skip


def measure(data, seed, steps):
    """All measurements for one seed. Ratios are of means, without / with batch norm."""
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
        for name in MEASURES
    }
    steps = min(steps, NOISY_STEPS)
    noise = {kind: with_noise(data, kind, seed, steps) for kind in KINDS}
    return {"seen": seen, "ratios": ratios, "noise": noise}


def main(arguments=None):
    # How far inputs move is the difference of two steps.
    parser = experiment_options(__doc__, steps=300, quick_steps=100, fewest_steps=2)
    add_image_options(parser)
    add_jobs_option(parser)
    options = parse(parser, arguments)
    one_seed = partial(measure, images(options), steps=options.steps)
    cases = [(s,) for s in seeds(options.seed, options.quick)]
    runs = list(in_parallel(one_seed, cases, requested_jobs(options), "seeds").values())
    save(lambda theme: plot(runs, theme), options, "loss_landscape")
    print(report(runs))
    return runs


if __name__ == "__main__":
    main()
