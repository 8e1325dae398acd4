"""`filterbands bake`: the plain weights, ready to deploy."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from ..filters import bake
from ..models import describe, read_checkpoint
from ..run import check_output, write_weights
from .shared import Answer, ModelOptions


@dataclass(frozen=True, kw_only=True)
class BakeOptions(ModelOptions):
    """Write the plain weights of a run or checkpoint as safetensors."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL_OR_RUN")]
    """A checkpoint file or a Run folder."""
    out: Annotated[str, tyro.conf.arg(metavar="FILE")]
    """The .safetensors file to write."""


OPTIONS = BakeOptions


def run(options: BakeOptions) -> Answer:
    """Write the plain weights and say what they are."""
    out = check_output(options.out)
    model = bake(options.load(options.model))
    known = read_checkpoint(options.model)[1]
    arch = options.arch or known.get("arch", "")
    metadata = describe(model, arch=arch)
    weights = model.state_dict()
    write_weights(out, weights, metadata)
    count = sum(tensor.numel() for tensor in weights.values())
    return Answer(
        document={"out": str(out), "arch": arch, "numbers": count},
        text=f"{out}: {metadata['arch']}, {count:,} numbers",
    )
