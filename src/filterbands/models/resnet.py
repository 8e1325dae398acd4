"""CIFAR ResNets under the parameter names that public checkpoints use."""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..types import FloatImages
from .normalizing import Normalizing


class PadShortcut(nn.Module):
    """The shortcut without parameters: every `stride`-th pixel, new channels zero on both sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.padding = (outputs - inputs) // 2

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Return the subsampled, padded images."""
        kept = images[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, self.padding, self.padding))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = (
                nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
                if projection
                else PadShortcut(inputs, outputs, stride)
            )

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Return the block's output, after its ReLU."""
        out = F.relu(self.bn1(self.conv1(images)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(images))


class _StagedResNet(Normalizing):
    """A 3x3 stem without pooling and stages of blocks, each but the first at half the size of the last."""

    def __init__(self, widths: tuple[int, ...], blocks: int, *, classes: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        for number, (inputs, outputs) in enumerate(pairwise((widths[0], *widths)), start=1):
            first = BasicBlock(inputs, outputs, 1 if number == 1 else 2, projection=projection)
            rest = [BasicBlock(outputs, outputs, 1, projection=projection) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, images: FloatImages) -> Float[Tensor, "b classes"]:
        """Return the logits of images in [0, 1]."""
        out = F.relu(self.bn1(self.conv1(self.normalize(images))))
        for name, stage in self.named_children():
            if name.startswith("layer"):
                out = stage(out)
        logits: Tensor = self.linear(out.mean(dim=(2, 3)))
        return logits


class ThreeStageResNet(_StagedResNet):
    """The CIFAR ResNet of 6n + 2 layers, 16 to 64 channels wide, option-A shortcuts.

    Parameter names are those of github.com/akamaster/pytorch_resnet_cifar10.

    Source: He, Zhang, Ren, Sun 2016, arXiv:1512.03385, section 4.2.
    """

    def __init__(self, depth: int, *, classes: int) -> None:
        super().__init__((16, 32, 64), (depth - 2) // 6, classes=classes, projection=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)


class FourStageResNet(_StagedResNet):
    """ResNet-18 for 32x32 images: four stages of two blocks, 1x1 shortcuts.

    Parameter names are those of github.com/kuangliu/pytorch-cifar.

    Source: He, Zhang, Ren, Sun 2016, arXiv:1512.03385, table 1, with the CIFAR stem of section 4.2.
    """

    def __init__(self, width: int, *, classes: int) -> None:
        super().__init__((width, 2 * width, 4 * width, 8 * width), 2, classes=classes, projection=True)
