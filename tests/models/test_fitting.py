"""State dicts with prefixes and leftovers, fitted to the networks whose weights they hold."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from filterbands import SpectralNoise
from filterbands.filters import analyze
from filterbands.models import load_model, read_weights
from filterbands.models.fitting import fit

State = dict[str, Tensor]


def _state() -> State:
    state = load_model(arch="fastnet").state_dict()
    return {name: torch.randn(tensor.shape).to(tensor.dtype) for name, tensor in state.items()}


def _under(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": tensor for name, tensor in state.items()}


FORMS: dict[str, tuple[Callable[[State], State], str]] = {
    "parallel": (_under("module."), ""),
    "compiled inside Lightning": (_under("model._orig_mod."), ""),
    "compiled and parallel": (_under("module._orig_mod.net.backbone."), ""),
    "a name nobody lists": (_under("my_student.trunk."), ""),
    "behind SpectralNoise": (_under("1."), ""),
    "averaged": (lambda state: {"n_averaged": torch.tensor(3), **_under("module.")(state)}, "n_averaged"),
    "with its loss": (
        lambda state: {**_under("model.")(state), "criterion.weight": torch.ones(10)},
        "criterion.weight",
    ),
    "profiled": (
        lambda state: {**state, "total_ops": torch.zeros(1), "conv1.total_params": torch.zeros(1)},
        "total_ops, conv1.total_params",
    ),
    "self-supervised": (
        lambda state: {**_under("encoder.")(state), "projector.0.weight": torch.ones(9, 9)},
        "projector.0.weight",
    ),
    "beside its average": (lambda state: {**state, **_under("ema.")(_state())}, "ema.conv1.weight, "),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_prefix_is_found_by_fit_and_what_is_left_is_named(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    change, left = FORMS[form]
    state = _state()
    torch.save(change(state), tmp_path / "file")
    loaded = load_model(tmp_path / "file", arch="fastnet").state_dict()
    torch.testing.assert_close(loaded, state)
    assert sum("left out" in record.getMessage() for record in caplog.records) == bool(left)
    assert f"no place for them: {left}" in caplog.text if left else True


def test_several_prefixes_that_fit_are_named_and_one_is_chosen(tmp_path: Path) -> None:
    student, teacher = _state(), _state()
    torch.save({**_under("student.")(student), **_under("teacher.")(teacher)}, tmp_path / "file")
    with pytest.raises(
        ValueError, match=r"several prefixes .*: student\. and teacher\.; choose one by --prefix"
    ):
        load_model(tmp_path / "file", arch="fastnet")
    for prefix in ("teacher", "teacher.", "module.teacher."):
        loaded = load_model(tmp_path / "file", arch="fastnet", prefix=prefix).state_dict()
        torch.testing.assert_close(loaded, teacher)
    with pytest.raises(
        ValueError, match=r"begins with the prefix pupil\.; they begin with student\., teacher\."
    ):
        load_model(tmp_path / "file", arch="fastnet", prefix="pupil")
    # Shapes decide where names do not.
    wide = dict(load_model(arch="fastnet_wide").state_dict())
    torch.save({**_under("student.")(student), **_under("teacher.")(wide)}, tmp_path / "file")
    torch.testing.assert_close(load_model(tmp_path / "file", arch="fastnet").state_dict(), student)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # A deeper network of the same kind holds all that a shallower one needs.
        (
            lambda state: {**state, "group1.conv9.weight": torch.ones(4, 4, 3, 3)},
            "also has group1.conv9.weight",
        ),
        (lambda state: {**state, "conv1.bias": torch.ones(1)}, "also has conv1.bias"),
        (lambda state: {name: one for name, one in state.items() if name != "bn1.bias"}, "lacks bn1.bias"),
        (
            lambda state: _under("net.")({name: one for name, one in state.items() if name != "bn1.bias"}),
            r"lacks bn1.bias \(names without the prefix net.\)",
        ),
        (lambda state: {**state, "bn1.bias": torch.ones(3)}, r"bn1.bias is \(3,\), not \(24,\)"),
    ],
)
def test_weights_of_another_network_are_refused_in_one_line(
    change: Callable[[State], State], message: str, tmp_path: Path
) -> None:
    torch.save(change(_state()), tmp_path / "file")
    with pytest.raises(ValueError, match=f"does not fit fastnet.*{message}") as caught:
        load_model(tmp_path / "file", arch="fastnet")
    assert "\n" not in str(caught.value)


def test_a_deeper_networks_file_is_no_shallower_networks(tmp_path: Path) -> None:
    torch.save(load_model(arch="cifar_resnet32").state_dict(), tmp_path / "file")
    with pytest.raises(ValueError, match=r"also has layer1\.3\.conv1\.weight"):
        load_model(tmp_path / "file", arch="cifar_resnet20")


CODE = """
import torch
from filterbands import load_model, SpectralNoise
def net():
    return torch.nn.DataParallel(torch.nn.Sequential(SpectralNoise(), load_model(arch="fastnet")))
