"""Keyed random numbers: image i's numbers depend on its key alone, not on batch, order or device.

The generator is counter-based: number j of the image with key k is `mix(k + (j + 1) * GAMMA)` with
SplitMix64's increment and finaliser, in 64-bit wrap-around arithmetic.

Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators" (OOPSLA), figure 15,
with the finaliser constants of Stafford's variant 13.
"""

import hashlib
import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .types import Keys

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
# Each stream of an image starts this many counters after the one before it.
_STREAM_STRIDE = 1 << 40


def keys(seed: int, *parts: str | int, index: Int64[Tensor, " b"]) -> Keys:
    """Return one key an image, a hash of the seed, the parts (say kind and severity) and its index.

    Args:
        seed: Any integer.
        parts: What the numbers are for; different parts give independent numbers.
        index: The images' own numbers, which stay the same in any batch or order.

    >>> int((keys(0, "fog", 3, index=torch.arange(2)) == keys(0, "fog", 3, index=torch.arange(2))).sum())
    2
    """
    text = "\x1f".join([str(seed), *(f"{type(part).__name__}:{part}" for part in parts)])
    base = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
    return _mix(_mix(index * _GAMMA) ^ base)


def bits(key: Keys, count: int, *, stream: int = 0) -> Int64[Tensor, "b {count}"]:
    """Return 64 random bits `count` times an image, as signed integers."""
    first = stream * _STREAM_STRIDE + 1
    counter = torch.arange(first, first + count, device=key.device, dtype=torch.int64)
    return _mix(key[:, None] + (counter * _GAMMA)[None])


def uniform(key: Keys, shape: tuple[int, ...], *, stream: int = 0) -> Float[Tensor, "b ..."]:
    """Return float32 uniforms in [0, 1), multiples of 2^-24, of `shape` an image.

    Args:
        key: One key an image.
        shape: Shape of one image's numbers.
        stream: Draws of different streams are independent; give each draw of one key its own.
    """
    value: Tensor = bits(key, math.prod(shape), stream=stream) >> 40 & 0xFFFFFF
    return (value.to(torch.float32) * 2.0**-24).reshape(len(key), *shape)


def normal(key: Keys, shape: tuple[int, ...], *, stream: int = 0) -> Float[Tensor, "b ..."]:
    """Return float32 standard normals of `shape` an image (Box and Muller's transform).

    Source: Box, Muller 1958, "A note on the generation of random normal deviates".
    """
    count = math.prod(shape)
    word = bits(key, (count + 1) // 2, stream=stream)
    # 1 - u lies in (0, 1], so that the logarithm is finite.
    radius = torch.log(1 - (word >> 40 & 0xFFFFFF).to(torch.float32) * 2.0**-24).mul_(-2).sqrt_()
    angle = (word & 0xFFFFFF).to(torch.float32) * (2.0**-24 * 2 * math.pi)
    pair = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return pair[:, :count].reshape(len(key), *shape)


def integers(key: Keys, low: int, high: int, shape: tuple[int, ...], *, stream: int = 0) -> Int64[Tensor, "b ..."]:
    """Return integers uniform on low..high-1 of `shape` an image.

    The bias of the fixed-point product is below (high - low) / 2^32.
    """
    word: Tensor = bits(key, math.prod(shape), stream=stream) >> 32 & 0xFFFFFFFF
    return (low + (word * (high - low) >> 32)).reshape(len(key), *shape)


def _mix(word: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """Return SplitMix64's finaliser of each word; `>>` is arithmetic, so the sign's copies are masked off."""
    word = (word ^ (word >> 30 & (1 << 34) - 1)) * _MIX_1
    word = (word ^ (word >> 27 & (1 << 37) - 1)) * _MIX_2
    return word ^ (word >> 31 & (1 << 33) - 1)
