"""The user's own code, what replaces that of others, and what is used twice are in the key of a network."""

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from filterbands import load_model
from filterbands.datasets import planted
from filterbands.evaluation import EvaluateConfig, evaluate, model_fingerprint
from filterbands.evaluation.contents import is_shown
from filterbands.evaluation.origin import replaced
from filterbands.models import ARCHITECTURES
from filterbands.probes.probe import Spectrum

# A file of the user's; what stands for BODY differs.
NET = """
import functools
import torch
from torch import nn

class Plain(nn.Module):
    read = staticmethod(lambda images: images)
    def forward(self, images):
        return self.read(images).flatten(1)[:, :10]

BODY
net = Net()
"""
# What differs between two networks is VALUE alone.
CODE: dict[str, str] = {
    "a decorator": """
        def scaled(forward):
            @functools.wraps(forward)
            def run(self, images):
                return VALUE * forward(self, images)
            return run
        class Net(Plain):
            forward = scaled(Plain.forward)
        """,
    "a cached function": """
        @functools.cache
        def factor():
            return VALUE
        class Net(Plain):
            def read(self, images):
                return factor() * images
        """,
    "one of two lambdas on a line": """
        pair = (lambda images: 1.0 * images, lambda images: 1.01 * images)
        class Net(Plain):
            read = staticmethod(pair[int(VALUE != 1.0)])
        """,
    "the second line of a lambda": """
        class Net(Plain):
            read = staticmethod(
                lambda images:
                VALUE * images
            )
        """,
    "a list of a class": """
        class Net(Plain):
            scales = [VALUE]
            def read(self, images):
                return self.scales[0] * images
        """,
    "a dict of a class": """
        class Net(Plain):
            scales = {"a": {"b": VALUE}}
            def read(self, images):
                return self.scales["a"]["b"] * images
        """,
    "a partial function": """
        class Net(Plain):
            read = functools.partial(torch.mul, VALUE)
        """,
    "a cached property": """
        class Net(Plain):
            @functools.cached_property
            def scale(self):
                return VALUE
            def read(self, images):
                return self.scale * images
        """,
    "a partial method": """
        class Net(Plain):
            def scaled(self, scale, images):
                return scale * images
            read = functools.partialmethod(scaled, VALUE)
        """,
    "a function of a module": """
        import helpers
        class Net(Plain):
            def read(self, images):
                return helpers.read(images)
        """,
    "a constant of a module in a package": """
        import package.inner
        class Net(Plain):
            def read(self, images):
                return package.inner.SCALE * images
        """,
}
OTHERS = {
    "helpers.py": "SCALE = VALUE\ndef read(images):\n    return SCALE * images\n",
    "package/inner.py": "SCALE = VALUE\n",
}


@pytest.fixture
def net_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., nn.Module]:
    """Return a function that imports the user's files anew and returns their network."""

    def build(body: str, value: float, *, name: str = "theirs") -> nn.Module:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        files = {**OTHERS, f"{name}.py": NET.replace("BODY", dedent(body))}
        for file, text in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text.replace("VALUE", str(value)))
        for module in (name, "helpers", "package", "package.inner"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "path", [str(folder), *sys.path])
            importlib.invalidate_caches()
            net: nn.Module = importlib.import_module(name).net
        return net

    return build


@pytest.mark.parametrize("body", CODE.values(), ids=CODE)
def test_a_hundredth_in_the_users_code_is_another_network(
    body: str, net_of: Callable[..., nn.Module], tmp_path: Path
) -> None:
    first, same, other = (model_fingerprint(net_of(body, value)) for value in (1.0, 1.0, 1.01))
    assert first == same != other
    # The networks do what they say.
    images = torch.ones(1, 3, 2, 2)
    assert torch.equal(net_of(body, 1.01)(images), 1.01 * net_of(body, 1.0)(images))


SHIFTED = """
import helpers
class Net(Plain):
    def forward(self, images):
        return super().forward(images) + helpers.SCALE * torch.eye(10)[0]
"""


def test_a_network_whose_helper_changed_a_little_does_not_get_the_former_scores(
    net_of: Callable[..., nn.Module], tmp_path: Path
) -> None:
    data, config = planted(images=400), EvaluateConfig(kinds=())

    def bits(value: float, db: Path | None = tmp_path / "r.db") -> list[bool]:
        scores = evaluate(net_of(SHIFTED, value), data, config=config, db=db)
        found: list[bool] = scores.cells["clean", 0].bits.tolist()
        return found

    first, same, other = (bits(value) for value in (0.0, 0.0, 0.004))
    assert first == same != other == bits(0.004, None)


