"""Is a bias in front of batch norm good for anything, and does leaving it out cost?

    python examples/bias_is_redundant.py
    python examples/bias_is_redundant.py --mnist-dir FOLDER

For nothing, and no: BN(W u + b) = BN(W u), because b moves E[x] by b as well. Two
networks with the same weights, one with any b and one without, stay alike through
training, whatever the optimizer: so b cannot overfit either. Subtracting the mean does
this, with gamma and beta or without; beta takes over the job that b used to have.

Dead is not still. The gradient of b is zero but for rounding noise, and Adam divides a
gradient by its own size: noise of 1e-9, as in float32, is felt beside Adam's eps of
1e-8 and moves b by up to lr at each step; noise of 1e-18, as in float64, is not. Batch
norm takes out again whatever b has become.

b is alive wherever something else than the mean of its own batch is subtracted: with
running statistics, before a ReLU, with a way around batch norm, or where the average is
over features, as in layer norm.

Not shown: that drift is harmless in evaluation mode, where the running mean follows b
with a delay; nor anything about biases elsewhere in a network.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.2.
"""

import numpy as np
from lab import add_image_options, images, largest, options, parse, save, seeds
from networks import linears, perceptron, training
from plots.bias_is_redundant import plot, report

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim

OPTIMIZERS = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.01),
}
DRIFTS = [("Adam", np.float32), ("Adam", np.float64), ("SGD", np.float32)]


def network(data, seed, bias=True, affine=True, dtype=np.float64):
    """Three hidden layers of 50; with and without b, their weights are the same."""

    def between(width):
        return nn.BatchNorm(width, affine=affine, dtype=dtype), nn.ReLU()

    sizes = [data.train_x.shape[1], 50, 50, 50, 10]
    rng = np.random.default_rng(seed)
    return perceptron(sizes, between, rng, bias=bias, dtype=dtype)


def train(model, name, data, seed, steps):
    """The loss before each step, on batches of 64 that the seed alone decides."""
    optimizer, rng = OPTIMIZERS[name](model.parameters()), np.random.default_rng(seed)
    return training(model, optimizer, data, 64, steps, rng, name)


def with_and_without(data, seed, steps, optimizer, affine):
    """The losses with b and without, and how far all other parameters are apart."""
    models = [network(data, seed, bias, affine) for bias in (True, False)]
    runs = [train(model, optimizer, data, seed, steps) for model in models]
    with_b, without = (dict(model.named_parameters()) for model in models)
    rng = np.random.default_rng([seed, 1])
    for name in sorted(with_b.keys() - without.keys()):
        with_b[name][:] = rng.standard_normal(with_b[name].shape)
    losses, apart = [], []
    for both in zip(*runs):
        losses.append([loss.item() for loss in both])
        apart.append(max(largest(with_b[n].data - without[n].data) for n in without))
    return {"losses": np.array(losses).T, "apart": np.array(apart)}


def drift(data, seed, steps, optimizer, dtype):
    """The largest entry of any hidden bias before each step; they all begin at 0."""
    model = network(data, seed, dtype=dtype)
    biases = [layer.bias for layer in linears(model)[:-1]]
    run = train(model, optimizer, data, seed, steps)
    return np.array([max(largest(b.data) for b in biases) for _ in run])


def liveliness(seed):
    """|dL/db| beside the sum of |dL/dx| that makes it up, by what follows x = u + b."""
    rng = np.random.default_rng(seed)
    u, g = rng.standard_normal((2, 64, 10))
    before = rng.standard_normal((64, 10))
    statistics = {"mean": before.mean(axis=0), "var": before.var(axis=0)}
    cases = {
        "batch norm": tg.batch_norm,
        "Var[x] constant": lambda x: tg.batch_norm(x, constants=("var",)),
        "E[x] constant": lambda x: tg.batch_norm(x, constants=("mean",)),
        "running statistics": lambda x: tg.batch_norm(x, **statistics),
        "ReLU, batch norm": lambda x: tg.batch_norm(tg.relu(x)),
        "way around it": lambda x: x + tg.batch_norm(x),
        "layer norm": lambda x: tg.batch_norm(x, axes=(1,)),
    }
    found = {}
    for case, normalize in cases.items():
        b = Tensor(np.zeros(10), requires_grad=True)
        x = u + b
        d_b, d_x = tg.grad(normalize(x), [b, x], gradient=g)
        found[case] = float((np.abs(d_b.data) / np.abs(d_x.data).sum(axis=0)).max())
    return found


def measure(seed, steps, data, quick=False):
    """All that the tables and the picture show, over three seeds, or over one."""
    # A pixel that is blank in a whole batch acts as a bias: its weights are dead, too.
    varies = data.train_x.std(axis=0) > 0.3
    data = data._replace(train_x=data.train_x[:, varies])
    return {
        "pairs": {
            (optimizer, affine): [
                with_and_without(data, s, steps, optimizer, affine)
                for s in seeds(seed, quick)
            ]
            for optimizer in OPTIMIZERS
            for affine in (True, False)
        },
        "drifts": {
            (optimizer, dtype.__name__): [
                drift(data, s, steps, optimizer, dtype) for s in seeds(seed, quick)
            ]
            for optimizer, dtype in DRIFTS
        },
        "liveliness": liveliness(seed),
    }


def main(arguments=None):
    parser = options(__doc__, steps=200, quick_steps=20)
    add_image_options(parser)
    given = parse(parser, arguments)
    data = images(given, np.float64)
    measured = measure(given.seed, given.steps, data, given.quick)
    save(lambda theme: plot(measured, theme), given, "bias_is_redundant")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
