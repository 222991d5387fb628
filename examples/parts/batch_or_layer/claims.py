"""What batch_or_layer.py must show."""

from itertools import pairwise

from parts.batch_or_layer.variants import AFTER, BATCH, LAYER
from support.claims import claim, derived
from support.networks import ACTIVATIONS, HE

SEEDS = (0, 1, 2)
BOUNDS = {
    ("ReLU", BATCH): (1.43, 1.51),
    ("ReLU", LAYER): (0.9, 1.1),
    ("sigmoid", BATCH): (1.02, 1.08),
    ("sigmoid", LAYER): (0.13, 0.18),
}


def claims(runs):
    sigmas, betas = runs[0]["sigmas"], runs[0]["betas"]
    for (activation, norm), bounds in BOUNDS.items():
        found = [
            run["factors"][activation, norm, s, 0.0] for run in runs for s in sigmas
        ]
        name = f"{activation}, {norm}, sigma {min(sigmas):g} to {max(sigmas):g}"
        yield claim(f"{name}: factor per layer", found, *bounds)
    ratios = [
        found / run["theory"][case] for run in runs for case, found in factors(run)
    ]
    yield claim(
        "all networks: factor per layer / theory of large batches", ratios, 0.9, 1.1
    )
    for norm in (BATCH, LAYER):
        changes = [
            change(run, [(a, norm, s, 0.0) for s in sigmas])
            for run in runs
            for a in ACTIVATIONS
        ]
        yield derived(
            f"{norm}, eps = 0: relative change of the factor with sigma",
            changes,
            high=1e-6,
        )
    changes = [change(run, [("tanh", AFTER, s, 0.0) for s in sigmas]) for run in runs]
    yield claim(
        f"tanh, {AFTER}: relative change of the factor with sigma", changes, low=1
    )
    declines = [
        run["factors"]["ReLU", BATCH, HE, a] - run["factors"]["ReLU", BATCH, HE, b]
        for run in runs
        for a, b in pairwise(betas)
    ]
    yield claim(
        "ReLU, batch norm: decline of the factor from one beta to the next",
        declines,
        low=0,
    )
    for norm, bounds in ((BATCH, (0.2, 0.45)), (LAYER, (0.9, 1))):
        alike = [run["similarity"]["ReLU", norm, HE, 0.0][-1] for run in runs]
        yield claim(
            f"ReLU, {norm}: mean cosine of two rows in layer 30", alike, *bounds
        )


def factors(run):
    return run["factors"].items()


def change(run, cases):
    """The largest of some factors, relative to the smallest, minus 1."""
    found = [run["factors"][case] for case in cases]
    return max(found) / min(found) - 1
