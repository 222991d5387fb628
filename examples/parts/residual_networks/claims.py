"""What residual_networks.py must show."""

from parts.residual_networks.blocks import BATCH, LAYER, NONE
from support.claims import claim
from support.networks import HE

SEEDS = (0, 1, 2)
BOUNDS = {
    (BATCH, True): ("batch norm, skip", 170, 300),
    (LAYER, True): ("layer norm, skip", 45, 95),
    (BATCH, False): ("batch norm, no skip", 1e9, 1e11),
    (NONE, True): ("no norm, skip", 1e18, 1e20),
}


def claims(runs):
    for (norm, skip), (name, *bounds) in BOUNDS.items():
        found = [run["growth"][norm, skip, HE][0] for run in runs]
        name = f"64 blocks, He: growth of |dL/dx|², {name}"
        yield claim(name, found, *bounds)
    ratios = [
        run["growth"][norm, True, sigma][0] / run["theory"][norm, True, sigma][0]
        for run in runs
        for norm in (BATCH, LAYER)
        for sigma in run["sigmas"]
    ]
    yield claim(
        "64 blocks, any sigma: growth / theory, batch or layer norm, skip",
        ratios,
        0.7,
        1.4,
    )
