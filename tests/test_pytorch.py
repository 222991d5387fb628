"""The bridge to PyTorch: the same networks compute the same on both sides."""

import copy
import importlib
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim

pytestmark = pytest.mark.slow  # importing PyTorch takes seconds


@pytest.fixture(scope="module")
def networks(torch):
    return importlib.import_module("torch_networks")


def measured(model, inputs):
    """Outputs, gradients and state in both modes, by name and in PyTorch's layout."""
    torch = sys.modules["torch"]
    theirs = isinstance(model, torch.nn.Module)
    tensor = torch.tensor if theirs else Tensor
    rng, found = np.random.default_rng(1), {}
    for mode in (True, False):
        model.train(mode)
        model.zero_grad()
        xs = [tensor(x, requires_grad=True) for x in inputs]
        # A module that works in place may write to its input, but not to a leaf.
        ys = all_of(model(*(x * 1 for x in xs)))
        cs = [rng.standard_normal(y.shape).astype(inputs[0].dtype) for y in ys]
        sum((y * (tensor(c) if theirs else c)).sum() for y, c in zip(ys, cs)).backward()
        now = {f"output {i}": y for i, y in enumerate(ys)}
        now |= {f"gradient of input {i}": x.grad for i, x in enumerate(xs)}
        if theirs:
            parameters = model.named_parameters(remove_duplicate=False)
            trained = {n: p for n, p in parameters if p.requires_grad}
            now |= {f"gradient of {name}": p.grad for name, p in trained.items()}
            now |= model.state_dict()
            now = {n: v if v is None else v.detach().numpy() for n, v in now.items()}
        else:
            for entry in model._entries():
                values = {entry.theirs: np.asarray(entry.values)}
                if getattr(entry.values, "requires_grad", False):
                    values[f"gradient of {entry.theirs}"] = entry.values.grad
                for name, value in values.items():
                    transposed = entry.transposed and value is not None
                    now[name] = value.T if transposed else value
        for name, values in now.items():
            found[mode, name] = None if values is None else np.array(values)
    return found


def all_of(y):
    if isinstance(y, tuple | list):
        return [part for x in y for part in all_of(x)]
    return [y]


def deviations(ours, theirs):
    """By name, the largest difference, compared with the largest value and with 1."""
    assert ours.keys() == theirs.keys()
    result = {}
    for name, our in ours.items():
        their = theirs[name]
        assert (our is None) == (their is None), name
        if our is not None:
            assert our.shape == their.shape, name
            scale = max(1, np.abs(their).max(initial=0))
            difference = np.abs(our.astype(float) - their.astype(float))
            result[name] = difference.max(initial=0) / scale
    return result


def assert_same(ours, theirs, inputs, tolerance=1e-12):
    """Assert equal outputs, gradients and running statistics, in both modes."""
    ours, theirs = measured(ours, inputs), measured(theirs, inputs)
    for name, deviation in deviations(ours, theirs).items():
        assert deviation <= tolerance, name
        assert ours[name] is None or ours[name].dtype == theirs[name].dtype


def assert_as_accurate(ours, theirs, inputs):
    """Assert in float32: at most 1e-6 and 3 times PyTorch's own rounding error."""
    exact = copy.deepcopy(theirs).double()
    exact = measured(exact, [x.astype(float) for x in inputs])
    allowed = deviations(measured(theirs, inputs), exact)
    for name, deviation in deviations(measured(ours, inputs), exact).items():
        assert deviation <= 1e-6 + 3 * allowed[name], name


def assert_same_state(ours, theirs):
    theirs = theirs.state_dict()
    for entry in ours._entries():
        values = np.asarray(entry.values)
        values = values.T if entry.transposed else values
        np.testing.assert_allclose(values, theirs.pop(entry.theirs), 1e-12, 1e-12)
    assert theirs == {}


# --- From PyTorch ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_random_architectures_compute_the_same_here(networks, seed):
    net, shape = networks.random_network(seed)
    net.double()
    x = np.random.default_rng(seed).standard_normal(shape)
    assert_same(tg.from_torch(net), net, [x])


@pytest.mark.parametrize("seed", range(20))
def test_in_float32_random_architectures_are_as_accurate_as_in_pytorch(networks, seed):
    net, shape = networks.random_network(seed)
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    assert_as_accurate(tg.from_torch(net), net, [x])


@pytest.mark.parametrize("seed", range(20))
def test_random_architectures_return_to_pytorch_unchanged(torch, networks, seed):
    net, shape = networks.random_network(seed)
    net.double()
    x = np.random.default_rng(seed).standard_normal(shape)
    ours = tg.from_torch(net)
    again = tg.to_torch(ours)
    assert [*again.state_dict()] == [*net.state_dict()]
    assert [(n, p.requires_grad) for n, p in again.named_parameters()] == [
        (n, p.requires_grad) for n, p in net.named_parameters()
    ]
    assert_same(ours, again, [x])
    # A converted model can be converted again.
    assert_same(tg.from_torch(again), again, [x])


