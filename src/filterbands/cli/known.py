"""What can stand behind a flag: for the end of a verb's help, and for the completion of words."""

import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

from ..corruptions import CORRUPTIONS, PARAMETERS
from ..datasets import CIFARS, SPLITS
from ..engine import PRECISIONS
from ..models import ARCHITECTURES
from ..training import RECIPES, TrainConfig
from .parsing import field_names

EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "demo": "--out demo-output",
        "analyze": 'net.safetensors --require "conv1.low_energy>0.7"',
        "train": "spectral --data cifar10:DIR --set arch=cifar_resnet18 --set epochs=30 --out runs/spectral",
        "bake": "runs/spectral --out net.safetensors",
        "shrink": "runs/standard --data cifar10:DIR --noise 0.05 --out shrunk.safetensors",
        "corrupt": "cifar10:DIR --kinds fog,gaussian_noise --severities 3,5 --out corrupted",
        "evaluate": "runs/spectral --data cifar10:DIR --kinds all-but-frost --db results.db",
        "results": "results.db --export cells.csv",
        "probe": "runs/spectral --data cifar10:DIR --only heatmap,passes --html probe.html",
        "study": "study.json --plan",
        "report": "runs/standard runs/spectral results.db --out report.html",
        "data": "cifar10",
    }
)
"""What stands behind each verb in the example that ends its help."""


def _settings(config: Any, prefix: str = "") -> list[str]:
    """Return FIELD=VALUE for every field of a config, with the values that it has."""
    found = []
    for field in fields(config):
        value = getattr(config, field.name)
        name = prefix + field.name
        text = f"{value:g}" if isinstance(value, float) else str(value)
        found += _settings(value, f"{name}.") if is_dataclass(value) else [f"{name}={text}".lower()]
    return found


_DATA = ("planted", "digits", *CIFARS, "folder:", "npz:")
_KNOWN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "arch": tuple(ARCHITECTURES),
        "data": _DATA,
        "device": ("auto", "cpu", "cuda"),
        "kinds": ("c", "cbar", "all-but-frost", "none", *CORRUPTIONS),
        "only": ("heatmap", "passes", "gradient", "corruptions", "vulnerability"),
        "parameters": tuple(PARAMETERS),
        "precision": PRECISIONS,
        "ray": ("auto", "local"),
        "recipe": tuple(RECIPES),
        "set": tuple(_settings(TrainConfig())),
        "severities": ("1", "2", "3", "4", "5"),
        "spec": _DATA,
        "split": SPLITS,
    }
)
_TITLES = {
    "recipe": "recipes",
    "set": "fields of --set, with the values of the recipe standard",
    "arch": "architectures",
    "kinds": "kinds and sets of kinds",
}


def known(verb: str, name: str) -> tuple[str, ...]:
    """Return the values that an option of a verb is known to take; none where any word will do."""
    if (verb, name) == ("data", "name"):
        return (*CIFARS, "frost", "list")
    if (verb, name) == ("corrupt", "kinds"):
        # A copy of nothing is none.
        return tuple(kind for kind in _KNOWN[name] if kind != "none")
    return _KNOWN.get(name, ())


def end_of_help(verb: str, options: type[Any]) -> str:
    """Return what ends the help of a verb: the long lists of names, and an example."""
    names = {*field_names(options), *(("arch",) if verb == "train" else ())}
    width = min(shutil.get_terminal_size().columns, 110)
    lists = [
        textwrap.fill(f"{title}: {', '.join(known(verb, name))}", width, subsequent_indent="  ", **_WHOLE)
        for name, title in _TITLES.items()
        if name in names
    ]
    return "\n\n".join([*lists, f"example: filterbands {verb} {EXAMPLES[verb]}"])


_WHOLE: Any = {"break_on_hyphens": False, "break_long_words": False}
