"""Help lists the names that a verb knows and ends with an example; shells complete the same names."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from filterbands.cli import VERBS, main
from filterbands.cli.known import EXAMPLES
from filterbands.cli.parsing import parse
from filterbands.cli.train import TrainOptions
from filterbands.corruptions import CORRUPTIONS
from filterbands.models import ARCHITECTURES
from filterbands.training import RECIPES


def _out(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "names"),
    [
        ("train", [*RECIPES, *ARCHITECTURES, "epochs=8", "share.low=none", "modulate.bands=two"]),
        ("corrupt", CORRUPTIONS),
        ("evaluate", [*CORRUPTIONS, *ARCHITECTURES, "all-but-frost"]),
        ("analyze", ARCHITECTURES),
    ],
)
def test_help_lists_the_names_that_a_verb_knows(
    verb: str, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    listed = _out(capsys, verb, "--help").replace(",", " ").split()
    assert not set(names) - set(listed)


@pytest.mark.parametrize("verb", VERBS)
def test_help_ends_with_an_example_that_the_verb_reads(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _out(capsys, verb, "--help").rstrip().endswith(f"example: filterbands {verb} {EXAMPLES[verb]}")
    from importlib import import_module
    from typing import get_type_hints

    options = get_type_hints(import_module(f"filterbands.cli.{verb}").run)["options"]
    assert not isinstance(parse(options, verb, shlex.split(EXAMPLES[verb])), str)


def test_the_size_of_training_images_is_read() -> None:
    options = parse(TrainOptions, "train", ["standard", "--size", "64"])
    assert isinstance(options, TrainOptions)
    assert options.size == 64


_TRIES = [
    ("filterbands tr", "train"),
    ("filterbands train spectral_s", "spectral_strong"),
    ("filterbands train --tens", "--tensorboard"),
    ("filterbands evaluate net.pt --arch fastnet_", "fastnet_wide"),
    ("filterbands evaluate net.pt --limit f", ""),
    ("filterbands data fr", "frost"),
    ("filterbands --completion z", "zsh"),
]


def test_bash_completes_verbs_flags_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = _out(capsys, "--completion", "bash")
    tries = [
        *_TRIES,
        ("filterbands corrupt planted --kinds fog,glass_", "fog,glass_blur"),
        # bash makes words of their own of = and :.
        ("filterbands corrupt planted --kinds = glass_", "glass_blur"),
        ("filterbands --completion =", "bash zsh fish"),
        ("filterbands corrupt planted --kinds=fog,glass_", "--kinds=fog,glass_blur"),
        ("filterbands evaluate a.pt --data folder : f", ""),
        ("filterbands evaluate a.pt --data folder :", ""),
    ]
    calls = "\n".join(
        f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=(); _filterbands; "
        'echo "${COMPREPLY[*]}"'
        for words, _ in tries
    )
    file = tmp_path / "try.bash"
    file.write_text(f"{script}\n{calls}\n")
    done = subprocess.run(["bash", str(file)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [found for _, found in tries]


def test_fish_completes_verbs_flags_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = _out(capsys, "--completion", "fish")
    assert "complete -c filterbands -n '__fish_seen_subcommand_from train' -l tensorboard" in script
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    file = tmp_path / "try.fish"
    file.write_text(script + "".join(f'\ncomplete -C "{words}"' for words, found in _TRIES if found) + "\n")
    done = subprocess.run(["fish", str(file)], capture_output=True, text=True, check=True)
    found = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert found == [found for _, found in _TRIES if found]


def test_zsh_reads_the_function_of_bash(capsys: pytest.CaptureFixture[str]) -> None:
    bash, zsh = (_out(capsys, "--completion", shell) for shell in ("bash", "zsh"))
    assert zsh.endswith(bash)
    assert "bashcompinit" in zsh.splitlines()[0]


@pytest.mark.parametrize("words", [[], ["tcsh"], ["bash", "zsh"]])
def test_another_shell_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", *words]) == 2
    assert "--completion needs one of bash, zsh, fish, got" in capsys.readouterr().err