def test_every_function_of_a_forward_computes_the_same_here(torch, networks):
    torch.manual_seed(0)
    net = networks.Everything()
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    assert_as_accurate(tg.from_torch(net), net, [x.astype(np.float32)])
    net.double()
    ours = tg.from_torch(net)
    assert_same(ours, net, [x])
    assert_same(ours, tg.to_torch(ours), [x])


def test_a_forward_may_have_several_inputs_and_return_any_structure(torch, networks):
    x, y = np.random.default_rng(0).standard_normal((2, 4, 3))
    ours = tg.from_torch(networks.TwoInputs())
    product, (total,) = ours(Tensor(x), y)
    np.testing.assert_array_equal(product.data, x * y)
    np.testing.assert_array_equal(total.data, x + y)
    with pytest.raises(TypeError) as error:
        ours(x)
    assert str(error.value) == (
        "TwoInputs: the inputs must be x, y, all by position. Received: 1 by position."
    )
    with pytest.raises(TypeError, match="Received: 2 by position, and z by name"):
        ours(x, x, z=x)
    with pytest.raises(TypeError, match="Received: 1 by position, and y by name"):
        ours(x, y=y)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_empty_tuple_of_axes_means_all_axes_as_in_pytorch(
    torch, networks, reduction
):
    net = networks.Forward(lambda self, x: getattr(x, reduction)(dim=()))
    x = np.arange(6.0).reshape(2, 3)
    assert tg.from_torch(net)(x).data == net(torch.tensor(x)).item()


def test_a_training_step_changes_everything_as_in_pytorch(torch, networks):
    net, shape = networks.random_network(3)
    net.double()
    ours = tg.from_torch(net)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    trained = [p for p in net.parameters() if p.requires_grad]
    train_alike(ours, net, torch.optim.SGD(trained, **settings), settings, shape)


def test_a_training_step_changes_everything_as_here(torch):
    rng = np.random.default_rng(0)
    ours = nn.Sequential(
        nn.Linear(4, 6, rng=rng, dtype=float),
        nn.BatchNorm(6, dtype=float),
        nn.ReLU(),
        nn.Sequential(nn.Linear(6, 3, rng=rng, dtype=float), nn.Tanh()),
    )
    theirs = tg.to_torch(ours)
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    optimizer = torch.optim.SGD(theirs.parameters(), **settings)
    train_alike(ours, theirs, optimizer, settings, (8, 4))


def train_alike(ours, theirs, their_optimizer, settings, shape):
    torch = sys.modules["torch"]
    our_optimizer = optim.SGD(ours.parameters(), **settings)
    rng = np.random.default_rng(0)
    ours.train(), theirs.train()
    before = ours.state_dict()
    for _ in range(3):
        x = rng.standard_normal(shape)
        for model, inputs, optimizer in (
            (ours, Tensor(x), our_optimizer),
            (theirs, torch.tensor(x), their_optimizer),
        ):
            optimizer.zero_grad()
            (model(inputs) ** 2).mean().backward()
            optimizer.step()
        assert_same_state(ours, theirs)
    after = ours.state_dict()
    assert any((before[name] != after[name]).any() for name in before)


# --- What is preserved ----------------------------------------------------------------


def test_values_are_copied_in_both_directions(torch):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    ours = tg.from_torch(net)
    again = tg.to_torch(ours)
    for parameter in (*net.parameters(), *net.buffers()):
        parameter.data.fill_(7)
    assert all((values != 7).any() for values in ours.state_dict().values())
    for parameter in ours.parameters():
        parameter.data[...] = 8
    ours[1].running.mean[...] = 8
    assert all((values != 8).any() for values in again.state_dict().values())


def test_shared_modules_and_tied_weights_stay_shared(torch, networks):
    net = networks.Shared(3)
    for model in (ours := tg.from_torch(net), tg.to_torch(ours)):
        assert model.cell is model.again
        assert model.first.weight is model.second.weight
        names = [name for name, _ in model.named_parameters()]
        assert names == [name for name, _ in net.named_parameters()]


def buffers_of(model, i):
    """The running statistics of one layer, as they are stored and not copied."""
    if isinstance(model, nn.Module):
        running = model[i].running
        return running.mean, running.var, running.updates
    return model[i].running_mean, model[i].running_var, model[i].num_batches_tracked


def test_shared_running_statistics_stay_shared_in_both_directions(torch):
    ours = nn.Sequential(*(nn.BatchNorm(3, affine=False, dtype=float) for _ in "abc"))
    ours[1].running = ours[0].running
    theirs = tg.to_torch(ours)
    back = tg.from_torch(theirs)
    x = np.random.default_rng(0).standard_normal((5, 3)) + 4
    for model in (ours, theirs, back):
        first, second, third = (buffers_of(model, i) for i in range(3))
        assert all(a is b for a, b in zip(first, second))
        assert all(a is not b for a, b in zip(first, third))
        model(torch.tensor(x) if model is theirs else x)
        assert (first[2], third[2]) == (2, 1)
    assert_same_state(ours, theirs)
    assert_same_state(back, theirs)


