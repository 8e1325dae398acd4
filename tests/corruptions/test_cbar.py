"""C-bar as a set: its names, its constants, its page, and every cell's statistics against the original's.

The statistics are those of 1,000 test images: for each of the 50 cells the mean squared difference, the mean
difference of each channel, and the power of the difference in 8 rings of frequencies, 540 comparisons of
the random kinds. Each is the difference of two means over the same images with other draws, over its
standard error as if the images were others; |z| must stay below 4. Were that so, one table in 29 would fail
by chance (6.3e-5 a comparison); the images being shared, fewer do: the original against itself has an rms z
of 0.61 and none above 2.86. circular_motion_blur draws nothing and must agree to the reference's six digits.

No network sees these kinds here, nor in any other test: see docs/studies/methods.md.
"""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from filterbands.corruptions import CORRUPTIONS, PARAMETERS, corrupt, expand_kinds, kinds_of

LIMIT = 4.0
PAGE = Path(__file__).parents[2] / "docs" / "studies" / "cbar.md"
# What the authors' levels are multiplied by, and added, to give our constants.
FROM_LEVELS = {
    "blue_noise_sample": ((0.3, -2.5),),
    "checkerboard_cutout": ((0.1, 0),),
    "inverse_sparkles": ((0.13, 0),),
    "pinch_and_twirl": ((9, 0), (0.04, 0.1)),
    "ripple": ((0.0025, 0),),
    "brownish_noise": ((6.4, 0),),
    "circular_motion_blur": ((1.5, 0),),
    "lines": ((0.1, 0),),
    "sparkles": ((0.01, 0),),
    "transverse_chromatic_abberation": ((0.05, 0),),
    "caustic_refraction": ((0.05, 0), (0.2, 0)),
    "perlin_noise": ((0.05, 0),),
    "plasma_noise": ((6.4, 0),),
    "cocentric_sine_waves": ((12.8, 0),),
    "single_frequency_greyscale": ((19.6, 0),),
}


def test_cbar_comes_after_the_nineteen_and_is_in_no_average() -> None:
    names = list(CORRUPTIONS)
    assert tuple(names[:19]) == kinds_of("c") == kinds_of("c", parameters="imagenet")
    assert tuple(names[19:29]) == kinds_of("cbar")
    assert set(names[19:]) == {*kinds_of("cbar"), *kinds_of("cbar", parameters="imagenet")}
    for name in names[19:]:
        assert not CORRUPTIONS[name].benchmark
        assert CORRUPTIONS[name].suite == CORRUPTIONS[name].family == "cbar"


@pytest.mark.parametrize(("name", "key"), [("cifar", "cifar10_c_bar"), ("imagenet", "imagenet_c_bar")])
def test_order_and_constants_are_those_of_the_generator(shared: Path, name: str, key: str) -> None:
    published = json.loads((shared / "cbar" / "parameters.json").read_text())
    kinds = kinds_of("cbar", parameters=name)
    assert list(kinds) == published[f"order_{key}"]
    for kind in kinds:
        for level, ours in zip(published[key][kind]["level"], PARAMETERS[name][kind], strict=True):
            assert list(ours) == pytest.approx([level * by + plus for by, plus in FROM_LEVELS[kind]])


def test_names_of_sets_become_their_kinds_each_once_in_order() -> None:
    assert expand_kinds(["cbar"]) == kinds_of("cbar")
    assert expand_kinds(["cbar"], parameters="imagenet") == kinds_of("cbar", parameters="imagenet")
    assert expand_kinds(["lines", "fog", "cbar", "fog"])[:3] == ("lines", "fog", "blue_noise_sample")
    assert len(expand_kinds(["c", "cbar"])) == 29
    assert set(expand_kinds(["c"])) - set(expand_kinds(["all-but-frost"])) == {"frost"}
    assert expand_kinds([]) == ()


