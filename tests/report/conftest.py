"""Runs and a database as training and evaluation leave them, made in a moment and with hostile names."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from filterbands.datasets import ImageSet, load_data
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.filters import Trajectory, analyze, input_gradient_spectrum
from filterbands.models import describe, load_model
from filterbands.probes import (
    CorruptionSpectra,
    cifar10_moments,
    corruption_spectra,
    fourier_heatmap,
    pass_curves,
    vulnerability,
)
from filterbands.report import Analyzed, Probed, write_probe_page, write_report, write_spectra
from filterbands.run import Run

SCRIPT = "<script>alert(1)<"
QUOTES = "\"]}'&gt; {{ünïcode ✓ 网络}} \u202e\u2066"
KINDS = ("gaussian_noise", "fog", "contrast")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PROBED = ("gaussian_noise", "fog", "contrast", "brightness", "pixelate")


class Results(NamedTuple):
    folder: Path
    runs: list[Path]
    database: Path
    scores: list[Any]


def first_layer(model: torch.nn.Module) -> dict[str, Any]:
    layer = analyze(model)["conv1"]
    assert layer.curve is not None
    return {
        "name": "conv1",
        "low_share": layer.low_share,
        "low_energy": layer.low_energy,
        "mean_low_energy": layer.mean_low_energy,
        "radii": layer.radii.tolist(),
        "curve": layer.curve.tolist(),
    }


def write_run(folder: Path, *, recipe: str, seed: int, finished: bool = True) -> Path:
    """Write a run of three epochs in which the filters become smoother."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model = load_model(arch="fastnet")
    layer = model.get_submodule("conv1")
    start = layer.weight.detach().clone()
    smooth = torch.nn.functional.avg_pool2d(start, 3, 1, 1) * 3
    log: list[dict[str, Any]] = [{"epoch": 0, "first_layer": first_layer(model)}]
    for epoch in (1, 2, 3):
        layer.weight.data = start + 0.25 * epoch * seed * (smooth - start)
        figures = {"loss": 2.0 / epoch, "accuracy": 0.3 * epoch, "seconds": 2.0 * epoch}
        log.append({"epoch": epoch, **figures, "first_layer": first_layer(model)})
    run = Run(folder)
    run.write(
        {
            "config": {
                "recipe": recipe,
                "arch": "fastnet",
                "epochs": 3,
                "seed": seed,
                "share": {"low": None},
            },
            "version": "0.1.0",
            "git": "0123456789ab-dirty",
            "data": {"name": SCRIPT, "split": "train", "images": 9000, "fingerprint": "f1" * 32},
            "seconds": 6.5 if finished else None,
        }
    )
    run.write_log(log)
    if finished:
        layer.weight.data[5] = 0.0
        run.write_weights(model.state_dict(), describe(model, arch="fastnet"))
    return folder


@pytest.fixture(scope="session")
def images() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        name="noise <b>",
        split="test",
        images=torch.randint(0, 256, (60, 3, 16, 16), generator=generator, dtype=torch.uint8),
        labels=torch.arange(60) % 10,
        classes=tuple(f"class <i>{number}" for number in range(10)),
        index=torch.arange(60),
    )


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory, images: ImageSet) -> Results:
    folder = tmp_path_factory.mktemp("results")
    database = folder / "results.db"
    runs, scores = [], []
    for seed, (name, recipe) in enumerate(((SCRIPT, "share_low"), ("plain", "standard"), (QUOTES, "x"))):
        run = write_run(folder / name, recipe=recipe, seed=seed)
        # No folder can hold a slash; a name in a database can.
        listed = run.name.replace(SCRIPT, f"{SCRIPT}/script>")
        config = EvaluateConfig(name=listed, kinds=KINDS, severities=(1, 5))
        scores.append(evaluate(load_model(run), images, config=config, db=database))
        runs.append(run)
    return Results(folder, runs, database, scores)


@pytest.fixture(scope="session")
def page(results: Results, images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    return write_report([*results.runs, results.database], out, title=f"Title {SCRIPT}", data=images)


@pytest.fixture(scope="session")
def networks() -> list[Probed]:
    data = load_data("planted").subset(torch.arange(10))
    found = []
    for seed, name in enumerate(("plain", "</style><script>alert(1)</script>")):
        torch.manual_seed(seed)
        model = load_model(arch="fastnet")
        found.append(
            Probed(
                name=name,
                heatmap=fourier_heatmap(model, data, norm=2.0, limit=1),
                passes=pass_curves(model, data, limit=3),
                vulnerability=vulnerability(model, cifar10_moments()),
                layer=next(iter(analyze(model))),
                scores=evaluate(model, data, config=EvaluateConfig(kinds=PROBED, severities=(3,))),
            )
        )
    return found


@pytest.fixture(scope="session")
def added() -> CorruptionSpectra:
    return corruption_spectra(load_data("planted"), kinds=PROBED, severities=[3], limit=10)


@pytest.fixture(scope="session")
def probe_page(
    networks: list[Probed], added: CorruptionSpectra, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return write_probe_page(networks, tmp_path_factory.mktemp("page") / "probe.html", corruptions=added)


@pytest.fixture(scope="session")
def spectra_page(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = load_model(arch="fastnet")
    gradient = input_gradient_spectrum(model, images)
    plain = analyze(nn.ModuleDict({"<b>conv": nn.Conv2d(3, 8, 3), "deep": nn.Conv2d(8, 4, 3, stride=2)}))
    found = [
        Analyzed(path="<i>0", spectrum=analyze(model), gradient=gradient),
        Analyzed(path=QUOTES, spectrum=plain),
    ]
    rows = [
        {"step": step, "checkpoint": "", **layer.to_row()}
        for step, one in enumerate(found)
        for layer in one.spectrum
    ]
    out = tmp_path_factory.mktemp("page") / "analyze.html"
    return write_spectra(found, out, together=Trajectory(rows=tuple(rows)))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on the path")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()