def test_layers_can_share_a_part_of_their_running_statistics(torch):
    tnn = torch.nn
    # Each layer has its own momentum.
    theirs = tnn.Sequential(tnn.BatchNorm1d(3, momentum=0.3), tnn.BatchNorm1d(3))
    theirs.double()
    theirs[1].running_mean = theirs[0].running_mean
    ours = tg.from_torch(theirs)
    again = tg.to_torch(ours)
    x = np.random.default_rng(0).standard_normal((5, 3)) + 4
    for model in (ours, theirs, again):
        shared = [a is b for a, b in zip(buffers_of(model, 0), buffers_of(model, 1))]
        assert shared == [True, False, False]
        for _ in range(2):
            model(x if model is ours else torch.tensor(x))
    assert_same_state(ours, theirs)
    assert_same_state(ours, again)


def test_a_buffer_of_several_modules_stays_shared(torch, networks):
    inner = networks.Forward(lambda self, x: x * self.scale)
    net = networks.Forward(lambda self, x: self.inner(x) + self.scale, inner=inner)
    inner.register_buffer("scale", torch.ones(3))
    net.register_buffer("scale", inner.scale)
    for model in (ours := tg.from_torch(net), tg.to_torch(ours)):
        assert model.scale is model.inner.scale


def test_each_module_keeps_its_mode(torch, networks):
    net = torch.nn.Sequential(networks.Residual(3), torch.nn.BatchNorm1d(3)).train()
    net[0].bn2.eval()
    modes = [module.training for module in net.modules()]
    ours = tg.from_torch(net)
    assert [module.training for module in net.modules()] == modes
    assert not ours[0].bn2.training
    assert ours[0].bn1.training and ours[0].training and ours[1].training
    assert [module.training for module in tg.to_torch(ours).modules()] == modes


def test_frozen_parameters_stay_frozen_in_both_directions(torch):
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    net[0].weight.requires_grad = False
    ours = tg.from_torch(net)
    assert not ours[0].weight.requires_grad and ours[0].bias.requires_grad
    again = tg.to_torch(ours)
    assert not again[0].weight.requires_grad and again[0].bias.requires_grad


@pytest.mark.parametrize("frozen", [(0,), (1,), (2,), (0, 1, 2)])
def test_frozen_layers_of_all_kinds_stay_frozen_in_both_directions(torch, frozen):
    tnn = torch.nn
    net = tnn.Sequential(tnn.Linear(3, 3), tnn.BatchNorm1d(3), tnn.LayerNorm(3))
    net.double()
    for i in frozen:
        net[i].requires_grad_(False)
    trained = [name for name, p in net.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * (3 - len(frozen))
    x = np.random.default_rng(0).standard_normal((5, 3))
    ours = tg.from_torch(net)
    assert [name for name, _ in ours.named_parameters()] == trained
    assert_same(ours, net, [x])
    again = tg.to_torch(ours)
    assert [n for n, p in again.named_parameters() if p.requires_grad] == trained
    assert_same(ours, again, [x])


def test_tracing_does_not_change_running_statistics_or_anything_else(torch, networks):
    net = networks.Residual(3)
    net.double()
    calls = []

    def forward(self, x):
        self.last = x
        calls.append(self.training)
        self.cached = torch.ones(3)
        return self.block(x)

    outer = networks.Forward(forward, block=net)
    outer.register_buffer("cached", torch.zeros(3))
    before = {k: v.clone() for k, v in outer.state_dict().items()}
    attributes = {*vars(outer)}
    tg.from_torch(outer)
    assert calls == [True, False]
    assert {*vars(outer)} == attributes
    after = outer.state_dict()
    assert all((after[name] == values).all() for name, values in before.items())


def test_conversions_draw_no_random_numbers(torch):
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    torch.manual_seed(0)
    np.random.seed(0)
    tg.to_torch(tg.from_torch(net))
    drawn = torch.rand(1), np.random.random()
    torch.manual_seed(0)
    np.random.seed(0)
    assert drawn == (torch.rand(1), np.random.random())


def test_without_running_statistics_evaluation_uses_the_batch(torch):
    net = torch.nn.BatchNorm1d(3, track_running_stats=False).double()
    ours = tg.from_torch(net).eval()
    x = np.random.default_rng(0).standard_normal((5, 3)) + 4
    assert np.abs(ours(x).data.mean(axis=0)).max() < 1e-12
    assert_same(ours, net, [x])
    assert_same(ours, tg.to_torch(ours), [x])


@pytest.mark.parametrize("affine, bias", [(True, False), (False, False)])
def test_batch_norm_without_some_of_its_parameters(torch, affine, bias):
    settings = {"momentum": None, "eps": 0.1, "dtype": float}
    ours = nn.BatchNorm(3, affine=affine, bias=bias, **settings)
    theirs = tg.to_torch(ours)
    assert theirs.bias is None
    assert (theirs.momentum, theirs.eps) == (None, 0.1)
    x = np.random.default_rng(0).standard_normal((5, 3))
    assert_same(ours, theirs, [x])
    assert_same(tg.from_torch(theirs), theirs, [x])


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 4), (5, 3, 2, 2), (5, 3, 2, 1, 2)])
def test_batch_norm_over_all_usual_axes_goes_to_pytorch(torch, shape):
    axes = (0, *range(2, len(shape)))
    x = np.random.default_rng(0).standard_normal(shape)
    ours = nn.BatchNorm(3, axes, dtype=float)
    theirs = tg.to_torch(ours)
    assert_same(ours, theirs, [x])
    assert type(theirs).__name__ == f"BatchNorm{max(len(shape) - 2, 1)}d"
    assert_same(tg.from_torch(theirs), theirs, [x])


