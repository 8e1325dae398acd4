"""Whole numbers of any type, and where keys are made from them."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from filterbands import Corrupting, corrupt, rng
from filterbands.checks import hint, whole_number

THREES = (3, np.int64(3), np.uint8(3), torch.tensor(3))


@pytest.mark.parametrize("three", THREES, ids=lambda three: type(three).__name__)
def test_an_integer_of_any_type_gives_the_same_noise_and_the_same_config(three: Any) -> None:
    images = torch.full((2, 3, 32, 32), 128, dtype=torch.uint8)
    plain = corrupt(images, "gaussian_noise", severity=3, seed=3)
    assert torch.equal(corrupt(images, "gaussian_noise", severity=three, seed=three), plain)
    index = torch.arange(2)
    assert torch.equal(rng.keys(three, "part", three, index=index), rng.keys(3, "part", 3, index=index))
    assert Corrupting("fog", severity=three).severities == (3,)


@pytest.mark.parametrize("value", [3.0, True, np.bool_(True), torch.tensor(True), "3", None])
def test_what_is_no_integer_is_refused_in_one_line(value: Any) -> None:
    with pytest.raises(ValueError, match="seed needs a whole number, got ") as error:
        whole_number("seed", value)
    assert "\n" not in str(error.value)


def test_a_text_subclass_is_the_text_in_a_key() -> None:
    index = torch.arange(2)
    assert torch.equal(rng.keys(0, np.str_("fog"), index=index), rng.keys(0, "fog", index=index))


def test_a_near_name_is_hinted_and_a_far_one_is_not() -> None:
    assert hint("fogg", ["fog", "snow"]) == " (did you mean fog?)"
    assert hint("xyz", ["fog", "snow"]) == ""


def test_configs_take_integers_of_any_type() -> None:
    # In a process of its own: the tests' type checks refuse what annotations, from which flags are made, do.
    code = """
import numpy as np
from filterbands import EvaluateConfig
from filterbands.corruptions import CopyConfig

for config in (EvaluateConfig, CopyConfig):
    made = config(severities=(np.int64(3),), seed=np.int64(4))
    assert made == config(severities=(3,), seed=4)
    assert [type(value) for value in (*made.severities, made.seed)] == [int, int]
    for wrong in ({"severities": (3.0,)}, {"severities": (True,)}, {"seed": 0.5}):
        try:
            config(**wrong)
        except ValueError as error:
            assert "needs a whole number, got" in str(error), error
        else:
            raise SystemExit(f"{wrong} was taken")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
