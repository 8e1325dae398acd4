"""Every verb that writes, as a command line on small inputs, and what is compared of its result."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from .running import Answer
from .stock import Stock

SMALL = [word for one in ("epochs=2", "batch_size=32", "precision=float32") for word in ("--set", one)]


@dataclass(frozen=True)
class Verb:
    """A command line, and its result as text."""

    words: Callable[[Stock, Path], list[str]]
    """In a place of its own."""
    result: Callable[[Path, Answer], str]
    """Equal for equal results."""
    again: tuple[str, ...] = ()
    """Words to go on after an end that came too early."""


def _digest(*names: str) -> Callable[[Path, Answer], str]:
    def digest(place: Path, _: Answer) -> str:
        return " ".join(_sum(place / name) for name in names)

    return digest


def _sum(file: Path) -> str:
    digest = hashlib.sha256()
    if file.suffix != ".safetensors":
        digest.update(file.read_bytes())
        return digest.hexdigest()
    # Its metadata are in an order that differs between processes.
    with safe_open(file, framework="np") as weights:
        digest.update(repr(sorted((weights.metadata() or {}).items())).encode())
        for name in sorted(weights.keys()):
            digest.update(name.encode() + weights.get_tensor(name).tobytes())
    return digest.hexdigest()


def _document(_: Path, answer: Answer) -> str:
    """Return the JSON without times and places."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            odd = ("seconds", "out", "git", "config", "db", "created", "folder", "reused", "device")
            return {key: plain(one) for key, one in value.items() if not any(word in key for word in odd)}
        return [plain(one) for one in value] if isinstance(value, list) else value

    return json.dumps(plain(json.loads(answer.out)), sort_keys=True)


def _page(place: Path, _: Answer) -> str:
    return str((place / "r.html").read_text().rstrip().endswith("</html>"))


def _study(stock: Stock, place: Path) -> list[str]:
    file = place / "s.json"
    place.mkdir(exist_ok=True)
    content = {
        "data": f"npz:{stock.images}",
        "recipes": ["standard"],
        "set": {"epochs": 1, "batch_size": 32, "precision": "float32"},
        "seeds": [0, 1],
        "evaluate": {"kinds": ["contrast"]},
    }
    file.write_text(json.dumps(content))
    return ["study", str(file), "--out", str(place / "study"), "--json"]


VERBS: dict[str, Verb] = {
    "train": Verb(
        lambda stock, place: [
            *("train", "standard", "--data", f"npz:{stock.images}", "--out", str(place / "run")),
            *SMALL,
        ],
        _digest("run/weights.safetensors"),
        ("--resume",),
    ),
    "evaluate": Verb(
        lambda stock, place: [
            *("evaluate", str(stock.run), "--data", f"npz:{stock.images}", "--db", str(place / "r.db")),
            *("--kinds", "contrast,brightness,pixelate", "--json"),
        ],
        _document,
    ),
    "corrupt": Verb(
        lambda stock, place: [
            *("corrupt", f"npz:{stock.images}", "--out", str(place / "c"), "--workers", "1"),
            *("--kinds", "contrast,gaussian_noise,elastic_transform"),
        ],
        _digest("c/contrast.npy", "c/gaussian_noise.npy", "c/elastic_transform.npy", "c/labels.npy"),
    ),
    "study": Verb(_study, _document),
    "bake": Verb(
        lambda stock, place: ["bake", str(stock.run), "--out", str(place / "w.safetensors")],
        _digest("w.safetensors"),
    ),
    "shrink": Verb(
        lambda stock, place: [
            *("shrink", str(stock.run), "--data", f"npz:{stock.images}"),
            *("--out", str(place / "w.safetensors")),
        ],
        _digest("w.safetensors"),
    ),
    "probe": Verb(
        lambda stock, place: [
            *("probe", str(stock.run), "--data", f"npz:{stock.images}", "--limit", "16", "--only", "passes"),
            *("--db", str(place / "r.db"), "--json"),
        ],
        _document,
    ),
    "report": Verb(
        lambda stock, place: ["report", str(stock.run), str(stock.db), "--out", str(place / "r.html")], _page
    ),
    "results": Verb(
        lambda stock, place: ["results", str(stock.db), "--export", str(place / "t.csv")], _digest("t.csv")
    ),
    "analyze": Verb(lambda stock, place: ["analyze", str(stock.run), "--html", str(place / "r.html")], _page),
}
"""By name."""


def leftovers(place: Path) -> list[str]:
    """Return hidden files that a verb has left."""
    return [str(path.relative_to(place)) for path in place.rglob(".*")]