@pytest.mark.parametrize("axes", [(2, 0), [0, 2], np.array([2, 0])])
def test_axes_in_another_order_or_container_go_to_pytorch(torch, axes):
    x = np.random.default_rng(0).standard_normal((5, 3, 4))
    ours = nn.BatchNorm(3, axes, dtype=float)
    assert_same(ours, tg.to_torch(ours), [x])


@pytest.mark.parametrize("axes", [0, [0], (0,)])
def test_a_single_axis_goes_to_pytorch(torch, axes):
    x = np.random.default_rng(0).standard_normal((5, 3))
    ours = nn.BatchNorm(3, axes, dtype=float)
    assert_same(ours, tg.to_torch(ours), [x])


def test_values_in_another_byte_order_go_to_pytorch(torch):
    swapped = np.dtype(np.float32).newbyteorder()
    rng = np.random.default_rng(0)
    ours = nn.Sequential(
        nn.Linear(3, 2, rng=rng, dtype=swapped), nn.BatchNorm(2, dtype=swapped)
    )
    theirs = tg.to_torch(ours)
    assert {p.dtype for p in theirs.parameters()} == {torch.float32}
    assert_same_state(ours, theirs)
    x = rng.standard_normal((5, 3)).astype(np.float32)
    y = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(x).data, y, 1e-5, 1e-5)


def test_all_layers_of_this_engine_go_to_pytorch(torch):
    rng = np.random.default_rng(0)
    ours = nn.Sequential(
        nn.Flatten(1, 2), nn.Linear(6, 4, False, rng=rng, dtype=float),
        nn.LayerNorm(4, eps=1e-3, dtype=float), nn.Tanh(), nn.Dropout(0.0),
        nn.Identity(), nn.Sigmoid(), nn.Linear(4, 2, rng=rng, dtype=float), nn.ReLU(),
    )  # fmt: skip
    theirs = tg.to_torch(ours)
    x = rng.standard_normal((5, 2, 3))
    assert_same(ours, theirs, [x])
    assert_same(tg.from_torch(theirs), theirs, [x])
    assert tg.to_torch(nn.Dropout(0.3)).p == 0.3
    assert tg.from_torch(torch.nn.Dropout(0.3)).p == 0.3


def test_what_was_converted_can_be_copied_pickled_and_changed(torch, networks):
    ours = tg.from_torch(networks.Residual(3).double())
    x = np.random.default_rng(0).standard_normal((5, 3))
    y = ours(x).data
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        np.testing.assert_array_equal(twin(x).data, y)
        assert type(twin) is type(ours)
    ours.bn2 = nn.Identity()
    assert "bn2: Identity()" in str(ours)
    assert (ours(x).data != y).any()


def test_distributed_data_parallel_trains_what_to_torch_returns(torch, tmp_path):
    from torch.nn.parallel import DistributedDataParallel

    net = tg.to_torch(nn.Sequential(nn.Linear(3, 2, rng=0), nn.BatchNorm(2)))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        DistributedDataParallel(net)(torch.ones(4, 3)).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_containers_without_a_forward_keep_their_members(torch, networks):
    tnn = torch.nn
    blocks = tnn.ModuleDict({"a": tnn.Linear(3, 3), "b": tnn.Module()})
    blocks.b.inner = tnn.BatchNorm1d(3)
    net = networks.Forward(
        lambda self, x: self.blocks.b.inner(self.blocks["a"](x)), blocks=blocks
    ).double()
    x = np.random.default_rng(0).standard_normal((4, 3))
    ours = tg.from_torch(net)
    assert_same(ours, net, [x])
    assert_same(ours, tg.to_torch(ours), [x])


# --- Names ----------------------------------------------------------------------------


def test_the_redundant_bias_is_named_as_in_pytorch(torch):
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU(),
        torch.nn.Linear(5, 3),
    )  # fmt: skip
    x = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    (finding,) = tg.check_redundant(tg.from_torch(net), x)
    assert finding.name == "0.bias"
    assert "batch norm `1`" in str(finding) and "use bias=False" in str(finding)


