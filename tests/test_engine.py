"""Devices, precisions and threads by name."""

import importlib.util
from collections.abc import Iterator

import pytest
import torch

from filterbands import engine, rng
from filterbands.engine import PRECISIONS, launch, pick_device, set_threads


@pytest.fixture
def threads() -> Iterator[int]:
    """The number of threads, put back afterwards."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_auto_is_the_cpu_without_a_gpu(no_gpu: None) -> None:
    assert pick_device() == pick_device("auto") == pick_device("cpu") == torch.device("cpu")


def test_auto_is_the_gpu_where_there_is_one(two_gpus: None) -> None:
    assert pick_device().type == "cuda"
    assert pick_device("cuda").type == "cuda"
    assert pick_device("cuda:1") == torch.device("cuda", 1)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "mps", "meta", "cpu:"])
def test_an_unknown_device_is_named_with_what_is_known(no_gpu: None, name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown device .*auto, cpu, cuda or cuda:N") as error:
        pick_device(name)
    assert repr(name) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_gpu_that_is_not_there_is_refused(no_gpu: None) -> None:
    with pytest.raises(ValueError, match="device cuda is not there: 0 CUDA devices found; use cpu"):
        pick_device("cuda")


def test_a_gpu_beyond_the_last_is_refused(two_gpus: None) -> None:
    with pytest.raises(ValueError, match="device cuda:2 is not there: 2 CUDA devices found"):
        pick_device("cuda:2")


def test_threads_are_set_or_left(threads: int) -> None:
    set_threads(None)
    assert torch.get_num_threads() == threads
    set_threads(2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("number", [0, -1])
def test_fewer_than_one_thread_is_refused(threads: int, number: int) -> None:
    with pytest.raises(ValueError, match=f"threads needs a number of at least 1, got {number}"):
        set_threads(number)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_stay_float32_in_every_precision(precision: str, capfd: pytest.CaptureFixture[str]) -> None:
    fabric = launch(device="cpu", precision=precision)
    layer = torch.nn.Linear(3, 2)
    wrapped = fabric.setup(layer)
    with fabric.autocast():
        inside = layer(torch.zeros(1, 3))
    assert fabric.device == torch.device("cpu")
    assert fabric.world_size == 1
    assert layer.weight.dtype == torch.float32
    assert inside.dtype == getattr(torch, precision)
    assert wrapped(torch.zeros(1, 3)).dtype == torch.float32
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("precision", ["float16", "bf16-mixed", ""])
def test_an_unknown_precision_is_named_with_what_is_known(precision: str) -> None:
    with pytest.raises(ValueError, match=r"unknown precision .*known are float32, bfloat16"):
        launch(device="cpu", precision=precision)


def test_launching_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    launch(device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_elementwise_kernels_are_settled_before_the_first_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in engine.KERNELS:
        function = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda x, f=function, n=name: (called.append(n), f(x))[1])
    # A second copy, as the first one is long imported.
    spec = importlib.util.spec_from_file_location("filterbands.another_rng", rng.__file__)
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert set(called) == set(engine.KERNELS)
