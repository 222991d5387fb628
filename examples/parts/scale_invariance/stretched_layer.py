"""One layer with batch norm, whose weights are multiplied by a factor a.

For eps = 0, the factor changes nothing in y = BN((aW)u); for eps > 0, it acts like a
smaller eps. ``Layer`` measures both. It also measures the component of the gradient
along the weights of each unit, and computes it by the formula that is derived in
``scale_invariance.py``.
"""

import numpy as np

from support.measures import relative_error
from tinygrad_bn import Tensor, fused_batch_norm, grad


class Layer:
    """y = BN(u W) with a scale gamma, and a random cotangent of y."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.u = rng.standard_normal((128, 20))
        self.w = rng.standard_normal((20, 50))
        self.gamma = rng.uniform(0.5, 2, 50)
        self.g = rng.standard_normal((128, 50))

    def run(self, a=1.0, eps=0.0):
        """y, dL/d(aW) and dL/dgamma for the weights aW."""
        w = Tensor(a * self.w, requires_grad=True)
        gamma = Tensor(self.gamma, requires_grad=True)
        y = fused_batch_norm(self.u @ w, gamma, eps=eps)
        return y.data, *(d.data for d in grad(y, [w, gamma], gradient=self.g))

    def radial(self, eps):
        """The cosine of w and dL/dw for each unit, measured and by the formula."""
        _, d_w, d_gamma = self.run(eps=eps)
        v = (self.u @ self.w).var(axis=0)
        lengths = np.linalg.norm(self.w, axis=0) * np.linalg.norm(d_w, axis=0)
        formula = eps / (v + eps) * self.gamma * d_gamma
        return (self.w * d_w).sum(axis=0) / lengths, formula / lengths

    def invariance(self, a, eps):
        """The relative errors of y and a dL/d(aW), compared with W and eps / a^2."""
        y, d_w, _ = self.run(eps=eps / a**2)
        y_a, d_aw, _ = self.run(a, eps)
        return relative_error(y_a, y), relative_error(a * d_aw, d_w)