def test_explanations_and_pictures_use_the_names_of_pytorch(torch, networks):
    torch.manual_seed(0)
    net = torch.nn.Sequential(networks.Residual(3), torch.nn.Linear(3, 2)).double()
    ours = tg.from_torch(net)
    x = np.random.default_rng(0).standard_normal((6, 3))
    loss = nn.cross_entropy(ours(x), np.array([0, 1] * 3))
    text = str(tg.explain(loss, ours[0].fc1.bias))
    assert "0.fc1.bias" in text and "via 0.bn1.E[x]" in text
    assert "0.bn2.weight" in str(tg.explain(loss, ours[0].bn2.weight))
    picture = tg.draw(loss, ours[0].fc1.bias).source
    assert "weight = γ, bias = β" in picture
    assert ours[0].bn1.weight is ours[0].bn1.gamma
    assert ours[0].bn1.bias is ours[0].bn1.beta
    assert ours[0].caption() == "Residual"
    assert str(ours).startswith("Sequential(\n  0: Residual(\n    fc1: Linear(3 → 3)\n")


def test_a_converted_module_goes_by_the_class_name_that_it_has_in_pytorch(networks):
    ours = tg.from_torch(networks.Residual(3))
    for model in (ours, copy.copy(ours), pickle.loads(pickle.dumps(ours))):
        assert str(model).startswith("Residual(\n")
        assert model.caption() == "Residual"
        total = tg.summary(model, np.ones((2, 3), np.float32)).total
        assert total.cells()[:3] == ["total", "Residual", "(2, 3)"]
        with pytest.raises(ValueError, match="must be those of this Residual"):
            model.load_state_dict({})
    y = ours(np.ones((2, 3), np.float32))
    assert tg.draw(y, open=["Residual"]).source != tg.draw(y, open=[]).source


