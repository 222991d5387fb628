"""What is left of x_hat in float32, by the way to the variance.

With a mean far from 0, E[x^2] - E[x]^2 is the small difference of two large numbers, so
rounding noise of either sign. Two passes subtract the mean first; its own rounding is
left in x - mean, and goes if the result is centered once more.

Source: Chan, Golub & LeVeque, The American Statistician 37 (1983).
"""

import numpy as np

import tinygrad_bn as tg

MEANS = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]


def x_hat_errors(mean, seed, eps, m=256, channels=64):
    """The largest error of x_hat by each way, for data of spread 1 around ``mean``.

    Also the fraction of channels whose variance comes out negative in one pass.
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
    errors = {way: float(np.abs(x_hat - exact).max()) for way, x_hat in found.items()}
    return errors | {"negative": float((one_pass < 0).mean())}
