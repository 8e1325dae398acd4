"""The causal page: it says what is supported, holds no script, and takes hostile names as text."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from filterbands.datasets import load_data
from filterbands.models import load_model
from filterbands.probes import (
    CorruptionSpectra,
    FrequencyGain,
    correlate,
    gain_by_frequency,
    gradient_spectrum,
)
from filterbands.report import Probed, write_probe_page

OPENED, CLOSED = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"


def test_the_page_is_whole_and_runs_nothing(probe_page: Path) -> None:
    page = probe_page.read_text().replace(OPENED, "").replace(CLOSED, "")
    assert page.startswith("<!doctype html>")
    assert page.count("<script") == 1
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "https://" not in page
    assert page.count("Fourier heat map of") == 2
    assert "gains over plain" in page or "gains more over plain" in page
    for anchor in ("maps", "gains", "passes", "corruptions", "vulnerability"):
        assert f'id="{anchor}"' in page


def test_a_part_that_was_not_probed_has_no_section(tmp_path: Path) -> None:
    page = write_probe_page([Probed(name="a"), Probed(name="b")], tmp_path / "p.html").read_text()
    assert "<section" not in page
    assert "Nothing to show here: no part was probed." in page
    with pytest.raises(ValueError, match="there is no folder"):
        write_probe_page([Probed(name="a")], tmp_path / "none" / "p.html")


def test_the_page_answers_first_and_says_what_it_was_measured_on(
    networks: list[Probed], added: CorruptionSpectra, tmp_path: Path
) -> None:
    given = [networks[0], replace(networks[1], name="unscored", scores=None)]
    made = write_probe_page(
        given, tmp_path / "p.html", corruptions=added, conditions={"data": "mine", "images": "10"}
    ).read_text()
    text = re.sub(r"<[^>]+>", "", made.partition('class="headline">')[2].partition("</div>")[0])
    heat, passes = networks[0].heatmap, networks[0].passes
    assert heat is not None
    assert passes is not None
    assert f"misclassifies {100 * heat.mean_error():.1f}" in text
    assert (passes.reached[0.9] is not None) == ("plain needs frequencies up to" in text)
    assert "no accuracies under corruption of \N{BLACK CIRCLE}&nbsp;unscored: filters" in text
    assert "Probed on data mine &middot; images 10." in text
    assert "Accuracies were measured on data <bdi>planted</bdi> &middot; split <bdi>test</bdi>" in made


def test_a_gradient_and_why_something_is_missing_are_shown(tmp_path: Path) -> None:
    data = load_data("planted").subset(torch.arange(4))
    gradient = gradient_spectrum(load_model(arch="fastnet"), data)
    both = [Probed(name="a", gradient=gradient), Probed(name="b", why="kernels of <i>")]
    page = write_probe_page(both, tmp_path / "p.html").read_text()
    assert page.count("Mean power spectrum of the input gradient of a") == 1
    assert f"low energy {gradient.low_energy():.3f}" in page
    assert "not computed, <bdi>kernels of &lt;i&gt;</bdi>." in page
    page = write_probe_page([Probed(name="a")], tmp_path / "p.html").read_text()
    assert "Input gradient" not in page
    assert "not computed" not in page


def test_the_page_says_whose_patches_the_vulnerability_is_of(networks: list[Probed], tmp_path: Path) -> None:
    def said(*found: Probed) -> str:
        given = {"split": "test", "seed": "7"}
        page = write_probe_page(found, tmp_path / "p.html", conditions=given).read_text()
        return re.sub(r"<[^>]+>", "", page)

    packaged = "that come with the package: of the first 5,000 training images, corrupted with seed 0."
    text = said(networks[0])
    assert "Patches are of cifar10. For 3" in text
    assert packaged in text
    moved = networks[0].vulnerability
    assert moved is not None
    other = replace(networks[1], vulnerability=replace(moved, data="<i>mine"))
    assert "Patches are of cifar10 and &lt;i&gt;mine." in said(networks[0], other)
    assert packaged not in said(other)
    assert "Patches are of" not in said(Probed(name="a"))


def test_a_name_that_turns_its_direction_is_isolated_in_the_sentence(
    networks: list[Probed], added: CorruptionSpectra, tmp_path: Path
) -> None:
    turned = replace(networks[1], name="a\u202eb\u2066c")
    page = write_probe_page([networks[0], turned], tmp_path / "p.html", corruptions=added).read_text()
    assert f"{OPENED}{turned.name}{CLOSED}{CLOSED} gains" in page
    assert f"{OPENED}plain{CLOSED}" in page


def test_kinds_stand_in_the_order_of_their_frequency(
    networks: list[Probed], added: CorruptionSpectra
) -> None:
    one, other = networks[1].scores, networks[0].scores
    assert one is not None
    assert other is not None
    gain = gain_by_frequency(one, other, added)
    assert gain.kinds[0] in ("gaussian_noise", "pixelate")
    assert list(gain.low_energy) == sorted(gain.low_energy)
    for kind, value in zip(gain.kinds, gain.gain, strict=True):
        assert value == pytest.approx(one.kinds[kind][2] - other.kinds[kind][2])


def test_gains_are_of_the_cells_that_both_have_under_equal_conditions(
    networks: list[Probed], added: CorruptionSpectra, tmp_path: Path
) -> None:
    other = networks[0].scores
    assert other is not None
    # At severity 1 all answers are wrong, and only one of the two was measured there.
    cells = {(kind, 1): replace(one, bits=~one.bits & one.bits) for (kind, _), one in other.cells.items()}
    wider = replace(
        other, cells={**other.cells, **{cell: cells[cell] for cell in cells if cell[0] != "clean"}}
    )
    assert set(gain_by_frequency(wider, other, added).gain) == {0.0}
    seeded = replace(other, seed=9)
    with pytest.raises(ValueError, match="saw other corrupted images: seed 9 against 0"):
        gain_by_frequency(seeded, other, added)
    for apart, why in ((wider, "severities 1, 3 instead of 3"), (seeded, "seed 9 instead of 0")):
        given = [networks[0], replace(networks[1], name="b", scores=apart)]
        page = write_probe_page(given, tmp_path / "p.html", corruptions=added).read_text()
        text = re.sub(r"<[^>]+>", "", page)
        assert f"b are not compared, since they were measured otherwise: {why}." in text
        assert "gains over" not in text
        assert "no accuracies under corruption of" not in text


@pytest.mark.parametrize(
    ("gains", "sentence"),
    [
        ([9, 8, 7, 6, 5, 4, 3, 2], "A gains more over B the more a corruption lies at high"),
        ([1, 2, 3, 4, 5, 6, 7, 8], "A gains more over B the more a corruption lies at low"),
        ([5, 1, 4, 2, 8, 3, 1, 6], "The gain of A over B shows no clear relation to"),
    ],
)
def test_the_sentence_says_what_the_interval_does(gains: list[float], sentence: str) -> None:
    low = [0.1 * step for step in range(8)]
    found = FrequencyGain(
        kinds=tuple("abcdefgh"),
        low_energy=tuple(low),
        gain=tuple(map(float, gains)),
        correlation=correlate(low, gains),
    )
    assert found.sentence("A", "B").startswith(sentence)
    few = FrequencyGain(kinds=(), low_energy=(), gain=(), correlation=None)
    assert "fewer than five kinds" in few.sentence("A", "B")
