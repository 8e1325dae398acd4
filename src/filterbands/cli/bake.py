"""`filterbands bake`: writes the plain weights, ready to deploy."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from torch import Tensor, nn

from ..control import bake, bake_weights
from ..disk import check_output, write_weights
from ..filters import analyze
from ..models import describe, read_checkpoint
from .shared import Answer, DeviceOptions, NetworkOptions, OutFile


@dataclass(frozen=True, kw_only=True)
class BakeOptions(DeviceOptions):
    """Write the plain weights of a run or checkpoint as safetensors.

    A checkpoint that was saved while layers were held by set_share or modulate is folded.
    """

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL_OR_RUN")]
    """A checkpoint file or a Run folder."""
    network: NetworkOptions = field(default_factory=NetworkOptions)
    """The network, and what it expects of its images."""
    out: OutFile
    """The .safetensors file to write."""


_KEYS = ("name", "low_share", "low_energy", "mean_low_energy")


def run(options: BakeOptions) -> Answer:
    """Write the plain weights and return what they are."""
    out = check_output(options.out)
    saved, known = read_checkpoint(options.model, key=options.network.key)
    weights = bake_weights(saved)
    folded = sorted(set(weights) - set(saved))
    model = (
        _with_weights(options, weights, known) if folded else bake(options.network.load(options.model).eval())
    )
    arch = options.network.arch or known.get("arch", "")
    metadata = describe(model, arch=arch)
    plain = model.state_dict()
    write_weights(out, plain, metadata)
    count = sum(tensor.numel() for tensor in plain.values())
    first = next(layer for layer in analyze(model) if layer.low_share is not None)
    document = {
        "out": str(out),
        "arch": arch,
        "numbers": count,
        "folded": folded,
        "first_layer": {key: getattr(first, key) for key in _KEYS},
    }
    text = (
        f"{out}: {metadata['arch']}, {count:,} numbers"
        f"{', folded ' + ', '.join(folded) if folded else ''}; {first.name} has low share "
        f"{first.low_share:.3f}, low energy {first.low_energy:.3f}, mean low energy "
        f"{first.mean_low_energy:.3f}"
    )
    return Answer(document=document, text=text)


def _with_weights(options: BakeOptions, weights: dict[str, Tensor], known: Mapping[str, str]) -> nn.Module:
    """Return the network with folded weights, which go through a file as all weights do."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "plain.safetensors"
        write_weights(file, weights, known)
        try:
            return replace(options.network, key=None).load(str(file))
        except ValueError as error:
            raise ValueError(str(error).replace(str(file), options.model)) from None