def test_the_example_names_the_redundant_biases_and_draws_one(torch, tmp_path, capsys):
    importlib.import_module("from_pytorch").main(["--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "`0.bias` feeds batch norm `1`" in printed
    assert "`3.fc.bias` feeds batch norm `3.bn`" in printed
    assert "contribution to dloss/d0.bias" in printed
    now = (tmp_path / "from_pytorch.svg").read_text("utf-8")
    assert "weight = γ" in now
    # The picture of the README says the same about every box and arrow.
    shown = (ROOT / "examples/pictures/from_pytorch.svg").read_text("utf-8")
    rules = re.compile('data-rule="[^"]*"')
    assert rules.findall(now) == rules.findall(shown)


# --- What is refused ------------------------------------------------------------------


def problems(convert, module):
    """The lines of the error that list what cannot be converted."""
    with pytest.raises(TypeError) as caught:
        convert(module)
    return [line[2:] for line in str(caught.value).splitlines() if line[:2] == "  "]


def test_one_error_lists_everything_that_cannot_be_converted(torch, networks):
    tnn = torch.nn
    block = networks.Forward(
        lambda self, x: torch.softmax(self.fc(x), dim=1).exp() + torch.softmax(x, 0),
        fc=tnn.Linear(4, 4),
        conv=tnn.Conv1d(1, 1, 1),
    )
    net = tnn.Sequential(tnn.Conv2d(1, 1, 3), tnn.ReLU(), block, tnn.GELU())
    assert problems(tg.from_torch, net) == [
        "0: Conv2d has no counterpart",
        "2.conv: Conv1d has no counterpart",
        "2.forward: torch.softmax has no counterpart",
        "2.forward: .exp() has no counterpart",
        "3: GELU has no counterpart",
    ]


def test_the_error_lists_what_can_be_converted_only_if_something_has_no_counterpart(
    torch,
):
    bfloat16 = torch.nn.Linear(2, 2, bias=False).bfloat16()
    with pytest.raises(TypeError) as error:
        tg.from_torch(bfloat16)
    assert str(error.value) == (
        "from_torch: every part must be convertible, but these are not:\n"
        "  weight: torch.bfloat16 on cpu, which this engine cannot hold; call .float() "
        "first"
    )
    with pytest.raises(TypeError) as error:
        tg.from_torch(torch.nn.Sequential(torch.nn.GELU(), bfloat16))
    text = str(error.value)
    assert "0: GELU has no counterpart\n  1.weight: torch.bfloat16" in text
    assert "\nIt can convert Sequential, ModuleList, Linear, " in text
    assert "sum. Replace modules and functions that are not among these" in text


FORWARDS = {
    "lambda self, x: x if x.sum() > 0 else -x": "cannot be traced: ",
    "lambda self, x: torch.add(x, x, alpha=2)": "torch.add: got an unexpected keyword",
    "lambda self, x: x.sum(dtype=torch.float64)": "uses torch.float64, a dtype",
    "lambda self, x: x.T": "builtins.getattr",
    "lambda self, x: x[[0, 1]]": "an index other than numbers and slices: [0, 1]",
    "lambda self, x: x + self.fc.weight": "uses self.fc.weight, which is no parameter",
    "lambda self, x: x + self.tensor": "uses self.tensor, which is no parameter",
    "lambda self, x: x + torch.ones(3)": "uses a tensor made in it, which is no",
    "lambda self, x: x + self.count": "computes with self.count, which is torch.int64",
    "lambda self, x: self.fc(input=x)": "calls self.fc with keywords: input",
    "lambda self, x: x ** 2": "operator.pow",
    "lambda self, x: torch.nn.functional.gelu(x)": "torch.nn.functional.gelu",
    "lambda self, x: torch.nn.functional.dropout(x, 0.5, self.training)": "differs",
    # Written in place, and read afterwards.
    "lambda self, x: self.relu_(x) + x": "add reads x after relu_ overwrote it",
    "lambda self, x: x.relu_() + x": "add reads x after relu_ overwrote it",
    "lambda self, x: (x.view(-1).relu_(), x)": "output reads x after relu_ overwrote",
    "lambda self, x: torch.relu_(self.buffer) + x": "overwrites self.buffer",
    "lambda self, x: [h := self.fc(x), v := h[0], h.add_(1), v][-1]": "output reads "
    "getitem after add_ overwrote it",
    "lambda self, x: [h := self.fc(x), h.add_(1), h.relu_()][-1]": "relu_ reads fc "
    "after add_ overwrote it",
    "lambda self, x: self.in_place(x) + x": "add reads x after in_place overwrote it",
    "lambda self, x: self.passing(x).relu_() + x": "add reads x after relu_ overwrote",
}


@pytest.mark.parametrize("forward", FORWARDS)
def test_a_forward_that_would_compute_something_else_is_refused(
    torch, networks, forward
):
    tnn = torch.nn
    net = networks.Forward(
        eval(forward, {"torch": torch}),
        fc=tnn.Linear(3, 3),
        tensor=torch.ones(3),
        relu_=tnn.ReLU(inplace=True),
        in_place=tnn.Sequential(tnn.Identity(), tnn.Flatten(0), tnn.ReLU(inplace=True)),
        passing=tnn.Sequential(tnn.Dropout(0.5), tnn.Sequential()),
    )
    net.register_buffer("count", torch.zeros((), dtype=torch.int64))
    net.register_buffer("buffer", torch.zeros(3))
    first, *_ = problems(tg.from_torch, torch.nn.Sequential(net))
    assert first.startswith("0.forward: " + FORWARDS[forward])


IN_PLACE = [
    "lambda self, x: self.fc(x).relu_() + x",
    "lambda self, x: self.relu_(self.fc(x)).view(-1) + x.view(-1)",
    "lambda self, x: self.fresh(x).relu_() + x",
    "lambda self, x: self.residual(x) + x",
    "lambda self, x: [h := self.fc(x), h.sub_(h.mean(0)) + h.size(0)][1] + x",
    "lambda self, x: self.fc(x).view(-1).relu_().view(x.shape) + x",
]


@pytest.mark.parametrize("forward", IN_PLACE)
def test_writing_in_place_is_allowed_where_nothing_reads_the_old_values(
    torch, networks, forward
):
    tnn = torch.nn
    torch.manual_seed(0)
    net = networks.Forward(
        eval(forward),
        fc=tnn.Linear(3, 3),
        relu_=tnn.ReLU(inplace=True),
        fresh=tnn.Sequential(tnn.Identity(), tnn.Linear(3, 3)),
        residual=networks.Residual(3),
    ).double()
    x = np.random.default_rng(0).standard_normal((4, 3))
    assert_same(tg.from_torch(net), net, [x])


def test_a_forward_that_disables_gradients_is_refused(torch, networks):
    def forward(self, x):
        with torch.no_grad():
            y = self.fc(x)
        return x + y

    net = networks.Forward(forward, fc=torch.nn.Linear(3, 3))
    assert problems(tg.from_torch, net) == [
        "forward: cannot be traced: it switches gradients off"
    ]
    with torch.no_grad():
        assert tg.from_torch(networks.Residual(3)).fc1.bias.requires_grad


def test_operators_in_place_are_recorded_as_such(torch, networks):
    def forward(self, x):
        h = self.fc(x)
        before = h
        h += x
        return before * 1

    def harmless(self, x):
        h = self.fc(x)
        h += x
        h -= h.mean(0)
        h *= 2
        h /= 3
        return h

    net = networks.Forward(forward, fc=torch.nn.Linear(3, 3)).double()
    (problem,) = problems(tg.from_torch, net)
    assert problem == "forward: mul reads fc after iadd overwrote it"
    net = networks.Forward(harmless, fc=torch.nn.Linear(3, 3)).double()
    x = np.random.default_rng(0).standard_normal((4, 3))
    ours = tg.from_torch(net)
    assert_same(ours, net, [x])
    assert "+=" in tg.to_torch(ours).code


def test_an_error_without_text_is_called_by_its_type(networks):
    net = networks.Forward(lambda self, x: next(iter(())))
    assert problems(tg.from_torch, net) == ["forward: cannot be traced: StopIteration"]


def test_a_forward_assigned_to_an_object_is_refused(networks):
    net = networks.Residual(3)
    net.forward = lambda x: x
    assert problems(tg.from_torch, net) == [
        "forward: it belongs to the object, but must belong to its class"
    ]


def test_a_forward_that_depends_on_the_mode_is_refused(networks):
    (problem,) = problems(tg.from_torch, networks.DiffersByMode())
    assert problem == (
        "forward: differs between training and evaluation; let modules such as "
        "nn.Dropout do that"
    )


def test_optional_inputs_are_refused(torch):
    class Optional(torch.nn.Module):
        def forward(self, x, scale=2.0, *rest):
            return x * scale

    assert problems(tg.from_torch, Optional()) == [
        "forward: the input 'scale' is optional; remove it or its default",
        "forward: the input '*rest' is optional; remove it or its default",
    ]


@pytest.mark.parametrize(
    ("dtype", "remedy"), [("bfloat16", "; call .float() first"), ("complex64", "")]
)
def test_dtypes_that_numpy_lacks_are_refused(torch, dtype, remedy):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2, dtype=getattr(torch, dtype)))
    reason = f"torch.{dtype} on cpu, which this engine cannot hold{remedy}"
    assert problems(tg.from_torch, net) == [f"0.weight: {reason}", f"0.bias: {reason}"]


