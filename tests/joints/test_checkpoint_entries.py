"""A checkpoint with two sets of weights goes through every verb with the set that was asked for."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from filterbands.cli import main
from filterbands.disk import write_weights
from filterbands.evaluation import load_scores
from filterbands.models import load_model, read_weights

ARCH = ["--arch", "fastnet"]


def _states() -> dict[str, dict[str, Tensor]]:
    found = {}
    for seed, name in enumerate(("model", "model_ema")):
        torch.manual_seed(seed)
        found[name] = dict(load_model(arch="fastnet").state_dict())
    return found


@pytest.fixture
def file(tmp_path: Path) -> str:
    beside = {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.9), "epoch": 3}
    torch.save({**_states(), **beside}, tmp_path / "net.pth.tar")
    return str(tmp_path / "net.pth.tar")


@pytest.mark.slow
def test_every_verb_takes_the_entry_and_says_once_which_one_it_took(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    said = f"{file}: the weights are those of model; --key (key=) takes others: model_ema"
    few = np.random.default_rng(0).integers(0, 256, (10, 3, 16, 16), np.uint8)
    np.savez(tmp_path / "few.npz", images=few, labels=np.arange(10))
    db, images = str(tmp_path / "r.db"), ["--data", f"npz:{tmp_path / 'few.npz'}"]
    for name, key in (("model", []), ("model_ema", ["--key", "model_ema"])):
        plain = str(tmp_path / f"{name}.safetensors")
        write_weights(Path(plain), _states()[name], {"arch": "fastnet"})
        for rest in (
            ["analyze"],
            ["analyze", *ARCH],
            ["probe", *ARCH, *images, "--only", "passes", "--db", db],
        ):
            answers = []
            for words in ([plain], [file, *key]):
                assert main([rest[0], *words, *rest[1:], "--json"]) == 0
                answers.append(json.loads(capsys.readouterr().out))
            first, second = (
                (answer.get("passes"), [layer["low_energy"] for layer in answer.get("layers", ())])
                for answer in answers
            )
            assert first == second
        for words in ([plain], [file, *key]):
            assert main(["evaluate", *words, *ARCH, *images, "--kinds", "none", "--db", db]) == 0
        # One fingerprint for the plain file and for the entry, another one for the other entry.
        assert len(load_scores(db)) == (1 if name == "model" else 2)
        out = tmp_path / "out.safetensors"
        assert main(["bake", file, *key, *ARCH, "--out", str(out)]) == 0
        assert torch.equal(read_weights(out)["conv1.weight"], _states()[name]["conv1.weight"])
        capsys.readouterr()
        others = [message for message in caplog.messages if "as usual for fastnet" not in message]
        assert others == [said]


def test_an_unknown_key_is_one_line_on_the_command_line(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb, *words in (("analyze",), ("evaluate", "--data", "planted")):
        assert main([verb, file, *words, *ARCH, "--key", "ema"]) == 2
        caught = capsys.readouterr()
        assert (
            "has no entry 'ema' of weights; there are model, model_ema; choose one with --key" in caught.err
        )
        assert (caught.out, caught.err.count("\n")) == ("", 1)
