"""Training with a power spectrum that is learned or follows a schedule, and with views that must agree."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from filterbands import rng
from filterbands.control import SpectralNoise
from filterbands.models import read_weights
from filterbands.report import write_report
from filterbands.run import Run
from filterbands.training import METHODS, RECIPES, TrainConfig, train, with_settings
from filterbands.training.methods.losses import following
from filterbands.training.networks import in_training, set_progress

Configs = Callable[[str], TrainConfig]


def config(*settings: str, recipe: str = "spectral") -> TrainConfig:
    return with_settings(RECIPES[recipe](), settings)


def front(network: nn.Module) -> SpectralNoise:
    return next(module for module in network.modules() if isinstance(module, SpectralNoise))


def test_the_log_says_what_each_epoch_learned_and_nothing_stays_in_the_weights(
    config_of: Configs, whole: Callable[[str], Run], tmp_path: Path
) -> None:
    learned = with_settings(config_of("spectral"), ["spectral.learn=joint", "spectral.learning_rate=0.5"])
    run = train(learned, tmp_path / "run")
    first, *later = run.read_log()
    assert first["spectral"]["bands"] == [0.025, 0.05, 0.1, 0.175, 0.25, 0.4, 0.5, 0.6]
    assert [record["spectral"]["noise"] != first["spectral"]["noise"] for record in later] == [True] * 3
    plain = whole("spectral")
    assert "spectral" not in plain.last_epoch()
    assert read_weights(run.weights).keys() == read_weights(plain.weights).keys()


def test_with_averaged_weights_the_log_has_the_strengths_in_force(config_of: Configs, tmp_path: Path) -> None:
    # Averages change neither the weights that learn nor the strengths.
    learned = with_settings(config_of("spectral"), ["spectral.learn=joint", "spectral.learning_rate=0.5"])
    logs = [train(replace(learned, ema=ema), tmp_path / str(ema)).read_log() for ema in (0.0, 0.9)]
    plain, averaged = ([record["spectral"] for record in log] for log in logs)
    assert plain == averaged


def test_a_killed_run_learns_on_to_the_same_bits(config_of: Configs, tmp_path: Path) -> None:
    learned = with_settings(config_of("spectral"), ["spectral.learn=separate", "spectral.schedule=clear"])
    whole = train(learned, tmp_path / "whole")

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(learned, tmp_path / "killed", on_epoch=stop)
    killed = train(learned, tmp_path / "killed", resume=True)
    ours, theirs = read_weights(killed.weights), read_weights(whole.weights)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert killed.last_epoch()["spectral"] == whole.last_epoch()["spectral"]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [(1, 1)] * 5),
        ("fade", [(1, 1), (1, 1), (1, 1), (0.4, 1), (0, 1)]),
        ("clear", [(1, 1), (1, 1), (1, 1), (1, 0.4), (1, 0)]),
        ("rise", [(0, 1), (0.5, 1), (1, 1), (1, 1), (1, 1)]),
    ],
)
def test_schedules_are_straight_lines(schedule: str, expected: list[tuple[float, float]]) -> None:
    chosen = config(f"spectral.schedule={schedule}")
    _, network = in_training(chosen, classes=4)
    found = []
    for done in (0, 0.25, 0.75, 0.9, 1):
        set_progress(network, chosen, done)
        found.append((front(network).scale, front(network).chance))
    assert found == [pytest.approx(each) for each in expected]


WHITE = [
    *(f"spectral.{part}=0" for part in ("strength", "gain", "noise")),
    "white_noise=0.1",
    "white_clean=0",
]


@pytest.mark.parametrize("perturbed", [["spectral.clean=0"], WHITE], ids=["spectral", "white"])
@pytest.mark.parametrize("method", ["pair", "pair_stop", "triple"])
def test_the_first_view_of_a_pair_is_the_clean_image(method: str, perturbed: list[str]) -> None:
    _, network = in_training(config(f"method={method}", *perturbed), classes=4)
    assert isinstance(network, nn.Sequential)
    seen = []
    network[0].register_forward_hook(lambda _module, _given, out: seen.append(out))
    images = torch.rand(6, 3, 32, 32)
    key = rng.keys(0, "test", index=torch.arange(6))
    METHODS[method](network, images, torch.arange(6) % 4, key=key)
    views = seen[0].split(6)
    assert len(views) == METHODS[method].views
    assert torch.equal(views[0], images)
    assert all(bool((view != images).flatten(1).any(dim=1).all()) for view in views[1:])


def test_other_methods_perturb_every_view() -> None:
    _, network = in_training(config("method=augmix_jsd"), classes=4)
    assert front(network).clean_first == 0


def test_following_is_the_cross_entropy_and_the_divergence_from_the_first_answer() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 4, requires_grad=True)
    labels = torch.tensor([0, 1, 2])
    loss = following(logits, labels, smoothing=0.0, weight=2.0)
    first, second = logits.detach()[:3], logits.detach()[3:]
    entropies = F.cross_entropy(first, labels) / 2 + F.cross_entropy(second, labels) / 2
    p, q = first.softmax(dim=1), second.softmax(dim=1)
    divergence = (p * (p / q).log()).sum(dim=1).mean()
    torch.testing.assert_close(loss, entropies + 2 * divergence)
    # The clean answer is a target: only its own cross entropy moves it.
    loss.backward()
    assert logits.grad is not None
    alone = first.clone().requires_grad_()
    (F.cross_entropy(alone, labels) / 2).backward()
    torch.testing.assert_close(logits.grad[:3], alone.grad)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["spectral.learn=all"], "unknown spectral.learn 'all'"),
        (["spectral.schedule=fading"], "unknown spectral.schedule 'fading'.*fade"),
        (["spectral.learn=joint", "spectral.strength=0"], "set spectral.strength above 0"),
        (["spectral.schedule=fade", "compile=true"], "compile=false"),
        (
            ["method=pair", "spectral.strength=0", "spectral.gain=0", "spectral.noise=0"],
            "nothing perturbs them",
        ),
        (["spectral.floor=2"], "spectral.floor needs a number in"),
    ],
)
def test_what_does_not_fit_is_one_line(settings: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(*settings)


def test_noise_on_some_of_the_images_is_a_setting() -> None:
    chosen = replace(config(recipe="standard"), white_noise=0.1, white_clean=0.9)
    _, network = in_training(chosen, classes=4)
    assert "clean=0.9" in repr(network)


@pytest.mark.slow
def test_the_report_draws_what_was_learned(
    config_of: Configs, whole: Callable[[str], Run], tmp_path: Path
) -> None:
    learned = with_settings(config_of("spectral"), ["spectral.learn=joint", "spectral.learning_rate=0.5"])
    run = train(learned, tmp_path / "run")
    page = write_report([run.folder, whole("spectral").folder], tmp_path / "page.html").read_text(
        encoding="utf-8"
    )
    assert page.count("Learned power spectrum") == page.count("Learned strengths over training") == 1
    plain = write_report([whole("spectral").folder], tmp_path / "plain.html").read_text(encoding="utf-8")
    assert "Learned power spectrum" not in plain
    # A damaged log loses the picture, not the page.
    run.log.write_text(
        run.log.read_text(encoding="utf-8").replace('"noise": [', '"noise": [NaN, '), encoding="utf-8"
    )
    again = write_report([run.folder], tmp_path / "again.html").read_text(encoding="utf-8")
    assert "Learned power spectrum" not in again