def test_unknown_names_and_kinds_of_the_other_table_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"unknown kind 'line' \(did you mean lines\?\)"):
        expand_kinds(["line"])
    with pytest.raises(ValueError, match=r"\(did you mean cbar\?\).* and the sets c, cbar, all-but-frost"):
        expand_kinds(["c-bar"])
    with pytest.raises(ValueError, match="'cifar' or 'imagenet', got 'cifar10'"):
        expand_kinds(["cbar"], parameters="cifar10")
    with pytest.raises(ValueError, match="'lines' has no constants in parameters 'imagenet'; use 'cifar'"):
        expand_kinds(["lines"], parameters="imagenet")
    with pytest.raises(ValueError, match="'plasma_noise' has no constants in parameters 'cifar'; use 'imag"):
        corrupt(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "plasma_noise", severity=1, seed=0)


@pytest.mark.parametrize(
    ("parameters", "kind"),
    [(name, kind) for name in PARAMETERS for kind in kinds_of("cbar", parameters=name)],
)
def test_the_page_s_constants_are_those_in_use(parameters: str, kind: str) -> None:
    column = " · ".join(" ".join(f"{number:g}" for number in row) for row in PARAMETERS[parameters][kind])
    told, constants = PAGE.read_text().split("## Constants")
    assert f"| `{kind}` |" in told.split("## What is exact")[0], "a row that tells what it does"
    (line,) = [line for line in constants.splitlines() if line.startswith(f"| `{kind}` |")]
    assert f"| {column} |" in line


@pytest.mark.parametrize("kind", sorted({*kinds_of("cbar"), *kinds_of("cbar", parameters="imagenet")}))
def test_large_images_that_are_not_square_work(kind: str) -> None:
    image = torch.arange(3 * 512 * 100).reshape(1, 3, 512, 100).div(7).remainder(256).to(torch.uint8)
    result = corrupt(image, kind, severity=3, seed=0, parameters=CORRUPTIONS[kind].tables[-1])
    assert result.shape == image.shape
    assert not torch.equal(result, image)


def statistics(clean: Tensor, corrupted: Tensor) -> dict[str, Tensor]:
    """Return a row an image: the mean square, each channel's mean, the power in 8 rings of frequencies."""
    difference = (corrupted.double() - clean) / 255
    power = torch.fft.fft2(difference).abs().square().div_(1024**2).mean(1).flatten(1)
    frequency = torch.fft.fftfreq(32) * 32
    radius = torch.hypot(frequency[:, None], frequency[None])
    ring = (radius / (2 * math.sqrt(2)) + 1e-6).long().clamp_(max=7).flatten()
    rings = torch.zeros(len(clean), 8, dtype=torch.float64).index_add_(1, ring, power)
    return {
        "mse": difference.square().mean((1, 2, 3))[:, None],
        "signed": difference.mean((2, 3)),
        "power": rings / torch.bincount(ring, minlength=8),
    }


@pytest.fixture(scope="module")
def test_images(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    """The first 1,000 CIFAR-10 test images."""
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run(
        [sys.executable, shared / "cifar10" / "unpack.py", folder], check=True, capture_output=True
    )
    records = np.fromfile(next(folder.rglob("test_batch.bin")), np.uint8).reshape(-1, 3073)
    return torch.from_numpy(records[:1000, 1:].reshape(-1, 3, 32, 32).copy())


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds_of("cbar"))
def test_every_cell_has_the_original_s_statistics(kind: str, test_images: Tensor, shared: Path) -> None:
    cells = json.loads((shared / "cbar" / "statistics.json").read_text())["cells"]
    for severity in range(1, 6):
        original = cells[kind][str(severity)]["seed0"]
        ours = statistics(test_images, corrupt(test_images, kind, severity=severity, seed=0))
        for quantity, rows in ours.items():
            key = quantity if quantity == "power" else f"{quantity}_mean"
            theirs = torch.tensor(original[key], dtype=torch.float64).reshape(-1)
            spread = torch.tensor(original[f"{quantity}_std"], dtype=torch.float64).reshape(-1)
            if kind == "circular_motion_blur":
                torch.testing.assert_close(rows.mean(0), theirs, rtol=1e-5, atol=1e-12)
                continue
            error = ((spread.square() + rows.var(0)) / len(rows)).sqrt() + 1e-12
            # The reference is rounded to six digits.
            z = ((rows.mean(0) - theirs).abs() - 1e-5 * theirs.abs()).clamp(min=0) / error
            assert float(z.max()) < LIMIT, (severity, quantity, z)
