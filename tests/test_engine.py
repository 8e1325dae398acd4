"""Devices, precisions and threads by name."""

import importlib.util
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from filterbands import engine, rng
from filterbands.engine import (
    PRECISIONS,
    exact_float32,
    launch,
    pick_device,
    pick_precision,
    set_random_state,
    set_threads,
)

INDEX = torch.arange(2)


class _Counting(TorchDispatchMode):
    """Counts the operations of torch, and notes the devices of their results."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.devices: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        self.devices.add(result.device.type)
        return result


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
    with pytest.raises(ValueError, match=r"unknown precision .*known are auto, float32, bfloat16"):
        launch(device="cpu", precision=precision)


@pytest.mark.parametrize("is_fast", [True, False])
def test_auto_is_bfloat16_where_it_is_fast_and_slow_bfloat16_is_said_once(
    is_fast: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine, "_computes_in_bfloat16", lambda _: is_fast)
    engine._say_that_bfloat16_is_slow.cache_clear()
    here = torch.device("cpu")
    assert pick_precision("auto", here) == ("bfloat16" if is_fast else "float32")
    assert not caplog.messages
    assert [pick_precision(name, here) for name in (*PRECISIONS, *PRECISIONS)] == [*PRECISIONS, *PRECISIONS]
    assert len(caplog.messages) == (not is_fast)
    assert is_fast or "float32 can be ten times as fast" in caplog.text


def test_launching_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    launch(device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def kernel_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of elementwise functions called from here on, in a process that has called none of them."""
    called: list[str] = []
    for name in engine.KERNELS:
        function = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda x, f=function, n=name: (called.append(n), f(x))[1])
    engine._call_kernels.cache_clear()
    yield called
    engine._call_kernels()


def test_importing_the_random_numbers_runs_no_operation_of_torch() -> None:
    # A second copy, as the first one is already imported.
    spec = importlib.util.spec_from_file_location("filterbands.another_rng", rng.__file__)
    assert spec is not None
    assert spec.loader is not None
    with _Counting() as counting:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert counting.operations == 0


@pytest.mark.parametrize("draw", [lambda: rng.keys(0, index=INDEX), lambda: rng.bits(INDEX, 1)])
def test_the_first_draw_settles_the_kernels_and_later_ones_do_not(
    kernel_calls: list[str], draw: Callable[[], torch.Tensor]
) -> None:
    draw()
    assert kernel_calls == [*engine.KERNELS, *engine.KERNELS]  # in two precisions
    kernel_calls.clear()
    draw()
    assert kernel_calls == []


def test_threads_that_come_together_settle_the_kernels_once(kernel_calls: list[str]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: engine.settle_kernels(), range(64)))
    assert len(kernel_calls) == 2 * len(engine.KERNELS)


def test_kernels_are_settled_on_the_cpu_under_another_default_device(kernel_calls: list[str]) -> None:
    with torch.device("meta"), _Counting() as counting:
        engine.settle_kernels()
    assert kernel_calls
    assert counting.devices == {"cpu"}


def test_float32_is_exact_for_a_while_and_then_what_it_was() -> None:
    places = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)
    before = [place.fp32_precision for place in places]
    with exact_float32():
        assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
    assert [place.fp32_precision for place in places] == before


def test_each_process_gets_its_own_row_of_the_random_state_back() -> None:
    states = torch.stack([torch.Generator().manual_seed(seed).get_state() for seed in (1, 2)])
    fabric = SimpleNamespace(world_size=2, global_rank=1, device=torch.device("cpu"))
    with torch.random.fork_rng(devices=[]):
        # Past the check of types, which would refuse the stand-in.
        inspect.unwrap(set_random_state)({"cpu": states}, fabric)
        assert torch.equal(torch.get_rng_state(), states[1])
