"""Configs: changed by texts, checked by range, and the same again after JSON."""

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from filterbands.control import SpectralNoise, set_share
from filterbands.models import first_layer
from filterbands.training import (
    RECIPES,
    ModulateConfig,
    ShareConfig,
    SpectralConfig,
    TrainConfig,
    build,
    check_start,
    from_plain,
    to_plain,
    with_settings,
)


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs=3", 3),
        ("epochs = 3", 3),
        ("seed=-4", -4),
        ("learning_rate=1e-2", 0.01),
        ("learning_rate=2", 2.0),
        ("data=cifar10:/a=b/c", "cifar10:/a=b/c"),
        ("recipe=mine", "mine"),
        ("precision=float32", "float32"),
        ("arch=cifar_resnet20", "cifar_resnet20"),
        ("method=gaussian", "gaussian"),
        ("flip=false", False),
        ("flip=No", False),
        ("flip=0", False),
        ("channels_last=TRUE", True),
        ("share.low=0.25", 0.25),
        ("share.low=1", 1.0),
        ("share.low=none", None),
        ("share.low=None", None),
        ("share.zero_mean=no", False),
        ("modulate.on=yes", True),
        ("modulate.shared=0", 0.0),
        ("spectral.strength=1.5", 1.5),
    ],
)
def test_a_text_sets_a_field_of_any_type(setting: str, value: Any) -> None:
    changed: Any = with_settings(TrainConfig(), [setting])
    for name in setting.partition("=")[0].strip().split("."):
        changed = getattr(changed, name)
    assert changed == value
    assert type(changed) is type(value)


@pytest.mark.parametrize(
    ("settings", "idle"),
    [
        (["modulate.bands=eigen"], "modulate.bands changes nothing; set modulate.on=true as well"),
        (["modulate.bands=eigen", "modulate.on=true"], ""),
        (["share.zero_mean=false"], "share.zero_mean changes nothing; set share.low as well"),
        (["share.zero_mean=false", "share.low=0"], ""),
        (["share.fixed=true"], ""),
        (
            ["spectral.schedule=fade"],
            "spectral.schedule changes nothing; set spectral.strength, spectral.gain",
        ),
        (["spectral.strength=0", "spectral.noise=0"], ""),
        (["spectral.noise=0.1", "spectral.floor=0"], "spectral.floor changes nothing; set spectral.learn"),
        (["white_clean=0.2"], "white_clean changes nothing; set white_noise as well"),
        (["schedule=steps", "peak=0.1"], "peak changes nothing; set schedule=triangle or cosine as well"),
        (["optimizer=adamw"], "learning_rate 0.4 is meant for sgd, and adamw moves every weight by"),
        (["optimizer=adamw", "learning_rate=0.001"], ""),
    ],
)
def test_a_field_of_what_is_off_is_said_to_change_nothing(
    settings: list[str], idle: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_settings(TrainConfig(), settings)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == bool(idle)
    assert all(idle in line for line in said)


def test_texts_are_taken_in_order_and_the_config_stays() -> None:
    before = TrainConfig()
    after = with_settings(before, ["epochs=3", "share.low=0.5", "epochs=4"])
    assert (after.epochs, after.share.low) == (4, 0.5)
    assert replace(after, epochs=before.epochs, share=before.share) == before == TrainConfig()
    assert with_settings(before, []) == before


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("epochs", "needs field=value, got 'epochs'"),
        ("", "needs field=value, got ''"),
        ("=3", "there is no field ''"),
        ("epoch=3", "did you mean epochs?"),
        ("zigzag=3", "there is no field 'zigzag'; there are recipe, method"),
        ("share.lo=3", "did you mean low?"),
        ("share=0.5", "it has fields of its own, share.low, share.cutoff"),
        ("epochs.low=3", "epochs is a plain value and has no field 'low'"),
        ("epochs=3.5", "epochs needs a whole number, got '3.5'"),
        ("epochs=", "epochs needs a whole number, got ''"),
        ("learning_rate=fast", "learning_rate needs a number, got 'fast'"),
        ("flip=maybe", "flip needs true or false, got 'maybe'"),
        ("share.low=half", "share.low needs a number, got 'half'"),
        ("arch=alexnet", "unknown arch 'alexnet'; known are fastnet"),
        ("method=sgd", "unknown method 'sgd'; known are standard"),
        (
            "precision=float16",
            "unknown precision 'float16' (did you mean bfloat16?); known are",
        ),
    ],
)
def test_a_text_that_does_not_fit_is_refused_in_one_line(setting: str, said: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011
        with_settings(TrainConfig(), [setting])
    assert said in one_line(error)


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("seed", (2**64, -(2**63) - 1), (0, 2**63 - 1, -1)),
        ("epochs", (0, -1), (1,)),
        ("batch_size", (0, 1), (2,)),
        ("learning_rate", (0, -1, "nan", "inf"), (1e-9,)),
        ("peak", (0, 1, "nan"), (0.5,)),
        ("momentum", (-0.1, 1, "nan"), (0, 0.99)),
        ("weight_decay", (-1, "inf", "nan"), (0,)),
        ("label_smoothing", (-0.1, 1), (0,)),
        ("crop", (-1, 65), (0, 64)),
        ("share.low", (-0.1, 1.1, "nan"), (0, 1)),
        ("share.cutoff", (0, 0.51, "nan"), (0.5,)),
        ("share.guard", (-0.1, 0.6), (0, 0.5)),
        ("modulate.shared", (-1, "inf"), (0,)),
        ("modulate.independent", (-1, "nan"), (0,)),
        ("modulate.clean", (-0.1, 1.1), (0, 1)),
        ("modulate.learning_rate", (-1, "inf"), (0,)),
        ("spectral.strength", (-1, "inf"), (0,)),
        ("spectral.gain", (-1, "nan"), (0,)),
        ("spectral.noise", (-0.1, 1.1), (0, 1)),
        ("spectral.clean", (-0.1, 1.1), (0, 1)),
    ],
)
def test_a_number_out_of_range_is_refused_by_its_name(
    name: str, bad: tuple[Any, ...], good: tuple[Any, ...]
) -> None:
    for value in bad:
        with pytest.raises(ValueError, match=f"^{name} needs a number in ") as error:
            with_settings(TrainConfig(), [f"{name}={value}"])
        assert one_line(error).endswith(f"got {value}") or isinstance(value, int)
    for value in good:
        with_settings(TrainConfig(), [f"{name}={value}"])