def test_parameters_without_values_are_refused(torch):
    net = torch.nn.Linear(2, 2, bias=False, device="meta")
    assert problems(tg.from_torch, net) == [
        "weight: torch.float32 on meta, which this engine cannot hold"
    ]


def test_half_precision_is_converted(torch):
    net = torch.nn.Linear(2, 2, dtype=torch.float16)
    assert tg.from_torch(net).weight.dtype == np.float16


def test_hooks_parametrizations_and_lost_members_are_refused(torch):
    tnn = torch.nn
    hooked, normed, extended = tnn.Linear(2, 2), tnn.Linear(2, 2), tnn.Linear(2, 2)
    hooked.register_forward_hook(lambda module, x, y: 2 * y)
    tnn.utils.parametrizations.weight_norm(normed)
    extended.extra = tnn.Parameter(torch.ones(2))
    assert problems(tg.from_torch, hooked) == [
        "the module: Linear with hooks; remove them"
    ]
    (problem,) = problems(tg.from_torch, normed)
    assert problem == (
        "the module: ParametrizedLinear with parametrizations; make it plain with "
        "torch.nn.utils.parametrize.remove_parametrizations"
    )
    tnn.utils.parametrize.remove_parametrizations(normed, "weight")
    assert_same_state(tg.from_torch(normed), normed)
    untracked = tnn.BatchNorm1d(2)
    untracked.track_running_stats = False
    replaced = tnn.ReLU()
    replaced.forward = lambda x: x
    net = tnn.Sequential(
        tnn.LazyLinear(3), untracked, tnn.BatchNorm1d(2, momentum=2.0), replaced,
        tnn.LayerNorm((2, 2)),
    )  # fmt: skip
    lines = problems(tg.from_torch, net)
    assert lines[0] == "0: LazyLinear without sizes; call it once"
    assert lines[1] == "1: BatchNorm whose track_running_stats was changed afterwards"
    assert lines[2].startswith("2: momentum, the weight of the new batch, must")
    assert lines[3] == "3: ReLU with another forward; convert the original"
    assert lines[4] == "4: LayerNorm over more than the last axis"
    # Unused members are converted, too.
    assert tg.from_torch(extended).extra.requires_grad


# PyTorch warns about itself when it imports its compiler.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_of_a_module_that_wraps_another_the_error_says_where_the_other_is(torch):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    compiled, parallel = torch.compile(net), torch.nn.DataParallel(net)
    averaged = torch.optim.swa_utils.AveragedModel(net)
    wrappers = torch.nn.Sequential(compiled, parallel, averaged)
    assert problems(tg.from_torch, wrappers) == [
        "0: OptimizedModule; convert the module inside, ._orig_mod",
        "1: DataParallel; convert the module inside, .module",
        "2: AveragedModel; convert the module inside, .module",
    ]
    for wrapped in (compiled._orig_mod, parallel.module):
        assert_same_state(tg.from_torch(wrapped), net)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (
            lambda self, x: x if x.sum() > 0 else -x,
            "symbolically traced variables cannot be used as inputs to control flow",
        ),
        (lambda self, x: sum(x), "Proxy object cannot be iterated"),
    ],
)
def test_a_forward_that_depends_on_a_tensor_in_python_is_refused_with_a_remedy(
    networks, forward, reason
):
    (problem,) = problems(tg.from_torch, networks.Forward(forward))
    assert problem == (
        f"forward: cannot be traced: {reason}; no if, loop or unpacking may depend on "
        "a tensor"
    )


def test_members_that_exist_on_one_side_only_are_refused(torch):
    class Counting(torch.nn.Tanh):
        def get_extra_state(self):
            return 1

    fc = torch.nn.Linear(2, 2)
    weight = fc.weight.detach()
    del fc.weight
    fc.weight = weight
    assert problems(tg.from_torch, torch.nn.Sequential(fc, Counting())) == [
        "0.weight: exists on one side only",
        "1._extra_state: exists on one side only",
    ]


def test_a_parameter_in_two_layouts_is_refused(torch, networks):
    fc = torch.nn.Linear(3, 3)
    net = networks.Forward(lambda self, x: x * self.p + self.fc(x), fc=fc, p=fc.weight)
    (line,) = problems(tg.from_torch, net)
    assert line == "fc.weight: shared with a linear layer, which needs its transpose"


