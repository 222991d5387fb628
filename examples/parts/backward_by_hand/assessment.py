"""What is right and what is wrong with a backward pass of batch norm.

In each channel, any d_x that is built from the right ingredients is a linear
combination of the three parts of the right one. A part with the factor 1 is right. Any
other factor shows what was forgotten.
"""

import numpy as np

EXACT, ROUNDING = 1e-10, 1e-4  # relative errors
TERMS = {
    "direct": "gamma * inv_std * g",
    "mean": "-gamma * inv_std * mean(g)",
    "variance": "-gamma * inv_std * x_hat * mean(g * x_hat)",
}


def mistakes(name, g, x_hat, gamma, inv_std) -> dict[str, float | np.ndarray]:
    """Common mistakes in a part, and the factor (C,) that each leads to."""
    m = len(g)
    common = {
        f"it is missing: {TERMS[name]}": 0,
        "it has the wrong sign": -1,
        "it is there twice": 2,
        "gamma is missing": 1 / gamma,
        "gamma is there twice": gamma,
        "multiply by gamma, do not divide by it": 1 / gamma**2,
        "inv_std is missing": 1 / inv_std,
        "inv_std is there twice": inv_std,
        "multiply by inv_std, or divide by std = 1 / inv_std": 1 / inv_std**2,
        "gamma and inv_std are missing": 1 / (gamma * inv_std),
    }
    if name == "direct":
        return common | {"it is m times too large": m, "it is m times too small": 1 / m}
    averaged = g if name == "mean" else g * x_hat
    by_channel = averaged.mean(axis=0)
    return common | {
        "divide by m: a sum stands where a mean belongs": m,
        "divide by m once, not twice": 1 / m,
        "divide by m, not by m - 1": m / (m - 1),
        "take the mean of each channel, axis=0": averaged.mean() / by_channel,
    }


def assess(d_x, parts, *arrays) -> dict[str, str]:
    """A finding for each of the ``parts`` of d_x, and for a remainder in none.

    ``arrays`` are g, x_hat, gamma and inv_std, as the reader's d_x receives them.

    Shapes: d_x, each part, g, x_hat (m, C), gamma (C,), inv_std (1, C).
    """
    bases = np.stack(list(parts.values()), axis=-1)
    factors = [np.linalg.lstsq(bases[:, c], d_x[:, c])[0] for c in range(d_x.shape[1])]
    rest = np.abs(d_x - np.einsum("mcp,cp->mc", bases, factors)).max()
    pure = rest < ROUNDING * np.abs(bases).max()
    findings = {
        name: _finding(factor, mistakes(name, *arrays), pure)
        for name, factor in zip(parts, np.transpose(factors))
    }
    if not pure:
        findings["rest"] = f"wrong: up to {rest:.2g} belongs to none of the routes"
    return findings


def _finding(factor, mistakes, pure):
    error = np.abs(factor - 1).max()
    if error < EXACT:
        return "right"
    if error < ROUNDING:
        return f"right up to rounding: relative error {error:.0e}"
    for mistake, expected in mistakes.items():
        if np.allclose(factor, expected, rtol=ROUNDING, atol=ROUNDING):
            return f"wrong: {mistake}"
    if not pure:
        return "wrong, or hidden by the remainder of d_x"
    times = ", ".join(f"{f:.3g}" for f in factor)
    return f"wrong: by channel, it is {times} times the right part"
