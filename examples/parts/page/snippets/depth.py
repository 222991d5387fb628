import numpy as np

import tinygrad_bn as tg

rng = np.random.default_rng(0)
x, g = rng.standard_normal((2, 128, 256))
h = [tg.Tensor(x, requires_grad=True)]
for _ in range(30):
    weight = 2**0.5 / 256**0.5 * rng.standard_normal((256, 256))
    h.append(tg.relu(tg.batch_norm(h[-1], eps=0)) @ weight)
gradients = tg.grad((h[-1] * g).sum(), h[1:])
for layer, d_h in enumerate(gradients, 1):
    print(f"layer {layer}: |dL/dh|^2 = {(d_h.data**2).sum():.2g}")
