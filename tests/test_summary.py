"""``summary``: the modules of a model, the shapes they make, and their parameters."""

import numpy as np
import pytest
from conftest import Net

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn

X = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)


def test_a_summary_is_a_table_of_modules():
    model = nn.Sequential(nn.Linear(3, 400), nn.BatchNorm(400), nn.Linear(400, 10))
    model[0].weight.requires_grad = False
    assert str(tg.summary(model, X)) == (
        "name   module      output     parameters  trainable\n"
        "0      Linear      (16, 400)       1,600        400\n"
        "1      BatchNorm   (16, 400)         800        800\n"
        "2      Linear      (16, 10)        4,010      4,010\n"
        "total  Sequential  (16, 10)        6,410      5,210"
    )
    assert repr(tg.summary(model, Tensor(X))) == str(tg.summary(model, X))


def test_a_notebook_shows_the_summary_as_html():
    model = Net(lambda net, x: net.first(x), first=nn.Linear(3, 4))
    text = tg.summary(model, X)._repr_html_()
    assert text.startswith('<table><tr><th style="text-align:left">name</th>')
    assert text.count("<tr>") == 3
    assert '<td style="text-align:right">16</td>' in text
    hostile = Net(lambda net, x: net.__dict__["<b>"](x), **{"<b>": nn.ReLU()})
    assert "&lt;b&gt;" in tg.summary(hostile, X)._repr_html_()


def test_shared_modules_and_tensors_are_counted_once():
    cell, weight = nn.Linear(3, 3), Tensor(np.ones((3, 2)), requires_grad=True)
    model = Net(
        lambda net, x: net.cell(net.cell(net.again(x))) @ net.weight,
        cell=cell, again=cell, weight=weight, tied=weight,
        spare=nn.Linear(2, 2, bias=False),
    )  # fmt: skip
    summary = tg.summary(model, X)
    assert [row.cells() for row in summary.rows] == [
        ["", "Net", "(16, 2)", "6", "6"],
        ["cell", "Linear", "(16, 3), 3 calls", "12", "12"],
        ["spare", "Linear", "not called", "4", "4"],
    ]
    assert (summary.total.parameters, summary.total.trainable) == (22, 22)


def test_a_tensor_tied_between_modules_is_counted_where_it_comes_first():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    summary = tg.summary(model, X)
    assert [row.parameters for row in summary.rows] == [12, 3]
    assert summary.total.parameters == 15


def test_a_module_may_return_several_tensors():
    model = Net(lambda net, x: net.pair(x)[0], pair=Net(lambda net, x: (x, x[0])))
    (row,) = tg.summary(model, X).rows
    assert row.output == "(16, 3), (3,)"


def test_a_module_may_return_a_dictionary_of_tensors():
    model = Net(lambda net, x: {"all": x, "first": x[0]})
    assert tg.summary(model, X).total.output == "all: (16, 3), first: (3,)"


@pytest.mark.parametrize("mode", [True, False])
def test_a_summary_changes_nothing_in_the_model(mode):
    rng = np.random.default_rng(0)

    def forward(net, x):
        net.last = net.body(x) + net.rng.standard_normal()
        net.history.append(net.last)
        return net.last

    body = nn.Sequential(nn.Linear(3, 4, rng=0), nn.BatchNorm(4))
    model = Net(forward, body=body, rng=rng, history=[]).train(mode)
    model(Tensor(X)).sum().backward()
    state, drawn = model.state_dict(), rng.bit_generator.state
    grads = [p.grad.copy() for p in model.parameters()]
    last, members = model.last, dict(vars(model))
    tg.summary(model, X)
    tg.check_redundant(model.train(), X)
    model.train(mode)
    assert model.last is last and len(model.history) == 1
    assert rng.bit_generator.state == drawn and model.rng is rng
    assert vars(model).keys() == members.keys() and "forward" not in vars(body)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, state[name])
    for p, grad in zip(model.parameters(), grads):
        np.testing.assert_array_equal(p.grad, grad)
    assert {m.training for m in model.modules()} == {mode}


def test_the_graph_behind_a_stored_activation_is_not_copied():
    layers = [layer for _ in range(200) for layer in (nn.Linear(3, 3), nn.Tanh())]
    model = Net(
        lambda net, x: vars(net).update(stored={"h": [net.body(x)]}) or net.stored["h"],
        body=nn.Sequential(*layers),
    )
    model(Tensor(X))
    assert not model.stored["h"][0].is_leaf
    assert tg.summary(model, X).total.parameters == 200 * 12


def test_anything_but_a_module_is_refused():
    with pytest.raises(TypeError) as error:
        tg.summary(X, X)
    assert str(error.value) == (
        "summary(model, x): a module and one batch of inputs must be given, but "
        "numpy.ndarray and numpy.ndarray were received. tg.from_torch converts modules "
        "of PyTorch."
    )