def test_a_module_of_the_users_may_have_the_name_of_one_of_pythons(
    net_of: Callable[..., nn.Module],
) -> None:
    body = "class Net(Plain):\n" + indent("def read(self, images):\n    return VALUE * images\n", "    ")
    prints = [model_fingerprint(net_of(body, value, name="wave")) for value in (1.0, 1.0, 1.01)]
    assert prints[0] == prints[1] != prints[2]
    # The same code is the same network, whatever its file is called.
    assert model_fingerprint(net_of(body, 1.0)) == prints[0]


def test_what_is_put_into_a_class_of_torch_or_of_ours_is_in_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> list[nn.Module]:
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(3072, 4), nn.ReLU()]
        hooked = nn.Sequential(*layers)
        hooked.register_forward_hook(lambda _, __, output: 2 * output)
        return [nn.Sequential(*layers), hooked, load_model(arch="fastnet")]

    def scaling(scale: float, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(forward)
        def run(self: nn.Module, images: Tensor) -> Tensor:
            return scale * forward(self, images)

        return run

    before = [model_fingerprint(one) for one in build()]
    patched = []
    for scale in (1.01, 1.01, 1.02):
        with monkeypatch.context() as patch:
            for kind in (nn.ReLU, type(build()[2])):
                patch.setattr(kind, "forward", scaling(scale, kind.forward))
            patched.append([model_fingerprint(one) for one in build()])
    for forward in (nn.GELU.forward, torch.sigmoid):
        with monkeypatch.context() as patch:
            patch.setattr(nn.ReLU, "forward", forward)
            swapped = [model_fingerprint(one) for one in build()[:2]]
            assert not set(swapped) & {*before, *patched[0]}
    assert [model_fingerprint(one) for one in build()] == before
    assert patched[0] == patched[1]
    assert all(len({one, *others}) == 3 for one, *others in zip(before, *patched[1:], strict=True))


def test_a_function_that_wraps_one_of_torch_is_the_users(tmp_path: Path) -> None:
    def scaling(scale: float) -> Callable[..., Tensor]:
        @functools.wraps(F.relu)
        def run(images: Tensor) -> Tensor:
            return scale * F.relu(images)

        return run

    prints = []
    for activation in (F.relu, scaling(1.01), scaling(1.02)):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(4, 2, 8, activation=activation))
        prints.append(model_fingerprint(net, shape=(3, 2, 2)))
    assert len(set(prints)) == 3


def test_objects_of_ours_count_by_what_their_text_leaves_out() -> None:
    def spectrum(last: float) -> Spectrum:
        power = torch.zeros(40, 50)
        power[20, 25] = last
        return Spectrum(power=power)

    def fingerprint(value: Any) -> str:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        net.spectrum = value
        return model_fingerprint(net, shape=(3, 2, 2))

    assert repr(spectrum(0.0)) == repr(spectrum(1.0))
    assert not is_shown(spectrum(0.0))
    assert fingerprint(spectrum(0.0)) == fingerprint(spectrum(0.0)) != fingerprint(spectrum(1.0))
    # The text of a configuration says all of it.
    assert is_shown(EvaluateConfig(kinds=("fog",)))


def test_nothing_in_the_classes_of_torch_and_of_ours_is_taken_for_the_users() -> None:
    kinds = {type(one) for arch in ARCHITECTURES for one in load_model(arch=arch).modules()}
    waiting: list[type] = [nn.Module]
    while waiting:
        kinds.add(waiting[0])
        waiting += waiting.pop(0).__subclasses__()
    of_libraries = [kind for kind in kinds if kind.__module__.partition(".")[0] in ("torch", "filterbands")]
    assert len(of_libraries) > 100
    assert not [kind for kind in of_libraries if replaced(kind)]


@pytest.mark.parametrize("tied", ["modules", "weights"])
def test_two_networks_that_differ_in_what_they_use_twice_do_not_share_their_scores(
    tied: str, tmp_path: Path
) -> None:
    def build(again: int) -> nn.Module:
        torch.manual_seed(0)
        layers = [nn.Linear(12, 12, bias=False) for _ in range(3)]
        if tied == "modules":
            layers[2] = layers[again]
        else:
            layers[2].weight = layers[again].weight
        norms = [nn.LayerNorm(12, elementwise_affine=False) for _ in range(2)]
        ends = nn.AdaptiveAvgPool2d(2), nn.Flatten(), norms[0], *layers, norms[1], nn.Linear(12, 10)
        return nn.Sequential(*ends)

    data, config = planted(images=60), EvaluateConfig(kinds=())
    prints, db = [model_fingerprint(build(again)) for again in (0, 0, 1)], tmp_path / "r.db"
    assert prints[0] == prints[1] != prints[2]
    stored, alone = (
        [evaluate(build(again), data, config=config, db=place).cells["clean", 0] for again in (0, 1)]
        for place in (db, None)
    )
    named = [[cell.predictions.tolist() for cell in cells] for cells in (stored, alone)]  # type: ignore[union-attr]
    assert named[0] == named[1]
    assert named[0][0] != named[0][1]
