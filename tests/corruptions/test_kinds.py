"""The pages on corruptions show all kinds, and the constants that are used."""

from pathlib import Path

import pytest

from filterbands.corruptions import CORRUPTIONS, kinds_of
from filterbands.corruptions.kinds import CIFAR, IMAGENET
from filterbands.corruptions.pixels import Severities

DOCS = Path(__file__).parents[2] / "docs"


def _column(severities: Severities) -> str:
    return " · ".join(" ".join(f"{round(number, 4):g}" for number in row) for row in severities)


@pytest.mark.parametrize("kind", kinds_of("c"))
def test_the_page_s_constants_are_those_in_use(kind: str) -> None:
    row = f"| {_column(CIFAR[kind])} | {_column(IMAGENET[kind])} |"
    page = (DOCS / "studies" / "corruptions.md").read_text()
    assert [line for line in page.splitlines() if line.endswith(row) and f"`{kind}`" in line]


def test_the_page_names_every_kind_and_family() -> None:
    page = (DOCS / "corrupt.md").read_text()
    for kind in (CORRUPTIONS[name] for name in kinds_of("c")):
        extra = "" if kind.benchmark else " *"
        assert f"| `{kind.name}`{extra} | {kind.family} |" in page