def test_a_share_and_modulation_of_one_layer_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"share\.low and modulate\.on exclude each other") as error:
        TrainConfig(share=ShareConfig(low=0.5), modulate=ModulateConfig(on=True))
    one_line(error)


def test_spectral_noise_is_on_while_any_part_is() -> None:
    assert not SpectralConfig().on
    for part in ("strength", "gain", "noise"):
        assert with_settings(TrainConfig(), [f"spectral.{part}=0.1"]).spectral.on


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_listed_under_its_own_name(name: str) -> None:
    config = RECIPES[name]()
    assert config.recipe == name == RECIPES[name].__name__
    assert RECIPES[name].__doc__
    assert RECIPES[name]() == config


@pytest.mark.parametrize("name", RECIPES)
def test_a_config_is_the_same_after_json(name: str) -> None:
    config = with_settings(RECIPES[name](), ["seed=3", "learning_rate=0.1"])
    assert from_plain(json.loads(json.dumps(to_plain(config)))) == config


@pytest.mark.parametrize(("name", "default", "other"), [("lookahead", 0, 5)])
def test_a_field_of_an_older_version_is_read_at_its_default_alone(
    name: str, default: Any, other: Any
) -> None:
    config = with_settings(TrainConfig(), ["seed=3"])
    assert from_plain({**to_plain(config), name: default}) == config
    with pytest.raises(ValueError, match=f"this version has no {name} and cannot read {other!r}") as error:
        from_plain({**to_plain(config), name: other})
    one_line(error)
    with pytest.raises(ValueError, match=f"there is no field '{name}'"):
        with_settings(config, [f"{name}={default}"])


def test_the_configs_of_the_committed_results_are_read() -> None:
    results = Path(__file__).parents[2] / "results"
    lines = [json.loads(line) for file in results.glob("*.jsonl") for line in file.read_text().splitlines()]
    plain = [line["config"] for line in lines if "config" in line]
    assert any("lookahead" in config for config in plain)
    for config in plain:
        assert from_plain(config).recipe == config["recipe"]


