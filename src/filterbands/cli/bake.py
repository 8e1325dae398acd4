"""`filterbands bake`: writes the plain weights, ready to deploy."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from ..control import bake
from ..disk import check_output, write_weights
from ..filters import analyze
from ..models import held_weights, is_named, read_checkpoint
from .shared import Answer, DeviceOptions, NetworkOptions, OutFile


@dataclass(frozen=True, kw_only=True)
class BakeOptions(DeviceOptions):
    """Write the plain weights of a run or checkpoint as safetensors.

    A checkpoint that was saved while layers were held by set_share or modulate is folded.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL_OR_RUN")]
    """A checkpoint, a Run, timm:NAME, torchvision:NAME, or module:function (which runs that code)."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    """The network, and what it expects of its images."""
    out: OutFile
    """The .safetensors file to write."""
    batch_size: int = 0
    """Taken as by the other verbs; no image is read here."""


_KEYS = ("name", "low_share", "low_energy", "mean_low_energy")


def run(options: BakeOptions) -> Answer:
    """Write the plain weights and return what they are."""
    device = options.start(options.device)
    out = check_output(options.out, replaced=True)
    saved = {} if is_named(options.model) else read_checkpoint(options.model, key=options.network.key)[0]
    folded = sorted(held_weights(saved))
    model = bake(options.network.load(options.model).to(device))
    metadata = options.network.described(model, options.model)
    plain = model.state_dict()
    write_weights(out, plain, metadata)
    count = sum(tensor.numel() for tensor in plain.values())
    first = next((layer for layer in analyze(model) if layer.low_share is not None), None)
    document = {
        "out": str(out),
        "arch": metadata["arch"],
        "numbers": count,
        "folded": folded,
        "first_layer": None if first is None else {key: getattr(first, key) for key in _KEYS},
    }
    text = f"{out}: {metadata['arch']}, {count:,} numbers{', folded ' + ', '.join(folded) if folded else ''}"
    if first is not None:
        text += (
            f"; {first.name} has low share {first.low_share:.3f}, low energy {first.low_energy:.3f}, "
            f"mean low energy {first.mean_low_energy:.3f}"
        )
    return Answer(document=document, text=text)
