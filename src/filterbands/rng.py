"""Keyed random numbers: the numbers of image i depend on its key alone, not on batch, order or device.

The generator is counter-based: word j of the image with key k is `mix(k + (j + 1) * GAMMA)` with the
increment and the finalizer of SplitMix64, in 64-bit wrap-around arithmetic. Each draw uses 32 bits of a word,
the low half first, so that a word gives two numbers.

Integer operations are exact on all devices. Normals use a logarithm, a cosine and a sine, whose last bit
depends on the library; all other numbers are identical everywhere. Keys and draws first call
`settle_kernels`, without which the first logarithms of a process can be inexact. No number depends on torch's
default type.

Source: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators" (OOPSLA), figure 15,
with the finalizer constants of Stafford's variant 13.
"""

import hashlib
import math
from typing import SupportsIndex

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from .checks import whole_number
from .engine import settle_kernels
from .types import Keys

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
# Each stream of an image starts this many counters after the one before it.
_STREAM_STRIDE = 1 << 40
# Words that are mixed at once on a CPU: the block and its scratch space fit into the cache of a core.
_BLOCK = 1 << 15


def keys(seed: SupportsIndex, *parts: str | SupportsIndex, index: Int64[Tensor, " b"]) -> Keys:
    """Return one key per image, a hash of the seed, the parts (such as kind and severity) and the index.

    Args:
        seed: Any integer, of any type.
        parts: The purpose of the numbers; different parts give independent numbers.
        index: The number of each image, which is the same in any batch or order.

    >>> int((keys(0, "fog", 3, index=torch.arange(2)) == keys(0, "fog", 3, index=torch.arange(2))).sum())
    2
    """
    settle_kernels()
    named = [f"str:{part}" if isinstance(part, str) else f"int:{whole_number('key', part)}" for part in parts]
    text = "\x1f".join([str(whole_number("seed", seed)), *named])
    base = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
    # Mixed twice, so that the sequences of consecutive images do not overlap.
    return _mix(_mix(index * _GAMMA).bitwise_xor_(base))


def bits(key: Keys, count: int, *, stream: int = 0) -> Int64[Tensor, "b {count}"]:
    """Return `count` words of 64 random bits per image, as signed integers.

    Args:
        key: One key per image.
        count: Words per image, below 2^40.
        stream: Draws of different streams are independent; give each draw of one key its own stream.

    >>> [hex(word & 2**64 - 1) for word in bits(torch.tensor([1234567]), 2)[0].tolist()]
    ['0x599ed017fb08fc85', '0x2c73f08458540fa5']
    """
    settle_kernels()
    first = stream * _STREAM_STRIDE + 1
    step = torch.arange(first, first + count, device=key.device, dtype=torch.int64) * _GAMMA
    words = torch.empty(len(key), count, device=key.device, dtype=torch.int64)
    rows = max(1, _BLOCK // max(1, count)) if key.device.type == "cpu" else max(1, len(key))
    for start in range(0, len(key), rows):
        block = words[start : start + rows]
        torch.add(key[start : start + rows, None], step[None], out=block)
        _mix(block)
    return words


def uniform(key: Keys, shape: tuple[int, ...], *, stream: int = 0) -> Float[Tensor, "b ..."]:
    """Return float32 uniforms in [0, 1), multiples of 2^-24, of `shape` per image.

    Args:
        key: One key per image.
        shape: Shape of the numbers of one image.
        stream: As for `bits`.

    >>> uniform(torch.tensor([5, 6]), (3,)).shape
    torch.Size([2, 3])
    """
    half = _halves(key, math.prod(shape), stream=stream)
    value: Tensor = (half >> 8).to(torch.float32).add_(2.0**23).mul_(2.0**-24)
    return value.reshape(len(key), *shape)


def normal(
    key: Keys, shape: tuple[int, ...], *, stream: int = 0, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "b ..."]:
    """Return standard normals of `shape` per image, at most 5.77 in size (Box-Muller transform).

    Args:
        key: One key per image.
        shape: Shape of the numbers of one image.
        stream: As for `bits`.
        dtype: Type that they are computed in; float64 gives the same numbers to 15 digits on all machines.

    Source: Box, Muller 1958, "A note on the generation of random normal deviates".

    >>> normal(torch.tensor([5, 6]), (3,)).shape
    torch.Size([2, 3])
    """
    count = math.prod(shape)
    pairs = (count + 1) // 2
    half = _halves(key, 2 * pairs, stream=stream)
    # Uniform in (0, 1], so that the logarithm is finite.
    radius = (half[:, :pairs] >> 8).to(dtype).add_(2.0**23 + 1).mul_(2.0**-24)
    radius.log_().mul_(-2).sqrt_()
    angle = half[:, pairs:].to(dtype).mul_(math.pi * 2.0**-31)
    pair = torch.empty(len(key), 2 * pairs, dtype=dtype, device=key.device)
    torch.mul(radius, angle.cos(), out=pair[:, :pairs])
    torch.mul(radius, angle.sin_(), out=pair[:, pairs:])
    return pair[:, :count].reshape(len(key), *shape)


def integers(
    key: Keys, low: int, high: int, shape: tuple[int, ...], *, stream: int = 0
) -> Int64[Tensor, "b ..."]:
    """Return integers that are uniform on low..high-1, of `shape` per image.

    The bias of the fixed-point product is below (high - low) / 2^32.

    >>> sorted(set(integers(torch.tensor([5]), 3, 6, (99,))[0].tolist()))
    [3, 4, 5]
    """
    half = _halves(key, math.prod(shape), stream=stream).to(torch.int64).bitwise_and_(0xFFFFFFFF)
    return half.mul_(high - low).bitwise_right_shift_(32).add_(low).reshape(len(key), *shape)


def _halves(key: Keys, count: int, *, stream: int) -> Int32[Tensor, "b {count}"]:
    """Return `count` words of 32 random bits per image, as signed integers, the low half of a word first."""
    return bits(key, (count + 1) // 2, stream=stream).view(torch.int32)[:, :count]


def _mix(word: Int64[Tensor, "..."]) -> Int64[Tensor, "..."]:
    """Replace each word by its SplitMix64 finalizer, and return the words.

    `>>` is arithmetic, so the copies of the sign are masked.
    """
    for shift, factor in ((30, _MIX_1), (27, _MIX_2), (31, None)):
        word.bitwise_xor_((word >> shift).bitwise_and_((1 << 64 - shift) - 1))
        if factor is not None:
            word.mul_(factor)
    return word