def test_members_whose_names_mean_something_here_are_refused(torch, networks):
    net = networks.Forward(lambda self, x: x, caption=torch.nn.Linear(2, 2))
    assert problems(tg.from_torch, net) == [
        "caption: a name with another meaning here; rename it"
    ]


def test_a_buffer_in_place_of_a_parameter_is_refused(torch):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    for layer in net:
        weight = layer.weight.detach()
        del layer.weight
        layer.register_buffer("weight", weight)
    reason = "a buffer, but this engine has a parameter there"
    assert problems(tg.from_torch, net) == [
        f"0.weight: {reason}",
        f"1.weight: {reason}",
    ]
    ours = nn.Linear(2, 2)
    ours.weight = None
    ours.weight = np.ones((2, 2))
    assert problems(tg.to_torch, ours) == [
        "weight: PyTorch has something else under 'weight'"
    ]


def test_two_members_with_one_name_in_pytorch_are_refused(torch):
    model = nn.Sequential(nn.BatchNorm(3), nn.BatchNorm(3), nn.BatchNorm(3))
    model[0].weight = Tensor(np.full(3, 7.0), requires_grad=True)
    model[1].num_batches_tracked = np.zeros(())
    model[2].bias = nn.Identity()
    model.half = Tensor(np.ones(3))
    counter = "'num_batches_tracked'"
    assert problems(tg.to_torch, model) == [
        "0.weight: called 'weight' in PyTorch, but so is 'gamma'",
        f"1.updates: called {counter} in PyTorch, but so is {counter}",
        "2.bias: called 'bias' in PyTorch, but so is 'beta'",
        "half: PyTorch has something else under 'half'",
    ]


def test_errors_describe_a_tensor_of_pytorch_by_its_type_and_shape(torch):
    layer = torch.nn.Linear(2, 3)
    with pytest.raises(TypeError) as error:
        optim.SGD(layer.parameters(), lr=0.1)
    assert str(error.value) == (
        "SGD: parameters must be leaves that require a gradient, but "
        "torch.nn.parameter.Parameter(3, 2) is not. Pass module.parameters()."
    )
    with pytest.raises(TypeError) as error:
        tg.draw(layer(torch.ones(4, 2)).sum())
    assert str(error.value) == (
        "draw: the output must be a tensor, but torch.Tensor (scalar) was received."
    )
    with pytest.raises(ValueError) as error:
        tg.explain(Tensor(1.0, requires_grad=True) * 2, layer.bias)
    assert str(error.value) == (
        "explain(y, leaf): the leaf must be a tensor that requires a gradient, but "
        "torch.nn.parameter.Parameter(3,) was received. Pass a parameter of the model "
        "itself, such as model[0].weight."
    )


def test_anything_but_a_module_is_refused(torch):
    ours, theirs = nn.Linear(2, 2), torch.nn.Linear(2, 2)
    called = "torch.nn.modules.linear.Linear"
    calls = [
        (
            lambda: tg.from_torch(ours),
            (
                "from_torch(module): a torch.nn.Module must be given, but Linear was "
                "received. It belongs to this engine and needs no conversion."
            ),
        ),
        (
            lambda: tg.from_torch(torch.nn.ReLU),
            (
                "from_torch(module): a torch.nn.Module must be given, but type was "
                "received."
            ),
        ),
        (
            lambda: tg.to_torch(theirs),
            (
                "to_torch(model): a module of this engine must be given, but "
                f"{called} was received."
            ),
        ),
        (
            lambda: tg.check_redundant(theirs, torch.ones(3, 2)),
            (
                "check_redundant(model, x): a module and one batch of inputs must be "
                f"given, but {called} and torch.Tensor were received. tg.from_torch "
                "converts modules of PyTorch."
            ),
        ),
    ]
    for call, message in calls:
        with pytest.raises(TypeError) as error:
            call()
        assert str(error.value) == message


def test_one_error_lists_everything_that_cannot_go_to_pytorch(torch):
    class Own(nn.Module):
        def forward(self, x):
            return x

    listing = nn.ModuleList([nn.ReLU()])
    listing.others = [nn.Tanh()]
    model = nn.Sequential(
        Own(), nn.BatchNorm(2, constants=("mean",)), nn.BatchNorm(2, axes=(0, 1)),
        nn.Linear(2, 2, dtype=np.longdouble), listing, nn.BatchNorm(2, axes=(-2,)),
    )  # fmt: skip
    assert problems(tg.to_torch, model) == [
        "0: Own, whose forward is its own",
        "1: BatchNorm with constants=('mean',)",
        "2: BatchNorm with axes=(0, 1)",
        f"3.weight: PyTorch has no {np.dtype(np.longdouble)!r}",
        f"3.bias: PyTorch has no {np.dtype(np.longdouble)!r}",
        "4.others.0: a member inside a list or a dictionary",
        "5: BatchNorm with axes=(-2,)",
    ]


def test_pytorch_is_imported_only_by_the_bridge():
    code = "import sys, tinygrad_bn; assert 'torch' not in sys.modules"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
