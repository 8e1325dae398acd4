"""Whatever can change what a network answers changes its fingerprint, and nothing else does."""

import copy
import functools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from filterbands import load_model
from filterbands.control import SpectralNoise, modulate, set_share
from filterbands.datasets import planted
from filterbands.evaluation import EvaluateConfig, evaluate, load_scores, model_fingerprint
from filterbands.evaluation.fingerprint import _answers, _is_known
from filterbands.models import ARCHITECTURES, scaled


class _Blurred(nn.Module):
    """A network with settings that stand in no weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3 * 32 * 32, 4)
        self.sigma = 1.0
        self.kernel = torch.ones(3)
        self.act = torch.relu
        self.names = {"b", "a", "c"}

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.head(images.flatten(1) * self.sigma * self.kernel.sum()))


def _set(name: str, value: Any) -> Callable[[_Blurred], None]:
    return lambda net: setattr(net, name, value)


def _one_bit(net: _Blurred) -> None:
    net.head.weight.data.view(torch.int32)[2, 5] ^= 1


@pytest.mark.parametrize(
    "change",
    [
        _one_bit,
        _set("sigma", 2.0),
        _set("kernel", torch.tensor([1.0, 1.0, 1.0000001])),
        _set("act", torch.sigmoid),
        _set("names", {"a", "b"}),
        _set("head", nn.Sequential(nn.Linear(3 * 32 * 32, 4))),
        lambda net: net.register_buffer("hidden", torch.zeros(1), persistent=False),
    ],
)
def test_a_change_of_weight_buffer_setting_or_structure_is_another_network(change: Any) -> None:
    net = _Blurred()
    before = model_fingerprint(net)
    change(net)
    assert model_fingerprint(net) != before


def test_the_number_of_heads_of_an_attention_counts() -> None:
    """Torch shows it neither in the weights nor in the text of the module."""
    one, two = nn.MultiheadAttention(8, 1), nn.MultiheadAttention(8, 2)
    two.load_state_dict(one.state_dict())
    assert repr(one) == repr(two)
    assert model_fingerprint(one) != model_fingerprint(two)


_CODE = """
from torch import nn
class Net(nn.Sequential):
    def forward(self, images):
        return {expression}
net = Net(nn.ReLU())
"""


def test_a_changed_forward_is_another_network_and_an_unchanged_one_is_not() -> None:
    def build(expression: str) -> nn.Module:
        # As at a prompt: there is no source to read.
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(_CODE.format(expression=expression), names)
        net: nn.Module = names["net"]
        return net

    texts = ("super().forward(images)", "2 * super().forward(images)", "3 * super().forward(images)")
    one, two, three = (model_fingerprint(build(text)) for text in texts)
    assert len({one, two, three}) == 3
    assert model_fingerprint(build(texts[0])) == one


def test_the_same_network_has_the_same_fingerprint_wherever_it_comes_from(tmp_path: Path) -> None:
    net = _Blurred()
    before = model_fingerprint(net)
    assert model_fingerprint(_Blurred()) == model_fingerprint(copy.deepcopy(net)) == before
    net.eval()(torch.rand(2, 3, 32, 32))
    assert model_fingerprint(net) == before
    assert model_fingerprint(net.train().requires_grad_(False)) == before

    model = load_model(arch="cifar_resnet20")
    torch.save(model.state_dict(), tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt", arch="cifar_resnet20")
    assert model_fingerprint(loaded) == model_fingerprint(model)
    other = load_model(tmp_path / "net.pt", arch="cifar_resnet20", mean=(0.5, 0.5, 0.5))
    assert model_fingerprint(other) != model_fingerprint(model)


def _of_version_0_1(model: nn.Module) -> str:
    """Return the fingerprint as version 0.1 made it, for networks without code of the user's own."""

    def of(name: str, tensor: Tensor) -> bytes:
        plain = tensor.detach().contiguous()
        head = f"{name} {plain.dtype} {tuple(plain.shape)}".encode()
        return head + plain.reshape(-1).view(torch.uint8).numpy().tobytes()

    digest = sha256(repr(model).encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(of(name, tensor))
    for name, module in model.named_modules():
        for setting in sorted(set(vars(module)) - set(vars(nn.Module()))):
            value = vars(module)[setting]
            plain = sorted(map(repr, value)) if isinstance(value, set | frozenset) else value
            text = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(plain))
            place = f"{name}.{setting}"
            digest.update(of(place, value) if isinstance(value, Tensor) else f"{place} {text}".encode())
    return digest.hexdigest()


def _held(change: Callable[[nn.Conv2d], Any]) -> nn.Module:
    model: Any = load_model(arch="fastnet")
    change(model.conv1)
    return model  # type: ignore[no-any-return]


