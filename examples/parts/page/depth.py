"""Chapter 5: how the gradient grows or shrinks through thirty layers.

    h_l      the output of layer l, before norm and activation; h_1 is next to the data
    norm     what stands in front of the activation; "skip" is batch norm in a residual
             block, h + W phi(batch_norm(h))
    sigma    weights are drawn from N(0, sigma^2 / width)
    profile  log10 of |dL/dh_l|^2, compared with the last layer, for l = 1 to 30

The theory is that of ``support/mean_field.py``, in one formula. Let q_l be
the variance of h_l, and take phi and phi' at what the norm returns. One layer
multiplies |dL/dh|^2 by sigma^2 E[phi'^2] / q_l, or by sigma^2 E[phi'^2] without a norm;
a residual block adds 1 to that. Going forward, q_(l+1) is sigma^2 Var[phi] behind batch
norm and sigma^2 E[phi^2] otherwise; a residual block adds q_l to that.

Source: Yang et al., arXiv 1902.08129, theorem 3.10; Schoenholz et al., Deep Information
Propagation, arXiv 1611.01232.
"""

import math
from functools import cache

import numpy as np

import tinygrad_bn as tg
from parts.page.svg import circle, element, figure, line, words
from parts.page.text import plain
from support import mean_field
from tinygrad_bn import Tensor

UNITS, DEPTH, BATCH = 256, 30, 128
ACTIVATIONS = {
    "linear": lambda h: h, "ReLU": tg.relu, "tanh": tg.tanh, "sigmoid": tg.sigmoid,
}  # fmt: skip
NORMS = {
    "none": lambda h: h,
    "batch": lambda h: tg.batch_norm(h, eps=0),
    "layer": lambda h: tg.batch_norm(h, axes=(1,), eps=0),
    "skip": lambda h: tg.batch_norm(h, eps=0),
}
NORM_NAMES = {
    "none": "none", "batch": "batch norm", "layer": "layer norm",
    "skip": "batch + skip",
}  # fmt: skip
SIGMAS = {"0.5": 0.5, "1": 1.0, "√2": math.sqrt(2), "2": 2.0, "4": 4.0}
FIRST = {"activation": "ReLU", "norm": "batch", "sigma": "√2"}
# The figure: layer 1 at the left, and a scale of powers of ten.
LEFT, RIGHT, TOP, BOTTOM, LIMIT, TICK = 52, 358, 36, 250, 16, 8


@cache
def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, g = rng.standard_normal((2, BATCH, UNITS))
    return x, g, rng.standard_normal((DEPTH, UNITS, UNITS))


def profile(activation: str, norm: str, sigma: float, seed: int = 0) -> np.ndarray:
    """The profile, measured for random data and a random cotangent."""
    x, g, weights = _drawn(seed)
    h = [Tensor(x, requires_grad=True)]
    for weight in sigma / math.sqrt(UNITS) * weights:
        branch = ACTIVATIONS[activation](NORMS[norm](h[-1])) @ weight
        h.append(h[-1] + branch if norm == "skip" else branch)
    gradients = tg.grad((h[-1] * g).sum(), h[1:])
    return relative([(gradient.data**2).sum() for gradient in gradients])


def theory(activation: str, norm: str, sigma: float) -> np.ndarray:
    """The profile of wide networks and large batches."""
    q, factors = 1.0, []
    skip = norm == "skip"
    for _ in range(DEPTH):
        variance, divisor = (q, 1) if norm == "none" else (1, q)
        mean, square, slope = mean_field.expectations(ACTIVATIONS[activation], variance)
        factors.append(skip + sigma**2 * slope / divisor)
        spread = square - mean**2 if norm in ("batch", "skip") else square
        q = skip * q + sigma**2 * spread
    # The first factor leads from layer 1 to the data.
    return relative(np.append(np.cumprod(factors[:0:-1])[::-1], 1))


def relative(squares) -> np.ndarray:
    return np.log10(np.divide(squares, squares[-1]))


@cache
def numbers() -> dict:
    """Measured and theoretical profiles, by activation, norm and sigma."""
    keys = [(a, n, s) for a in ACTIVATIONS for n in NORMS for s in SIGMAS]

    def table(function):
        return {
            " ".join(key): np.round(function(*key[:2], SIGMAS[key[2]]), 3).tolist()
            for key in keys
        }

    return {
        "measured": table(profile), "theory": table(theory), "first": FIRST,
        "activations": list(ACTIVATIONS), "norms": NORM_NAMES, "sigmas": list(SIGMAS),
        "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM, "limit": LIMIT,
    }  # fmt: skip


def parts() -> dict[str, str]:
    """What the template contains of this chapter: the figure and three choices."""
    controls = {
        "activations": ({name: name for name in ACTIVATIONS}, FIRST["activation"]),
        "norms": (NORM_NAMES, FIRST["norm"]),
        "sigmas": ({name: name for name in SIGMAS}, FIRST["sigma"]),
    }
    relu = numbers()["theory"]["ReLU batch √2"]
    factor = 10 ** ((relu[7] - relu[24]) / 17)  # per layer
    found = {"figure": drawing(), "relu_factor": plain(factor)}
    for control, (texts, first) in controls.items():
        found[control] = "".join(
            element("option", text, value=key, selected="" if key == first else None)
            for key, text in texts.items()
        )
    return found


def drawing() -> str:
    """The axes, and the lines that the script fills in."""
    grid = []
    for power in range(-LIMIT, LIMIT + 1, TICK):
        y = (TOP + BOTTOM) / 2 - power * (BOTTOM - TOP) / (2 * LIMIT)
        grid.append(line(LEFT, y, RIGHT, y, "axis"))
        grid.append(words(power_of_ten(power), LEFT - 6, y + 5, "end quiet"))
    for layer in (1, 10, 20, 30):
        x = LEFT + (layer - 1) * (RIGHT - LEFT) / (DEPTH - 1)
        grid.append(words(str(layer), x, BOTTOM + 34, "middle quiet"))
    window = element("rect", x=LEFT, y=TOP, width=RIGHT - LEFT, height=BOTTOM - TOP)
    curves = [
        element("polyline", class_=f"curve {kind}")
        for kind in [*["without", "other"] * len(SIGMAS), "chosen-sigma"]
    ]
    return figure(
        "depth",
        350,
        element("clipPath", window, id="depth-window"),
        words("|∂L/∂h|², compared with layer 30", 4, 14, "bold"),
        *grid,
        words("layer (1 is next to the input)", LEFT, BOTTOM + 53, "quiet"),
        element("g", *curves, id="depth-curves", clip_path="url(#depth-window)"),
        element("g", id="depth-theory", clip_path="url(#depth-window)"),
        *(
            words("", 0, 0, "quiet halo", id=f"depth-scale-{i}")
            for i in range(len(SIGMAS))
        ),
        _key(4, "this scale", "chosen-sigma"),
        _key(112, "others", "other"),
        _key(194, "no norm", "without"),
        circle(302, BOTTOM + 73, 3.5, "theory"),
        words("theory", 312, BOTTOM + 78),
        words(
            "Numbers: weight scales of the lines without norm", 4, BOTTOM + 96, "quiet"
        ),
    )


def _key(x, text, class_):
    y = BOTTOM + 73
    swatch = line(x, y, x + 18, y, f"curve {class_}")
    return element("g", swatch, words(text, x + 24, y + 5), id=f"depth-key-{class_}")


def power_of_ten(power: int) -> str:
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return "1" if power == 0 else f"10{str(power).translate(digits)}"
