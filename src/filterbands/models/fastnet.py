"""A small fast network for quick work, with a learned 3x3 first layer."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..types import FloatImages
from .normalizing import Normalizing


class Group(nn.Module):
    """Convolution, pooling to half the size, convolution; batch norm and GELU after each."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Return features at half the size."""
        out = F.gelu(self.bn1(F.max_pool2d(self.conv1(images), 2)))
        return F.gelu(self.bn2(self.conv2(out)))


class FastNet(Normalizing):
    """A 3x3 first layer of 24 filters and three groups of two convolutions.

    The shape follows airbench's network, with a learned first layer in place of its fixed whitening
    layer, since the first layer is what this library studies.

    Source: Jordan 2024, arXiv:2404.00498, section 3.1.
    """

    def __init__(self, widths: tuple[int, int, int], *, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.group1 = Group(24, widths[0])
        self.group2 = Group(widths[0], widths[1])
        self.group3 = Group(widths[1], widths[2])
        self.linear = nn.Linear(widths[2], classes)

    def forward(self, images: FloatImages) -> Float[Tensor, "b classes"]:
        """Return the logits of images in [0, 1]."""
        out = F.gelu(self.bn1(self.conv1(self.normalize(images))))
        out = self.group3(self.group2(self.group1(out)))
        logits: Tensor = self.linear(out.amax(dim=(2, 3)))
        return logits