"""


def test_the_network_may_be_the_one_with_the_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrapping_net.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    state = _state()
    for number, change in enumerate((dict, _under("model."), _under("1."), _under("module.1."))):
        torch.save(change(state), tmp_path / f"{number}.pt")
        loaded = load_model(tmp_path / f"{number}.pt", arch="wrapping_net:net").state_dict()
        torch.testing.assert_close(
            {name.removeprefix("module.1."): one for name, one in loaded.items()}, state
        )


def test_a_state_dict_by_itself_shows_the_names_of_the_network(tmp_path: Path) -> None:
    model = load_model(arch="fastnet")
    names = [layer.name for layer in analyze(model)]
    behind = nn.Sequential(SpectralNoise(), model)
    wrapped = {**_under("model.net.")(model.state_dict()), "criterion.weight": torch.ones(10)}
    for state in (model.state_dict(), behind.state_dict(), AveragedModel(model).state_dict(), wrapped):
        torch.save(state, tmp_path / "file")
        assert [layer.name for layer in analyze(tmp_path / "file")] == names
        assert [layer.name for layer in analyze(read_weights(tmp_path / "file"))] == names
    # These are the layers' own names.
    for names in (
        ["0", "3"],
        ["features.0", "features.3"],
        ["model.conv1", "head.conv"],
        ["model"],
        ["0.0", "0.1"],
    ):
        heap = {f"{name}.weight": torch.randn(4, 3, 3, 3) for name in names}
        assert [layer.name for layer in analyze(heap)] == names


class _Normalized(nn.Module):
    """As people write it: constants that newer files have and older ones lack."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mu", torch.full((1, 3, 1, 1), 0.5))
        self.register_buffer("places", torch.arange(4))
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_constants_that_a_file_lacks_are_the_networks_own_and_statistics_are_not() -> None:
    model = _Normalized()
    state = dict(model.state_dict())
    del state["mu"], state["places"]
    found = fit(model, state, prefix=None, where="file")
    assert (found.fits, found.kept) == (True, ["mu", "places"])
    del state["body.1.running_mean"]
    assert fit(model, state, prefix=None, where="file").missing == ["body.1.running_mean"]


def test_an_index_for_which_the_network_has_no_place_is_left_out() -> None:
    model = _Normalized()
    found = fit(
        model, {**model.state_dict(), "body.relative_position_index": torch.arange(9)}, prefix=None, where="f"
    )
    assert (found.fits, found.left) == (True, ["body.relative_position_index"])


def test_one_network_under_two_names_is_one_network() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    state = model.state_dict()
    starts = ("attacker.model.", "model.")
    both = {f"{start}{name}": tensor for start in starts for name, tensor in state.items()}
    assert fit(model, both, prefix=None, where="file").prefix == "model."
    both["model.0.weight"] = both["model.0.weight"] + 1
    with pytest.raises(ValueError, match="fits with several prefixes before its names"):
        fit(model, both, prefix=None, where="file")


def test_a_frozen_norm_keeps_nothing_of_its_own_in_place_of_what_a_file_lacks() -> None:
    class Frozen(nn.Module):
        """As of torchvision's detectors: a batch norm of buffers alone."""

        def __init__(self) -> None:
            super().__init__()
            for name in ("weight", "bias", "running_mean", "running_var"):
                self.register_buffer(name, torch.ones(4))

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Frozen())
    state = dict(model.state_dict())
    del state["1.running_var"]
    assert fit(model, state, prefix=None, where="file").missing == ["1.running_var"]
