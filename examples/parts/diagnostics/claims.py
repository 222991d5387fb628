"""What diagnostics.py must show."""

from support.claims import claim

SEEDS = (0, 1, 2)


def claims(runs):
    for name, bounds in (
        ("without", {"low": 0.02}),
        ("batch norm", {"high": 0.01}),
        ("He, lr 0.1", {"high": 0.05}),
    ):
        dead = [run[name]["dead"][-1].mean() for run in runs]
        yield claim(f"fraction of dead units, {name}", dead, **bounds)
    differences = [
        run["without"]["loss"][-1] - run["batch norm"]["loss"][-1] for run in runs
    ]
    yield claim("last loss, without minus batch norm", differences, low=0)
