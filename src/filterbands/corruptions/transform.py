"""Corruption as a training transform."""

import torch
from torch import Tensor, nn

from .table import check_images, corrupt


class Corrupting(nn.Module):
    """A transform that corrupts uint8 images, each with fresh draws, and leaves everything else as it is.

    A plain module, so it stands in `torchvision.transforms.v2.Compose`, in `nn.Sequential` or alone; tensors
    of torchvision's own types stay what they are, and samples such as (image, label) pass with the image
    alone corrupted. Draws come from torch's default generator, as dropout's do. It draws in evaluation mode
    too: it is a transform, not a layer.

    Args:
        kind: A key of `CORRUPTIONS`.
        severity: 1 to 5, or several to choose from, image by image.
        parameters: `cifar` or `imagenet`.

    Raises:
        ValueError: An unknown kind, severity or table; at the call, images that `corrupt` refuses.

    >>> image = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    >>> image, label = Corrupting("brightness", severity=3)((image, 7))
    >>> image.shape, image.unique().tolist(), label
    (torch.Size([3, 32, 32]), [166], 7)
    """

    def __init__(
        self, kind: str, *, severity: int | tuple[int, ...] = (1, 2, 3, 4, 5), parameters: str = "cifar"
    ) -> None:
        super().__init__()
        self.kind = kind
        self.severities = (severity,) if isinstance(severity, int) else tuple(severity)
        self.table = parameters
        if not self.severities:
            raise ValueError("Corrupting needs at least one severity, got none")
        for one in self.severities:
            nothing = torch.empty(0, 3, 8, 8, dtype=torch.uint8)
            corrupt(nothing, kind, severity=one, seed=0, parameters=parameters)

    def forward(self, sample: object) -> object:
        """Return the sample with its image, the first tensor of three axes or more in it, corrupted.

        Args:
            sample: An image (3, h, w) or a batch (b, 3, h, w) of bytes, or a tuple, list or mapping with one.
        """
        if isinstance(sample, Tensor):
            return self._one(sample)
        if isinstance(sample, dict):
            found = next((key for key, value in sample.items() if _is_image(value)), None)
            return {key: self._one(value) if key == found else value for key, value in sample.items()}
        if isinstance(sample, tuple | list):
            place = next((number for number, value in enumerate(sample) if _is_image(value)), None)
            parts = [self._one(value) if number == place else value for number, value in enumerate(sample)]
            return type(sample)(parts)
        return self._one(sample)  # says what is wrong with it

    def extra_repr(self) -> str:
        """Return what it does, for `print`."""
        return f"{self.kind!r}, severity={self.severities}, parameters={self.table!r}"

    def _one(self, image: object) -> Tensor:
        batch = image[None] if isinstance(image, Tensor) and image.dim() == 3 else image
        check_images(batch)
        if not isinstance(batch, Tensor):
            raise TypeError("checked above")
        plain = batch.as_subclass(Tensor)
        # One seed a call, one number an image: no two images ever share a draw.
        seed = int(torch.randint(2**62, ()))
        choice = torch.randint(len(self.severities), (len(plain),))
        made = plain.clone()
        for number, severity in enumerate(self.severities):
            chosen = (choice == number).nonzero()[:, 0].to(plain.device)
            if len(chosen):
                made[chosen] = corrupt(
                    plain[chosen],
                    self.kind,
                    severity=severity,
                    seed=seed,
                    parameters=self.table,
                    index=chosen,
                )
        result = made if batch is image else made[0]
        return result.as_subclass(type(batch))


def _is_image(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() >= 3