OURS: dict[str, Callable[[], nn.Module]] = {
    **{arch: functools.partial(load_model, arch=arch) for arch in ARCHITECTURES},
    "share": lambda: _held(lambda conv: set_share(conv, low=0.5)),
    "modulated": lambda: _held(modulate),
    "noise": lambda: nn.Sequential(SpectralNoise(), load_model(arch="fastnet")),
    "plain torch": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)),
    "scaled": lambda: scaled(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (0.5,) * 3, None),
    "attention": lambda: nn.TransformerEncoderLayer(8, 2),
}


@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
def test_the_key_of_a_network_of_ours_is_that_of_version_0_1_and_nothing_is_run(
    make: Callable[[], nn.Module],
) -> None:
    model = make()
    assert _is_known(model)
    assert model_fingerprint(model, shape=(0, 0, 0)) == _of_version_0_1(model)


def _negating(factor: float) -> Callable[..., Tensor]:
    return lambda _, __, output: factor * output


class _Held:
    def __init__(self, **facts: Any) -> None:
        vars(self).update(facts)


class _Compiled:
    """As an object of an extension: it says nothing of what it holds, and cannot be copied."""

    __slots__ = ("factor", "lock")

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.lock = threading.Event()

    def __repr__(self) -> str:
        return "_Compiled"

    def __reduce_ex__(self, _: object) -> Any:
        raise TypeError("cannot pickle")


class _Using(nn.Module):
    """Multiplies by what it holds, in whatever form."""

    scale = 1.0

    def __init__(self, held: Any, read: Callable[[Any], Any] = lambda _: 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3 * 32 * 32, 4)
        self.held = held
        self.read = read

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1)) * float(self.read(self.held)) * self.scale


def _array(change: float) -> np.ndarray[Any, Any]:
    array = np.ones((40, 50))
    array[20, 25] += change
    return array


def _linear(bias: float) -> nn.Linear:
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(bias)  # type: ignore[union-attr]
    return layer


# Made twice they are the same network; made with 0 and with the number they are not.
HELD: dict[str, tuple[Callable[[float], Any], float]] = {
    "array": (_array, 1e-9),
    "array of objects": (lambda x: np.array([1, _Held(x=x)], dtype=object), 1),
    "dict of large tensors": (lambda x: {"a": torch.zeros(5000).index_fill_(0, torch.tensor([2500]), x)}, 1),
    "modules in a list": (lambda x: [_linear(x)], 1),
    "a function of the same name": (_negating, -1),
    "partial": (lambda x: functools.partial(torch.add, alpha=x), 1),
    "bound method": (lambda x: _Held(x=x).__eq__, 1),
    "object": (lambda x: _Held(inner=_Held(values=[x])), 1),
    "nested sets": (lambda x: {"a": {"p", "q", "r", ("s", frozenset({"t", x}))}}, 1),
    "number": (lambda x: 1 + x, 1e-15),
}


@pytest.mark.parametrize(("make", "other"), HELD.values(), ids=HELD)
def test_what_modules_refer_to_is_in_the_key(make: Callable[[float], Any], other: float) -> None:
    first, same, changed = (model_fingerprint(_Using(make(value))) for value in (0, 0, other))
    assert first == same != changed


def test_an_object_that_refers_to_itself_has_a_key() -> None:
    def make(value: int) -> _Held:
        held = _Held(value=value)
        held.itself = [held]  # type: ignore[attr-defined]
        return held

    first, same, changed = (model_fingerprint(_Using(make(value))) for value in (0, 0, 1))
    assert first == same != changed


@pytest.mark.parametrize("make", [lambda: load_model(arch="fastnet"), lambda: _Using(None)])
@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_are_in_the_key(make: Callable[[], nn.Module], register: str) -> None:
    def pre(factor: float) -> Callable[..., Any]:
        return lambda _, given: (given[0] * factor,)

    hook = _negating if register == "register_forward_hook" else pre
    prints = []
    for factor in (None, 0.999, 0.999, 1.0):
        torch.manual_seed(0)
        model = make()
        if factor is not None:
            getattr(model, register)(hook(factor))
        prints.append(model_fingerprint(model))
    assert prints[1] == prints[2]
    assert len(set(prints)) == 3


def test_hooks_of_all_modules_are_in_the_key() -> None:
    prints = []
    for factor in (None, 0.999, 1.0):
        hook = factor and nn.modules.module.register_module_forward_hook(_negating(factor))
        prints.append(model_fingerprint(_linear(0)))
        if hook:
            hook.remove()
    assert len(set(prints)) == 3


SCALE = 1.0
SCALES = [1.0]


