"""`filterbands report`: one HTML page about networks and results."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from ..disk import check_output
from ..report import write_report
from .shared import Answer, ImageOptions, Options, OutFile, progress_bar


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """Write one HTML page, readable without a network, about networks and their results."""

    sources: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="SOURCE ...")]
    """Run folders, result databases (with what was probed), checkpoints, ONNX files, timm:NAME,
    torchvision:NAME, module:function (which runs that code), and folders of these, such as a study's."""
    out: OutFile
    """The .html file to write."""
    data: Annotated[
        str | None,
        tyro.conf.arg(
            help="The images of the results, of which the page then shows some: planted, digits, "
            "cifar10:DIR, cifar100:DIR, folder:DIR or npz:FILE."
        ),
    ] = None
    images: ImageOptions = field(default_factory=ImageOptions)
    """Which images of the data set were measured."""

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError(
                "name at least one SOURCE: a Run folder, a result database, a checkpoint, an ONNX file, or a "
                "folder of these, such as a study's"
            )
        self.images.check_used(self.data, ImageOptions())


@progress_bar("report")
def run(options: ReportOptions) -> Answer:
    """Write the page and say where it is."""
    out = check_output(options.out, replaced=True)
    data = None if options.data is None else options.images.in_turn(options.data)
    page = write_report(options.sources, out, data=data)
    size = page.stat().st_size
    return Answer(document={"out": str(page), "bytes": size}, text=f"{page}: {size / 1e6:.2f} MB")