def test_the_recipe_perturbs_as_spectral_noise_does_by_itself() -> None:
    given, own = RECIPES["spectral"]().spectral, SpectralNoise()
    assert (given.strength, given.gain, given.noise, given.clean) == (
        own.strength,
        own.gain,
        own.noise,
        own.clean,
    )


def test_recipes_differ_in_more_than_their_names() -> None:
    plain = {name: json.dumps({**to_plain(recipe()), "recipe": ""}) for name, recipe in RECIPES.items()}
    # The search's name for what the method's recipe has by default.
    assert plain["best_two_pass"] == plain.pop("pair_stop")
    assert len(set(plain.values())) == len(plain)


def test_a_field_unknown_to_this_version_is_refused_in_one_line() -> None:
    for plain in ({"colour": 1}, {"share": {"colour": 1}}, {"share": 3}):
        with pytest.raises(ValueError, match="config") as error:
            from_plain({**to_plain(TrainConfig()), **plain})
        one_line(error)


def test_a_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        TrainConfig().epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["share.random=true"], "share.random needs share.low"),
        (["modulate.bands=ten"], "modulate.bands needs two or eigen"),
        (["modulate.budget=0"], "modulate.budget needs a number in"),
        (["blur=0.5"], "blur needs a number in"),
        (["blur=0.1", "share.low=1"], "blur needs a free first layer"),
        (["white_noise=-1"], "white_noise needs a number in"),
    ],
)
def test_controls_that_make_no_sense_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_settings(TrainConfig(), settings)


def test_a_start_that_is_a_name_is_refused_before_a_training_and_not_when_it_is_read() -> None:
    config = with_settings(TrainConfig(), ["init=timm:resnet18"])
    assert from_plain(to_plain(config)) == config
    with pytest.raises(ValueError, match="init needs a file or a Run, got timm:resnet18; save its weights"):
        check_start("standard", config)


def test_a_share_may_be_modulated_within_its_span() -> None:
    config = with_settings(TrainConfig(), ["share.low=1", "modulate.on=true", "modulate.bands=eigen"])
    assert (config.share.low, config.modulate.bands) == (1.0, "eigen")


def test_a_config_names_what_its_training_resembles() -> None:
    assert TrainConfig().resembles == ()
    noisy = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
    assert TrainConfig(white_noise=0.1).resembles == TrainConfig(method="gaussian").resembles == noisy
    assert TrainConfig(spectral=SpectralConfig(noise=0.1)).resembles == noisy
    both = with_settings(TrainConfig(method="prime"), ["spectral.strength=1", "spectral.gain=1"])
    assert both.resembles[:2] == ("defocus_blur", "gaussian_blur")
    assert len(set(both.resembles)) == len(both.resembles)
    assert "contrast" in both.resembles


def _layer(*settings: str) -> Any:
    return first_layer("test", build(with_settings(TrainConfig(), settings), classes=10)).layer


def test_every_setting_of_a_controlled_layer_reaches_it() -> None:
    random = _layer("share.low=1", "share.random=true").parametrizations.weight[0]
    assert random.verb == "set_random_share"
    assert _layer("blur=0.2").kernel_size == (5, 5)
    assert not any(parameter.requires_grad for parameter in _layer("share.fixed=true").parameters())
    given = {"cutoff": 0.3, "guard": 0.05, "zero_mean": False}
    held = _layer("share.low=1", "share.cutoff=0.3", "share.guard=0.05", "share.zero_mean=false")
    own: Any = set_share(torch.nn.Conv2d(3, 24, 3), low=1.0, **given)
    assert torch.equal(*(one.parametrizations.weight[0].projectors for one in (held, own)))
    settings = ("bands=eigen", "clean=0.5", "shared=3", "independent=0.5", "budget=2")
    learned = _layer("modulate.on=true", *(f"modulate.{one}" for one in settings))
    spread = learned.parametrizations.weight[0].spread
    found = (spread.bands, spread.clean, spread.shared, spread.independent, spread.budget)
    assert found == (7, 0.5, 3, 0.5, 2)
