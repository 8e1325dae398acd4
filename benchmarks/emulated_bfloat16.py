"""Run a script with bfloat16 convolutions on a processor without instructions for them, in float32.

PyTorch computes a bfloat16 convolution on such a processor in a loop of its own, ten times as long. Here its
operands, rounded to bfloat16, are multiplied and summed in float32, and the sum is rounded to bfloat16. The
instructions (AVX512_BF16, AMX) do the same in another order. All else is left to autocast.

    python benchmarks/emulated_bfloat16.py -m filterbands study FILE --out DIR --threads 1
    python benchmarks/emulated_bfloat16.py --check

Results that are collected so are marked `emulated`. `--check` compares outputs and gradients of a
convolution with exact sums of the same rounded operands, and prints the share that is the nearest bfloat16
number, for this form and for PyTorch's own.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

PLAIN = F.conv2d
FORWARD = torch.ops.aten.convolution.default
BACKWARD = torch.ops.aten.convolution_backward.default


class Convolution(torch.autograd.Function):
    """A convolution of bfloat16 operands, computed in float32 and rounded to bfloat16."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
        """Return the rounded sums; `rest` is stride, padding, dilation and the number of groups."""
        *where, groups = rest
        ctx.save_for_backward(images, weight)
        ctx.where, ctx.groups = where, groups
        ctx.bias_size = None if bias is None else [len(bias)]
        with torch.autocast(images.device.type, enabled=False):
            bias = None if bias is None else bias.float()
            sums = FORWARD(images.float(), weight.float(), bias, *where, False, [0, 0], groups)
        return sums.bfloat16()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the rounded gradients of images, weight and bias."""
        operands = [values.float() for values in (gradients[0], *ctx.saved_tensors)]
        wanted = list(ctx.needs_input_grad[:3])
        found = BACKWARD(*operands, ctx.bias_size, *ctx.where, False, [0, 0], ctx.groups, wanted)
        return (*(None if part is None else part.bfloat16() for part in found), None, None, None, None)


def conv2d(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """Take the place of `torch.nn.functional.conv2d` where autocast asks for bfloat16."""
    device = images.device.type
    if isinstance(padding, str) or not torch.is_autocast_enabled(device):
        return PLAIN(images, weight, bias, stride, padding, dilation, groups)
    where = [[side, side] if isinstance(side, int) else list(side) for side in (stride, padding, dilation)]
    bias = None if bias is None else bias.bfloat16()
    result: Tensor = Convolution.apply(images.bfloat16(), weight.bfloat16(), bias, *where, groups)
    return result


def check() -> None:
    """Print how many outputs and gradients are the bfloat16 numbers nearest to the exact ones."""
    torch.manual_seed(0)
    images, weight = torch.randn(16, 32, 16, 16).bfloat16(), torch.randn(32, 32, 3, 3).bfloat16()
    seen = torch.randn(16, 32, 16, 16).bfloat16()

    def parts(convolve: Any, dtype: torch.dtype) -> list[Tensor]:
        held = [values.to(dtype, copy=True).requires_grad_() for values in (images, weight)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            sums = convolve(*held, padding=1)
        sums.backward(seen.to(dtype))
        return [sums.detach(), *(values.grad for values in held if values.grad is not None)]

    exact = parts(PLAIN, torch.float64)
    for name, convolve in (("emulated", conv2d), ("torch", PLAIN)):
        found = parts(convolve, torch.bfloat16)
        pairs = zip(("output", "images", "weight"), exact, found, strict=True)
        shares = (f"{part} {(a.bfloat16() == b).float().mean():.5f}" for part, a, b in pairs)
        print(f"{name:9}", *shares)


def main() -> None:
    """Run the script or the module that the command line names."""
    words = sys.argv[1:]
    if words == ["--check"]:
        return check()
    # What collects results writes it into their lines.
    os.environ["FILTERBANDS_EMULATED"] = "bfloat16"
    F.conv2d = conv2d
    torch.conv2d = conv2d
    if words[:1] == ["-m"] and len(words) > 1:
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words:
        sys.argv = words
        sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")
    else:
        sys.exit("name a script, or -m and a module, or --check; see the head of this file")
    return None


if __name__ == "__main__":
    main()
