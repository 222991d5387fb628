"""Files with PyTorch's names and layout, and states that come from PyTorch."""

import sys

import numpy as np
import pytest

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn

safetensors = pytest.importorskip("safetensors.numpy")


def network(seed=0):
    """A square weight, which does not show its layout, and one that does."""
    rng = np.random.default_rng(seed)
    model = nn.Sequential(
        nn.Linear(3, 3, rng=rng), nn.BatchNorm(3), nn.ReLU(), nn.LayerNorm(3),
        nn.Linear(3, 2, rng=rng),
    )  # fmt: skip
    model(rng.standard_normal((5, 3)).astype(np.float32))
    for parameter in model.parameters():
        parameter.data += rng.standard_normal(parameter.shape).astype(np.float32)
    return model


def same_state(model, other):
    state, others = model.state_dict(), other.state_dict()
    return state.keys() == others.keys() and all(
        np.array_equal(values, others[name]) for name, values in state.items()
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


# --- Files ----------------------------------------------------------------------------


def test_a_file_has_the_names_and_the_layout_of_pytorch(path):
    model = network()
    tg.save(path, model)
    arrays = safetensors.load_file(path)
    assert {name: array.shape for name, array in arrays.items()} == {
        "0.weight": (3, 3), "0.bias": (3,),
        "1.weight": (3,), "1.bias": (3,), "1.running_mean": (3,), "1.running_var": (3,),
        "1.num_batches_tracked": (), "3.weight": (3,), "3.bias": (3,),
        "4.weight": (2, 3), "4.bias": (2,),
    }  # fmt: skip
    weight = model[0].weight.data
    assert (weight != weight.T).any()
    np.testing.assert_array_equal(arrays["0.weight"], weight.T)
    np.testing.assert_array_equal(arrays["4.weight"], model[4].weight.data.T)
    np.testing.assert_array_equal(arrays["1.weight"], model[1].gamma.data)
    np.testing.assert_array_equal(arrays["3.bias"], model[3].beta.data)
    np.testing.assert_array_equal(arrays["1.running_var"], model[1].running_var)
    assert arrays["1.num_batches_tracked"] == 1


def test_a_file_restores_a_module(path):
    model, other = network(), network(seed=1)
    tg.save(path, model)
    assert not same_state(model, other)
    other.load_state_dict(tg.load(path))
    assert same_state(model, other)


def test_a_part_of_a_loaded_state_keeps_its_layout(path):
    model, other = network(), nn.Linear(3, 3)
    tg.save(path, model)
    state = tg.load(path)
    other.load_state_dict({name: state[f"0.{name}"] for name in ("weight", "bias")})
    np.testing.assert_array_equal(other.weight.data, model[0].weight.data)


def test_user_modules_and_shared_modules_are_saved_under_all_their_names(path):
    class Own(nn.Module):
        def __init__(self):
            self.matrix = Tensor(np.arange(4.0).reshape(2, 2), requires_grad=True)
            self.blocks = [nn.Linear(2, 2, rng=0)]
            self.again = self.blocks[0]

    model = Own()
    tg.save(path, model)
    arrays = safetensors.load_file(path)
    np.testing.assert_array_equal(arrays["matrix"], model.matrix.data)
    for name in ("blocks.0.weight", "again.weight"):
        np.testing.assert_array_equal(arrays[name], model.again.weight.data.T)
    other = Own()
    other.again.weight.data = np.zeros((2, 2), np.float32)
    other.load_state_dict(tg.load(path))
    assert same_state(model, other)


def test_an_array_in_another_memory_order_is_saved_by_value(path):
    model = nn.Sequential(nn.Linear(3, 3, rng=0))
    by_columns = np.asfortranarray(model[0].weight.data)
    model[0].weight._move_to(by_columns, np.empty_like(by_columns))
    model.swapped = Tensor(np.arange(3.0).astype(">f8"), requires_grad=True)
    tg.save(path, model)
    arrays = safetensors.load_file(path)
    np.testing.assert_array_equal(arrays["0.weight"], by_columns.T)
    np.testing.assert_array_equal(arrays["swapped"], [0, 1, 2])


@pytest.mark.slow
def test_pytorch_loads_the_file_and_computes_the_same(torch, path):
    import safetensors.torch

    model = network().eval()
    tg.save(path, model)
    theirs = torch.nn.Sequential(
        torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3), torch.nn.ReLU(),
        torch.nn.LayerNorm(3), torch.nn.Linear(3, 2),
    ).eval()  # fmt: skip
    theirs.load_state_dict(safetensors.torch.load_file(path))
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    y = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(model(x).data, y, 1e-6, 1e-6)

    safetensors.torch.save_file(theirs.double().state_dict(), path)
    other = tg.from_torch(theirs)
    other[0].weight.data = np.zeros((3, 3))
    other.load_state_dict(tg.load(path))
    np.testing.assert_array_equal(other(x).data, tg.from_torch(theirs)(x).data)


