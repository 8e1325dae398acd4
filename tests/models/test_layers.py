"""Which batch norm reads a convolution's output: by registration and by execution."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from filterbands.control import set_share
from filterbands.filters import analyze
from filterbands.models import batch_norms, convolutions, first_layer, run_on


def conv(inputs: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, 4, 3, padding=1)


def norm(features: int = 4) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(features)


class Wrapper(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


class PreActivation(nn.Module):
    """A block whose output is a sum, which no batch norm behind it can be folded into."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1 = norm()
        self.conv1 = conv(4)

    def forward(self, images: Tensor) -> Tensor:
        return images + self.conv1(self.bn1(images).relu())


class NormAndActivation(nn.BatchNorm2d):
    """As of timm: a batch norm that holds the dropout and the activation behind it."""

    def __init__(self) -> None:
        super().__init__(4)
        self.drop = nn.Identity()
        self.act = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(images)))


IMAGES = torch.rand(2, 3, 8, 8)
# Name of each convolution, and names of the batch norms by registration and by execution.
NETWORKS = {
    "next": (nn.Sequential(conv(), norm()), {"0": (["1"], ["1"])}),
    "identity": (nn.Sequential(conv(), nn.Identity(), nn.Sequential(), norm()), {"0": (["3"], ["3"])}),
    "wrapped": (nn.Sequential(Wrapper(conv()), norm()), {"0.inner": (["1"], ["1"])}),
    "activation": (nn.Sequential(conv(), nn.ReLU(), norm()), {"0": ([], [])}),
    "in place": (nn.Sequential(conv(), nn.ReLU(inplace=True), norm()), {"0": ([], [])}),
    "layer between": (nn.Sequential(conv(), conv(4), norm()), {"0": ([], []), "1": (["2"], ["2"])}),
    "norm and activation": (nn.Sequential(conv(), NormAndActivation()), {"0": (["1"], ["1"])}),
    "held": (nn.Sequential(set_share(conv(), low=0.5), norm()), {"0": (["1"], ["1"])}),
    "blocks": (
        nn.Sequential(conv(), PreActivation(), PreActivation()),
        {"0": (["1.bn1"], ["1.bn1"]), "1.conv1": ([], []), "2.conv1": ([], [])},
    ),
    "alone": (conv(), {"weight": ([], [])}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_batch_norm_that_reads_the_output_is_found_both_ways(name: str) -> None:
    network, expected = NETWORKS[name]
    for place, found in enumerate((convolutions(network), convolutions(network, IMAGES))):
        assert {entry.name: list(entry.norms) for entry in found} == {
            layer: norms[place] for layer, norms in expected.items()
        }
        assert {entry.found_by for entry in found} == {("registration", "execution")[place]}
    assert network.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_batch_norm_of_other_features_does_not_follow() -> None:
    assert first_layer("test", nn.Sequential(conv(), norm(5))).norms == {}


def test_two_batch_norms_on_one_output_are_both_found_and_not_folded() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.one, self.other = conv(), norm(), norm()

        def forward(self, images: Tensor) -> Tensor:
            out = self.conv(images)
            return self.one(out) + self.other(out)

    scale, name, note = first_layer("test", Split(), IMAGES).scale()
    assert (scale, name) == (None, None)
    assert note == "one and other read its output: not folded"


def test_inference_mode_finds_the_same() -> None:
    with torch.inference_mode():
        assert list(first_layer("test", nn.Sequential(conv(), norm()), torch.rand(2, 3, 8, 8)).norms) == ["1"]


def test_images_that_a_network_cannot_take_are_told_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"cannot take images of \(3, 8, 8\)") as caught:
        run_on(conv(5), IMAGES)
    assert "\n" not in str(caught.value)


def test_batch_norms_without_statistics_are_left_out() -> None:
    kept = norm()
    assert batch_norms(nn.Sequential(kept, nn.BatchNorm2d(4, track_running_stats=False))) == (kept,)


@pytest.mark.parametrize("message", ["Input height (8) does not match model (32).", ""])
def test_a_network_that_asserts_its_image_size_refuses_images_in_one_line(message: str) -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            torch._assert(images.shape[2] == 32, message)
            return images

    expected = re.escape(message) or "it asserts something else"
    with pytest.raises(ValueError, match=rf"cannot take images of \(3, 8, 8\): {expected}"):
        run_on(Fixed(), IMAGES)


def test_all_batch_norms_that_read_one_convolution_are_found() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn1, self.bn2 = conv(), norm(), norm()

        def forward(self, images: Tensor) -> Tensor:
            return self.bn1(self.conv(images)) + self.bn2(input=self.conv(images.flip(3)))

    (found,) = convolutions(Twice(), torch.rand(2, 3, 8, 8))
    assert list(found.norms) == ["bn1", "bn2"]
    assert found.runs == 2


def test_a_module_called_module_is_not_its_sibling() -> None:
    class Box(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Sequential()
            self.module.conv1 = conv()
            self.conv1 = conv(4)

        def forward(self, images: Tensor) -> Tensor:
            return self.conv1(self.module(images))

    images = torch.rand(2, 3, 8, 8)
    names = {"module.conv1", "conv1"}
    assert {found.name for found in convolutions(Box(), images)} == names
    assert {found.name for found in convolutions(Box())} == names
    assert {layer.name for layer in analyze(Box(), data=images).layers} == names
    assert {layer.name for layer in analyze(Box().state_dict()).layers} == names
    assert [layer.name for layer in analyze(nn.DataParallel(Wrapper(conv()))).layers] == ["inner"]


def test_a_network_with_a_compiled_part_is_looked_into() -> None:
    inner = torch.compile(nn.Sequential(conv(), norm()), backend="aot_eager")
    model = nn.Sequential(nn.Identity(), inner).eval()
    assert [list(found.norms) for found in convolutions(model, torch.rand(2, 3, 8, 8))] == [["1.1"]]


class InPlace(nn.Module):
    """Normalizes the tensor that it is given."""

    def forward(self, images: Tensor) -> Tensor:
        return images.sub_(0.4).div_(0.25)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_network_that_normalizes_in_place_leaves_the_images(dtype: torch.dtype) -> None:
    images = torch.rand(2, 3, 8, 8, dtype=dtype)
    before = images.clone()
    first, again = (run_on(InPlace(), images) for _ in range(2))
    assert torch.equal(images, before)
    assert torch.equal(first, again)
    assert torch.equal(first, (before - 0.4) / 0.25)


class Reading(nn.Module):
    """A convolution and a batch norm that reads its output, and something else that may read it too."""

    def __init__(self, read: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.conv, self.norm = conv(), norm()
        self.read = read

    def forward(self, images: Tensor) -> object:
        out = self.conv(images)
        # What asks for facts alone reads nothing.
        assert out.shape[1] == 4
        assert out.is_contiguous()
        return self.read(out, self.norm(out))


class Own(torch.autograd.Function):
    """A function with a backward of its own."""

    @staticmethod
    def forward(_: object, one: Tensor) -> Tensor:
        return one.exp()


READS = {
    "norm alone": (lambda _, normed: normed.relu(), False),
    "its shape": (lambda out, normed: normed.reshape(out.shape[0], -1) * out.numel(), False),
    "sum": (lambda out, normed: out + normed, True),
    "channels": (lambda out, normed: (out[:, :2].mean(), normed), True),
    "list of tensors": (lambda out, normed: torch.cat([out, normed]), True),
    "keyword": (lambda out, normed: torch.add(normed, other=out), True),
    "in place": (lambda out, normed: (out.relu_(), normed)[1], True),
    "given back": (lambda out, normed: {"feature": [out], "logits": normed}, True),
    "scripted": (lambda out, normed: torch.jit.script(nn.Sequential(nn.ReLU()))(out) + normed, True),
    "function": (lambda out, normed: Own.apply(out) + normed, True),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", READS)
def test_who_reads_an_output_past_the_batch_norms_is_seen(name: str) -> None:
    read, expected = READS[name]
    (found,) = convolutions(Reading(read), IMAGES)
    assert list(found.norms) == ["norm"]
    assert found.has_other_readers == expected


def test_two_batch_norms_alone_are_no_others_and_registration_does_not_know() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.one, self.other = conv(), norm(), NormAndActivation()

        def forward(self, images: Tensor) -> Tensor:
            out = self.conv(images)
            return self.one(out) + self.other(out)

    assert [found.has_other_readers for found in convolutions(Split(), IMAGES)] == [False]
    assert [found.has_other_readers for found in convolutions(Split())] == [True]


def test_a_network_without_numbers_is_not_run() -> None:
    with pytest.raises(ValueError, match=r"holds no numbers \(it is on the meta device\); load its weights"):
        run_on(nn.Conv2d(3, 4, 3, device="meta"), IMAGES)
