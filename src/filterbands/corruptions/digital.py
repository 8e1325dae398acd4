"""Digital kinds: brightness, contrast, saturate, pixelate, jpeg_compression.

Source: Hendrycks, Dietterich 2019, arXiv:1903.12261, with the semantics of its CIFAR-10-C generator.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64
from PIL import Image
from torch import Tensor

from ..types import FloatImages, Images, Keys
from .pixels import Constants, divided, to_bytes, to_unit

Plane = Float[Tensor, "b h w"]


def brightness(images: Images, parameters: Constants, *, key: Keys) -> Images:  # noqa: ARG001
    """Return images with a constant added to the value of HSV.

    The parameter is the constant, in units of the full range.
    """
    (amount,) = parameters
    hue, saturation, value = rgb_to_hsv(to_unit(images))
    return to_bytes(hsv_to_rgb(hue, saturation, value.add_(amount).clamp_(0, 1)))


def saturate(images: Images, parameters: Constants, *, key: Keys) -> Images:  # noqa: ARG001
    """Return images whose saturation in HSV is scaled and shifted.

    The parameters are the factor and the summand.
    """
    factor, summand = parameters
    hue, saturation, value = rgb_to_hsv(to_unit(images))
    return to_bytes(hsv_to_rgb(hue, saturation.mul_(factor).add_(summand).clamp_(0, 1), value))


def contrast(images: Images, parameters: Constants, *, key: Keys) -> Images:  # noqa: ARG001
    """Return images drawn towards the mean of each channel.

    The parameter is the factor of the distance to the mean.
    """
    (factor,) = parameters
    unit = to_unit(images)
    # A running sum adds in the order of the original; the last bit decides where the result is a whole level.
    # Other devices add in an order of their own.
    sums = unit.flatten(2).cpu().cumsum(2)[:, :, -1, None, None].to(unit.device)
    mean = divided(sums, unit[0, 0].numel())
    return to_bytes(unit.sub_(mean).mul_(factor).add_(mean))


def pixelate(images: Images, parameters: Constants, *, key: Keys) -> Images:  # noqa: ARG001
    """Return images shrunk and enlarged by Pillow's box filter, in its integer arithmetic.

    The parameter is the factor of the sides, which are rounded down to whole pixels.
    """
    (factor,) = parameters
    h, w = images.shape[2:]
    small_h, small_w = int(h * factor), int(w * factor)
    small = _resize_axis(_resize_axis(images.to(torch.int32), 3, small_w), 2, small_h)
    return _resize_axis(_resize_axis(small, 3, w), 2, h).to(torch.uint8)


def jpeg_compression(images: Images, parameters: Constants, *, key: Keys) -> Images:  # noqa: ARG001
    """Return images after JPEG compression with 4:2:0 chroma, by Pillow on the CPU for any device.

    The parameter is the quality, 1 to 95.
    """
    quality = int(parameters[0])
    pixels = images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    result = np.empty_like(pixels)

    def compress(part: range) -> None:
        for i in part:
            stream = io.BytesIO()
            Image.fromarray(pixels[i]).save(stream, "JPEG", quality=quality)
            result[i] = np.asarray(Image.open(stream))

    threads = min(torch.get_num_threads(), len(pixels))
    if threads <= 1:
        compress(range(len(pixels)))
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(compress, [range(start, len(pixels), threads) for start in range(threads)]))
    return torch.from_numpy(result).permute(0, 3, 1, 2).contiguous().to(images.device)


def rgb_to_hsv(unit: FloatImages) -> tuple[Plane, Plane, Plane]:
    """Return hue, saturation and value in [0, 1] of the hexcone model; hue and saturation of gray are 0."""
    red, green, blue = unit.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    spread = value - torch.minimum(torch.minimum(red, green), blue)
    safe = torch.where(spread == 0, 1.0, spread)
    # The last of several equal largest channels decides; each sextant is 1/6 of the circle.
    hue = torch.where(green == value, (blue - red).div_(safe).add_(2), (green - blue).div_(safe))
    hue = torch.where(blue == value, (red - green).div_(safe).add_(4), hue)
    hue = divided(hue, 6)
    hue = torch.where(hue < 0, hue + 1, hue).masked_fill_(spread == 0, 0)
    saturation = torch.where(spread == 0, 0.0, spread / value)
    return hue, saturation, value


def hsv_to_rgb(hue: Plane, saturation: Plane, value: Plane) -> FloatImages:
    """Return the RGB image of hue, saturation and value in [0, 1]."""
    turn = hue * 6
    sextant = turn.floor()
    part = turn.sub_(sextant)
    low = value * (1 - saturation)
    falling = (1 - part * saturation).mul_(value)
    rising = part.neg_().add_(1).mul_(saturation).neg_().add_(1).mul_(value)
    planes = torch.stack([value, falling, low, rising], dim=1)
    # The planes of red, green and blue in each sextant; a hue of 1 belongs to the last.
    order = [[0, 1, 2, 2, 3, 0], [3, 0, 0, 1, 2, 2], [2, 2, 3, 0, 0, 1]]
    chosen = torch.tensor(order, device=hue.device)[:, sextant.to(torch.int64).clamp_(max=5)]
    return planes.gather(1, chosen.movedim(0, 1))


def _resize_axis(images: Int32[Tensor, "b c h w"], axis: int, size: int) -> Int32[Tensor, "b c h2 w2"]:
    """Return images resized along one axis as by Pillow's BOX filter: equal weights of 22 bits, rounded."""
    first, count = (table.to(images.device) for table in _box(images.shape[axis], size))
    shape = [1, 1, 1, 1]
    shape[axis] = size
    total = images.index_select(axis, first)
    most = int(count.max())
    if most == 1:
        return total
    for tap in range(1, most):
        inside = count > tap
        total.add_(images.index_select(axis, first + tap * inside) * inside.to(torch.int32).reshape(shape))
    weights = (0.5 + (1 << 22) / count.to(torch.float64)).to(torch.int32)
    return total.mul_(weights.reshape(shape)).add_(1 << 21).bitwise_right_shift_(22)


@lru_cache(maxsize=64)
def _box(before: int, after: int) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return the first input pixel of each output pixel, and the number of its input pixels."""
    scale = before / after
    width = max(scale, 1.0)
    center = (np.arange(after)[:, None] + 0.5) * scale
    pixel = np.arange(before)
    low, high = ((center + sign * 0.5 * width + 0.5).astype(int) for sign in (-1, 1))
    share = (pixel - center + 0.5) / width
    inside = (pixel >= low) & (pixel < high) & (share > -0.5) & (share <= 0.5)
    return torch.from_numpy(inside.argmax(1)), torch.from_numpy(inside.sum(1))
