"""Scores, spectra and vulnerability on one page are of the severities that they share."""

import re
from pathlib import Path

import numpy as np
import torch

from filterbands.probes import CorruptionSpectra, Spectrum, Vulnerability
from filterbands.report import Probed, write_probe_page
from filterbands.scores import Scores

KINDS = ("gaussian_noise", "fog", "contrast", "brightness", "pixelate")
LABELS = np.arange(10) % 2


def test_the_page_of_probe_takes_the_severities_of_the_accuracies(tmp_path: Path) -> None:
    # At severity 3 errors follow the vulnerability; its mean with severity 5 has the opposite order.
    whole = {(kind, 3): 0.1 * place for place, kind in enumerate(KINDS)}
    whole |= {(kind, 5): 9.0 - place for place, kind in enumerate(KINDS)}
    given = {
        (kind, 3): np.where(np.arange(10) < place, 1 - LABELS, LABELS) for place, kind in enumerate(KINDS)
    }
    scores = Scores.from_predictions(LABELS, {("clean", 0): LABELS, **given}, name="net")
    moved = Vulnerability(
        layer="conv1", batch_norm=None, found_by="registration", filters={}, whole=whole, data="d"
    )
    powers = {cell: torch.zeros(8, 8) for cell in whole}
    for cell, power in powers.items():
        # Frequency zero, or the corner.
        power[(4, 4) if cell[1] == 3 else (0, 0)] = 1.0
    spectra = CorruptionSpectra(spectra={at: Spectrum(power=one) for at, one in powers.items()}, images=1)
    shown = [Probed(name="net", vulnerability=moved, scores=scores)]
    page = write_probe_page(shown, tmp_path / "p.html", corruptions=spectra).read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert re.search(r"rank correlation with error 1\.00 ", text)
    for kind in KINDS:
        assert re.search(rf"{kind.replace('_', ' ')} 1\.00\d* \d", text), kind