class _OfModule(nn.Module):
    """Reads a constant and a list of its module."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :4] * SCALE * SCALES[0]


def test_constants_of_modules_and_classes_are_in_the_key_and_lists_show_in_the_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prints = [model_fingerprint(_OfModule())]
    monkeypatch.setitem(globals(), "SCALE", 1.0001)
    prints.append(model_fingerprint(_OfModule()))
    monkeypatch.setitem(globals(), "SCALES", [-1.0])
    prints.append(model_fingerprint(_OfModule()))
    prints.append(model_fingerprint(_Using(None)))
    monkeypatch.setattr(_Using, "scale", 1.0001)
    prints.append(model_fingerprint(_Using(None)))
    monkeypatch.setattr(_Using, "forward", lambda self, images: self.head(images.flatten(1)))
    prints.append(model_fingerprint(_Using(None)))
    model = _Using(None)
    model.forward = model.head.forward  # type: ignore[assignment]
    prints.append(model_fingerprint(nn.Sequential(nn.Flatten(), model)))
    assert len(set(prints)) == 7, prints


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (_Using(_Compiled(2.0), lambda held: held.factor), "refers to .*_Compiled"),
        (_Using(iter([]), lambda _: np.random.default_rng().uniform()), "gives other outputs"),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 4), _Using(None)), "fails on fixed images of shape"),
    ],
    ids=["opaque", "random", "failing"],
)
def test_a_network_that_cannot_be_told_from_others_is_said_and_shares_no_key(
    model: nn.Module, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert model_fingerprint(model) != model_fingerprint(model)
    assert re.search(f"the network {line}.* stored results are not read", caplog.text)


def test_a_network_that_normalizes_in_place_gives_the_same_answers_twice() -> None:
    class Gray(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.sub_(0.5).flatten(1)[:, :4]

    assert _answers(Gray(), (1, 8, 8))[1] == ""


def test_random_numbers_of_torch_are_fixed_for_the_answers_alone() -> None:
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :4] + torch.rand(len(images), 4)

    state = torch.get_rng_state()
    assert model_fingerprint(Noisy()) == model_fingerprint(Noisy())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_scripted_networks_are_told_apart_by_their_code_and_constants() -> None:
    class Plain(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :4] * self.factor

    first, same, changed = (model_fingerprint(torch.jit.script(Plain(f))) for f in (1.0, 1.0, 1.001))
    assert first == same != changed


def test_two_networks_that_differ_in_a_hook_alone_do_not_share_their_scores(tmp_path: Path) -> None:
    """A network with a hook that negates its output got the score of the one without, 0.13 for 0.09."""
    data, config = planted(images=100), EvaluateConfig(kinds=())
    torch.manual_seed(0)
    model, db = load_model(arch="fastnet").eval(), tmp_path / "r.db"
    plain = evaluate(model, data, config=config, db=db)
    model.register_forward_hook(lambda _, __, output: -output)
    hooked = evaluate(model, data, config=config, db=db)
    assert hooked.model != plain.model
    with torch.inference_mode():
        named = model(data.images / 255).argmax(1)
    assert hooked.cells["clean", 0].bits.tolist() == (named == data.labels).tolist()
    assert len(load_scores(db)) == 2


CHILD = """
import json, sys
import torch
sys.path.insert(0, sys.argv[1])
from theirs import net
from filterbands.datasets import planted
from filterbands.evaluation import model_fingerprint
data = planted(split="train", images=300)
print(json.dumps([model_fingerprint(net()), data.fingerprint(), torch.get_num_threads()]))
"""
THEIRS = """
import torch
from torch import nn

class Settings:
    names = frozenset({"alpha", "beta", "gamma", "delta"})
    def __init__(self):
        self.kinds = {"a": {"p", "q", "r", ("s", frozenset({"t", "u"}))}, "b": [{"x", "y", "z"}]}

def net():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    net.settings = Settings()
    net.register_forward_hook(lambda module, given, output: output if "p" in {"p", "q"} else -output)
    return net
"""


@pytest.mark.slow
def test_keys_and_images_are_the_same_in_processes_of_other_threads_and_hash_seeds(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(THEIRS)
    found = []
    for number in ("1", "2"):
        env = {**os.environ, "OMP_NUM_THREADS": number, "PYTHONHASHSEED": number}
        words = [sys.executable, "-c", CHILD, str(tmp_path)]
        done = subprocess.run(words, env=env, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    assert found[0][:2] == found[1][:2]
    # A machine of one core gives one thread to both.
    assert found[0][2] == 1


@pytest.mark.parametrize(
    "arch",
    [
        "fastnet",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cifar_resnet20", "cifar_resnet18_narrow")),
    ],
)
def test_answers_do_not_change_with_threads_or_how_a_network_rounds(arch: str) -> None:
    """Weights that differ by a millionth stand for another order of additions."""
    before = torch.get_num_threads()
    for seed in range(5):
        torch.manual_seed(seed)
        model = load_model(arch=arch).eval()
        expected, why = _answers(model, (3, 32, 32))
        assert why == ""
        torch.set_num_threads(2)
        assert _answers(model, (3, 32, 32)) == (expected, "")
        torch.set_num_threads(before)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1 + 1e-6 * torch.randn_like(weight))
        assert _answers(model, (3, 32, 32)) == (expected, "")
        model.register_forward_hook(lambda _, __, output: -output)
        assert _answers(model, (3, 32, 32))[0] != expected
