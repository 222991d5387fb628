"""What learning_rates.py must show."""

from support.claims import claim

SEEDS = (0, 1, 2)


def claims(runs):
    scales = runs[0]["scales"]

    def accuracies(bn, rates, scales):
        return [
            run["accuracy"][bn, r, s] for run in runs for r in rates for s in scales
        ]

    rates = runs[0]["rates"]
    without, norm = (
        "10 ReLU layers, 300 steps, without BN",
        "10 ReLU layers, 300 steps, BN",
    )
    found = accuracies(False, (1, 3), scales)
    yield claim(f"{without}: accuracy, any weights, lr 1 and 3", found, high=0.2)
    found = accuracies(False, rates, [s for s in scales if s != 1])
    yield claim(f"{without}: accuracy, weights not He's, any lr", found, high=0.2)
    found = accuracies(False, (0.01, 0.03), (1,))
    yield claim(f"{without}: accuracy, He's weights, lr 0.01 and 0.03", found, 0.8)
    found = accuracies(True, (1,), (1,))
    yield claim(f"{norm}: accuracy, He's weights, lr 1", found, 0.92)
    found = accuracies(True, (1, 3), scales)
    yield claim(f"{norm}: accuracy, weights 0.01 to 10 x He's, lr 1 and 3", found, 0.7)
    found = accuracies(True, (0.1,), (0.03, 0.1, 0.3, 1))
    yield claim(f"{norm}: accuracy, weights 0.03 to 1 x He's, lr 0.1", found, 0.9)
    found = accuracies(True, (0.003,), (0.03, 0.1))
    yield claim(f"{norm}: accuracy, weights 0.03 and 0.1 x He's, lr 0.003", found, 0.9)
    ahead = [
        run["accuracy"][False, 0.003, 1] - run["accuracy"][True, 0.003, 1]
        for run in runs
    ]
    yield claim("He's weights, lr 0.003: accuracy without BN minus BN", ahead, 0.15)
