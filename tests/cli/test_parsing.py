"""Words become the library's own configs, and a mistake becomes one line."""

from dataclasses import dataclass

import pytest
import tyro

from filterbands.cli import main
from filterbands.cli.evaluate import EvaluateOptions
from filterbands.cli.parsing import field_names, parse
from filterbands.evaluation import EvaluateConfig


@pytest.mark.parametrize(
    ("flag", "metavar"),
    [
        *(("mean", "R,G,B"), ("kinds", "A,B"), ("severities", "1,2"), ("parameters", "cifar|imagenet")),
        *(("precision", "float32|bfloat16"), ("corrupted", "DIR"), ("workers", "N"), ("max-drop", "X")),
        *(("data", "SPEC"), ("split", "NAME"), ("db", "FILE"), ("ray", "ADDRESS"), ("device", "NAME")),
    ],
)
def test_a_flag_shows_what_it_takes(flag: str, metavar: str) -> None:
    assert f"--{flag} {metavar}" in str(parse(EvaluateOptions, "evaluate", ["--help"]))


def test_a_config_of_the_library_is_read_as_it_is() -> None:
    words = "net.pt --kinds all-but-frost --severities 5,1,5 --overlap blur --mean .5,.4,.3 --limit 7"
    options = parse(EvaluateOptions, "evaluate", words.split())
    assert isinstance(options, EvaluateOptions)
    expected = {"kinds": ("all-but-frost",), "severities": (1, 5), "overlap": ("blur",), "device": "auto"}
    assert options.config == EvaluateConfig(**expected)
    assert len(options.config.kinds or ()) == 18
    assert (options.network.mean, options.images.limit) == ((0.5, 0.4, 0.3), 7)
    none = parse(EvaluateOptions, "evaluate", ["net.pt", "--kinds", "none"])
    assert isinstance(none, EvaluateOptions)
    assert none.config.kinds == ()


@dataclass(frozen=True, kw_only=True)
class _Inner:
    steps: int = 3
    """How many."""
    names: tuple[str, ...] | None = None
    """Names."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps needs a number of at least 1, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class _Outer:
    """A verb."""

    out: str
    """Where to."""
    inner: _Inner = _Inner(steps=5)
    """How."""
    fast_one: bool = False
    """Whether."""


def test_options_are_those_of_all_dataclasses_under_their_own_names() -> None:
    assert field_names(_Outer) == ("out", "steps", "names", "fast_one")
    found = parse(_Outer, "verb", ["--out", "o", "--names", "a,b", "--fast-one"])
    assert found == _Outer(out="o", inner=_Inner(steps=5, names=("a", "b")), fast_one=True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "--out TEXT is missing (filterbands verb --help shows the options)"),
        (["--out", "o", "--steps", "0"], "--steps needs a number of at least 1, got 0"),
        (["--out", "o", "--steps", "1.5"], "--steps needs a whole number, got '1.5'"),
        (["--out", "o", "--names", ","], "--names needs names separated by commas, got ','"),
        (
            ["--out", "o", "--stepps", "1"],
            "unrecognized options: --stepps 1 (did you mean --steps?) (f",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_flag(words: list[str], line: str) -> None:
    with pytest.raises(ValueError, match=r"^(--|unrecognized)") as caught:
        parse(_Outer, "verb", words)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lacking", ["_errors", "on_parse_error"])
@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("report a.db", "--out"),
        ("report a.db --out o.html --oout x", "--oout"),
        ("evaluate net.pt --limit 1.5", "--limit"),
        ("evaluate net.pt --limit -1", "limit needs a number of at least 0, got -1"),
    ],
)
def test_a_mistake_is_one_line_without_the_private_hook_of_tyro(
    lacking: str,
    words: str,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    owner = tyro if lacking == "_errors" else tyro.__dict__["_errors"]
    monkeypatch.delattr(owner, lacking)
    assert main(words.split()) == 2
    out, line = capsys.readouterr()
    assert (out, line.count("\n")) == ("", 1)
    assert line.startswith(f"filterbands {words.split()[0]}: ")
    assert named in line
    assert not set("╭╮╰╯│─") & set(line)
    assert isinstance(parse(EvaluateOptions, "evaluate", ["net.pt"]), EvaluateOptions)
    assert "--limit N" in str(parse(EvaluateOptions, "evaluate", ["--help"]))
