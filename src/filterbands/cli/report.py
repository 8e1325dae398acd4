"""`filterbands report`: one HTML page about runs and results."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from ..disk import check_output
from ..report import write_report
from .shared import Answer, ImageOptions, Options, OutFile, progress_bar


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """Write one HTML page, readable without a network, about runs and results."""

    sources: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN_OR_DB ...")]
    """Run folders and result databases."""
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
            raise ValueError("name at least one RUN_OR_DB: a Run folder or a result database")


@progress_bar("report")
def run(options: ReportOptions) -> Answer:
    """Write the page and say where it is."""
    out = check_output(options.out)
    data = None if options.data is None else options.images.in_turn(options.data)
    page = write_report(options.sources, out, data=data)
    size = page.stat().st_size
    return Answer(document={"out": str(page), "bytes": size}, text=f"{page}: {size / 1e6:.2f} MB")
