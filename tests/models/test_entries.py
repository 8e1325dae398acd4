"""Which entry of a checkpoint is taken is said where others could be meant, and can be chosen."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from filterbands.models import load_model, read_weights


def _state(value: float) -> dict[str, Tensor]:
    return {"conv1.weight": torch.full((2, 3, 3, 3), float(value)), "conv1.bias": torch.zeros(2)}


def _value(file: Path, key: str | None = None) -> float:
    found = read_weights(file, key=key)
    assert set(found) == {"conv1.weight", "conv1.bias"}
    return float(found["conv1.weight"].mean())


def _optimizer() -> dict[str, Any]:
    return {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1}]}


# The entries of a file, the key that is taken (None: that is an error), and the others that hold weights.
FORMS: dict[str, tuple[dict[str, Any], str | None, set[str]]] = {
    "timm": (
        {"state_dict": _state(1), "state_dict_ema": _state(2), "epoch": 3},
        "state_dict",
        {"state_dict_ema"},
    ),
    "yolov5": ({"model": _state(1), "model_ema": _state(2), "ema": None}, "model", {"model_ema"}),
    "dino": (
        {
            "student": _state(1),
            "teacher": _state(2),
            "optimizer": _optimizer(),
            "dino_loss": {"c": _state(3)},
        },
        "teacher",
        {"student", "dino_loss.c"},
    ),
    "ema with a shadow": (
        {"model": _state(1), "ema": {"shadow": _state(2), "decay": 0.9}},
        "model",
        {"ema.shadow"},
    ),
    "two deep": ({"model": {"state_dict": _state(1)}, "optimizer": _optimizer()}, "model.state_dict", set()),
    "three deep": ({"ema": {"model": {"module": _state(1)}}}, "ema.model.module", set()),
    "model_state": ({"model_state": _state(1), "optim_state": _state(5)}, "model_state", set()),
    "ema alone": ({"ema_state_dict": _state(1), "optimizer_state": _state(5)}, "ema_state_dict", set()),
    "a list of one": ({"state_dict": [_state(1)], "best": torch.tensor(0.9)}, "state_dict", set()),
    "an unknown name": ({"my_weights": _state(1), "optimizer": _optimizer()}, "my_weights", set()),
    "numbers beside": (
        {"my_weights": _state(1), "stats": {"accuracy": torch.tensor(1.0)}},
        "my_weights",
        set(),
    ),
    "gan": ({"generator": _state(1), "discriminator": _state(2)}, None, {"generator", "discriminator"}),
    "a wrapper without weights": ({"model": {"name": "x"}, "ema": _state(1)}, "ema", set()),
    "plain": (_state(1), "", set()),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_entry_that_is_taken_is_said_where_others_hold_weights(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content, taken, others = FORMS[form]
    file = tmp_path / "net.pth"
    torch.save(content, file)
    with caplog.at_level(logging.WARNING):
        if taken is None:
            with pytest.raises(ValueError, match=r"has several entries that may be the weights") as caught:
                read_weights(file)
            assert "\n" not in str(caught.value)
            assert all(key in str(caught.value) for key in others)
            assert "--key" in str(caught.value)
        else:
            assert _value(file) == (2 if form == "dino" else 1)
            assert _value(file, taken) == (2 if form == "dino" else 1)
            assert len(caplog.messages) == (1 if others else 0)
    for line in caplog.messages:
        assert f"weights are those of {taken};" in line
        assert set(line.rpartition(": ")[2].split(", ")) == others
    for key in others:
        assert _value(file, key) in (1, 2, 3)
        assert len(caplog.messages) == (1 if taken is not None else 0)


def test_a_key_of_a_wrapper_opens_what_is_in_it(tmp_path: Path) -> None:
    torch.save({"model": _state(1), "ema": {"shadow": _state(2), "decay": 0.9}}, tmp_path / "net.pt")
    assert _value(tmp_path / "net.pt", "ema") == 2
    torch.save({**_state(1), "model": _state(2)}, tmp_path / "both.pt")
    assert _value(tmp_path / "both.pt") == 2
    assert _value(tmp_path / "both.pt", "") == 1


def test_weights_are_found_however_deep_they_lie(tmp_path: Path) -> None:
    torch.save({"a": {"b": {"c": {"d": _state(1)}}}, "lr": torch.tensor(0.1)}, tmp_path / "net.pt")
    assert _value(tmp_path / "net.pt") == 1
    assert _value(tmp_path / "net.pt", "a.b.c.d") == 1
    torch.save({"net": _state(1), "a": {"b": {"c": {"d": _state(2)}}}}, tmp_path / "both.pt")
    assert _value(tmp_path / "both.pt") == 1
    assert _value(tmp_path / "both.pt", "a.b.c.d") == 2


@pytest.mark.parametrize("name", ["params", "state_dict", "weights"])
def test_settings_with_one_axis_hide_no_weights(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for taken in ("module", "net", "my_weights"):
        torch.save({name: {"lr": torch.tensor([0.1, 0.2])}, taken: _state(1)}, tmp_path / f"{taken}.pt")
        assert _value(tmp_path / f"{taken}.pt") == 1
        assert caplog.messages[-1].endswith(
            f"the weights are those of {taken}; --key (key=) takes others: {name}"
        )
        assert list(read_weights(tmp_path / f"{taken}.pt", key=name)) == ["lr"]
    torch.save({"params": {"lr": torch.tensor([0.1, 0.2])}}, tmp_path / "vectors.pt")
    assert list(read_weights(tmp_path / "vectors.pt")) == ["lr"]


def test_a_key_that_is_not_there_is_one_line_that_lists_the_keys_with_weights(tmp_path: Path) -> None:
    torch.save({"model": _state(1), "ema": {"shadow": _state(2)}, "args": {"lr": 0.1}}, tmp_path / "net.pt")
    for key in ("model_ema", "args", "args.lr", "ema.shadow.conv1"):
        with pytest.raises(
            ValueError, match=r"there are model, ema\.shadow; choose one with --key"
        ) as caught:
            load_model(tmp_path / "net.pt", arch="fastnet", key=key)
        assert "\n" not in str(caught.value)


def test_a_key_for_what_has_no_entries_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(_state(1), tmp_path / "net.safetensors")
    np.savez(tmp_path / "net.npz", **{name: tensor.numpy() for name, tensor in _state(1).items()})
    for name in ("net.safetensors", "net.npz"):
        with pytest.raises(ValueError, match="no entries to choose from; leave out --key"):
            read_weights(tmp_path / name, key="model")
    with pytest.raises(ValueError, match=r"timm:resnet18 is none"):
        load_model("timm:resnet18", key="model")


def test_a_network_that_holds_itself_is_no_endless_search(tmp_path: Path) -> None:
    content: dict[str, Any] = {"model": _state(1)}
    content["trainer"] = content
    torch.save(content, tmp_path / "net.pt")
    assert _value(tmp_path / "net.pt") == 1
    module = torch.nn.Conv2d(3, 2, 3)
    module._modules["itself"] = module
    torch.save(module, tmp_path / "module.pt")
    assert "weight" in read_weights(tmp_path / "module.pt")


def test_names_are_texts_or_numbers_and_each_is_there_once(tmp_path: Path) -> None:
    torch.save({0: torch.ones(2, 2), "a": torch.ones(1)}, tmp_path / "net.pt")
    assert list(read_weights(tmp_path / "net.pt")) == ["0", "a"]
    named = torch.ones(2)
    named.numel = 5  # type: ignore[method-assign, assignment]
    for name in (named, (1, 2), 0.5):
        torch.save({name: torch.ones(2, 2)}, tmp_path / "net.pt")
        with pytest.raises(
            ValueError, match=f"names a tensor by a {type(name).__name__}; name each by a text"
        ):
            read_weights(tmp_path / "net.pt")
    torch.save({1: torch.ones(2, 2), "1": torch.zeros(2, 2)}, tmp_path / "net.pt")
    with pytest.raises(ValueError, match="names two tensors 1, by a number and by a text"):
        read_weights(tmp_path / "net.pt")
