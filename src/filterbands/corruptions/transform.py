"""`Corrupting`: corruption as a training transform."""

from collections.abc import Iterable
from typing import Any, SupportsIndex

import torch
from torch import Tensor, nn

from .table import check_images, check_severity, corrupt


class Corrupting(nn.Module):
    """A transform that corrupts each uint8 image with new draws and leaves everything else unchanged.

    It works in `torchvision.transforms.v2.Compose`, in `nn.Sequential` and alone. Tensors of torchvision's
    types keep their type. In a sample such as (image, label) only the image is corrupted. Draws come from
    torch's default generator, as in dropout. It also draws in evaluation mode, because it is a transform and
    not a layer.

    Args:
        kind: A key of `CORRUPTIONS`.
        severity: 1 to 5, or several values from which one is drawn per image.
        parameters: `cifar` or `imagenet`.

    Raises:
        ValueError: The kind, severity or table is unknown, or, at the call, `corrupt` refuses the images.

    >>> image = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    >>> image, label = Corrupting("brightness", severity=3)((image, 7))
    >>> image.shape, image.unique().tolist(), label
    (torch.Size([3, 32, 32]), [166], 7)
    """

    def __init__(
        self,
        kind: str,
        *,
        severity: SupportsIndex | Iterable[SupportsIndex] = (1, 2, 3, 4, 5),
        parameters: str = "cifar",
    ) -> None:
        super().__init__()
        self.kind = kind
        listed = isinstance(severity, Iterable) and not isinstance(severity, SupportsIndex)
        several: Any = severity if listed else (severity,)
        self.severities = tuple(check_severity("Corrupting", one) for one in several)
        self.table = parameters
        if not self.severities:
            raise ValueError("Corrupting needs at least one severity, got none")
        for one in self.severities:
            nothing = torch.empty(0, 3, 8, 8, dtype=torch.uint8)
            corrupt(nothing, kind, severity=one, seed=0, parameters=parameters)

    def forward(self, sample: object) -> object:
        """Return the sample with its image corrupted, which is the first tensor of three or more axes.

        Args:
            sample: An image (3, h, w) or a batch (b, 3, h, w) of bytes, or a tuple, list or mapping of one.
        """
        if not isinstance(sample, dict | tuple | list):
            return self._one(sample)
        parts = dict(sample if isinstance(sample, dict) else enumerate(sample))
        images = (key for key, part in parts.items() if isinstance(part, Tensor) and part.dim() >= 3)
        for key in list(images)[:1]:
            parts[key] = self._one(parts[key])
        return parts if isinstance(sample, dict) else type(sample)(parts.values())

    def extra_repr(self) -> str:
        """Return the kind, the severities and the table, for `print`."""
        return f"{self.kind!r}, severity={self.severities}, parameters={self.table!r}"

    def _one(self, image: object) -> Tensor:
        batch = image[None] if isinstance(image, Tensor) and image.dim() == 3 else image
        checked = check_images(batch)
        plain = checked.as_subclass(Tensor)
        # One seed per call and one number per image, so that no two images share a draw.
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
        return result.as_subclass(type(checked))
