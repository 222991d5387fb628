"""The error of x_hat in float32, by the method that computes the variance.

If the mean is far from 0, E[x^2] - E[x]^2 is the small difference of two large numbers,
and becomes rounding noise of either sign. The method with two passes subtracts the mean
first. The rounding error of the mean itself remains in x - mean, and disappears if the
result is centered again.

Source: Chan, Golub & LeVeque, The American Statistician 37 (1983).
"""

import numpy as np

import tinygrad_bn as tg
from support.measures import largest

MEANS = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]


def x_hat_errors(mean, seed, eps, m=256, channels=64):
    """The largest error of x_hat by each method, for data with std 1 around ``mean``.

    The entry "negative variances" is the fraction of channels in which the one-pass
    variance is negative, and "ceiling" the largest |x - mean| / sqrt(eps), which is
    x_hat if the variance is taken for 0.
    """
    x = np.random.default_rng(seed).normal(mean, 1, (m, channels)).astype(np.float32)
    one_pass = (x * x).mean(axis=0) - x.mean(axis=0) ** 2
    clipped = np.maximum(one_pass, 0) + np.float32(eps)
    found = {
        "one pass": (x - x.mean(axis=0)) / np.sqrt(clipped),
        "two passes": tg.batch_norm(x, eps=eps).data,
        "centered again": tg.fused_batch_norm(x, eps=eps).data,
    }
    exact = tg.batch_norm(x.astype(float), eps=eps).data
    errors = {method: largest(x_hat - exact) for method, x_hat in found.items()}
    ceiling = largest(x - x.mean(axis=0)) / eps**0.5
    negative = float((one_pass < 0).mean())
    return errors | {"negative variances": negative, "ceiling": ceiling}