def test_an_existing_file_stays_whole_when_saving_fails(path, monkeypatch):
    tg.save(path, network())
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda file: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tg.save(path, network(seed=1))
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize(
    "arguments, state, received",
    [
        ((), {"model": network().state_dict()}, "Received: model."),
        ((network(),), {"epoch": 3}, "Received: Sequential, epoch."),
        ((network().state_dict(),), {}, "Received: dict."),
        ((), {}, "Received: nothing."),
    ],
)
def test_a_file_contains_one_module_and_nothing_else(path, arguments, state, received):
    with pytest.raises(
        TypeError, match="contains one module and nothing else"
    ) as error:
        tg.save(path, *arguments, **state)
    assert received in str(error.value)
    assert not path.exists()


def test_files_of_other_formats_do_not_accept_a_module(tmp_path):
    with pytest.raises(TypeError, match=r"only a \.safetensors file takes a module"):
        tg.save(tmp_path / "net.npz", network())


def test_damaged_and_missing_files_are_reported(path):
    with pytest.raises(FileNotFoundError, match="there must be a checkpoint at"):
        tg.load(path)
    tg.save(path, network())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="must be a whole checkpoint"):
        tg.load(path)


def test_a_dtype_that_numpy_does_not_have_is_named(path):
    header = b'{"w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    with pytest.raises(ValueError, match=r"values of dtype 'BF16', .* with .float\(\)"):
        tg.load(path)


def test_without_the_package_the_error_names_it(path, monkeypatch):
    tg.save(path, network())
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for use in (lambda: tg.save(path, network()), lambda: tg.load(path)):
        with pytest.raises(ModuleNotFoundError, match="pip install safetensors"):
            use()


def test_arrays_in_the_layout_of_pytorch_are_not_saved_in_an_npz_file(path):
    tg.save(path, network())
    with pytest.raises(TypeError, match="PyTorchArray"):
        tg.save(path.with_suffix(".npz"), model=tg.load(path))


# --- States ---------------------------------------------------------------------------


@pytest.mark.slow
def test_tensors_of_pytorch_are_transposed_and_renamed(torch):
    model, other = network(), network(seed=1)
    state = {
        entry.theirs: torch.tensor(
            np.asarray(entry.values).T if entry.transposed else np.asarray(entry.values)
        )
        for entry in model._entries()
    }
    other.load_state_dict(state)
    assert same_state(model, other)
    state["0.weight"] = torch.nn.Parameter(state["0.weight"])
    other.load_state_dict(state)
    assert same_state(model, other)


def test_a_plain_dictionary_of_arrays_has_the_layout_of_this_engine():
    model, other = network(), network(seed=1)
    other.load_state_dict(model.state_dict())
    assert same_state(model, other)


def test_a_weight_that_would_only_fit_transposed_is_refused(path):
    model = network()
    before = model.state_dict()
    state = model.state_dict()
    state["4.weight"] = state["4.weight"].T.copy()
    expected = (
        r"4\.weight: expected \(3, 2\) float32, received \(2, 3\) float32, its tra"
    )
    with pytest.raises(ValueError, match=expected):
        model.load_state_dict(state)
    # Nor is an array in PyTorch's layout that was already transposed.
    tg.save(path, model)
    state = tg.load(path)
    state["4.weight"] = state["4.weight"].T
    with pytest.raises(ValueError, match=expected):
        model.load_state_dict(state)
    assert all((before[name] == v).all() for name, v in model.state_dict().items())


def test_a_mixture_of_arrays_and_tensors_is_refused(path):
    model = network()
    tg.save(path, model)
    state = tg.load(path) | {"0.bias": model[0].bias.data}
    with pytest.raises(TypeError, match=r"but \['0\.bias'\] are plain arrays"):
        model.load_state_dict(state)


def test_names_of_this_engine_are_unexpected_among_values_of_pytorch(path):
    model = network()
    tg.save(path, model)
    state = tg.load(path)
    state["1.gamma"] = state.pop("1.weight")
    with pytest.raises(ValueError, match="missing: 1.gamma; unexpected: 1.gamma "):
        model.load_state_dict(state)


def test_two_members_with_one_name_in_pytorch_are_refused(path):
    tg.save(path, nn.Sequential(nn.BatchNorm(3)))
    state, before = tg.load(path), path.read_bytes()
    model = nn.Sequential(nn.BatchNorm(3))
    model[0].weight = Tensor(np.full(3, 7, np.float32), requires_grad=True)
    message = r"both '0\.gamma' and '0\.weight' are called '0\.weight' there"
    with pytest.raises(ValueError, match=message):
        tg.save(path, model)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(state)
    model.load_state_dict(model.state_dict())


@pytest.mark.slow
def test_tensors_that_numpy_cannot_read_are_refused(torch):
    state = {"weight": torch.ones(2, 2, dtype=torch.bfloat16), "bias": torch.ones(2)}
    with pytest.raises(TypeError, match=r"but 'weight' is torch\.bfloat16"):
        nn.Linear(2, 2).load_state_dict(state)
