"""Whole files of every kind, made once, and the figures that the undamaged ones give."""

import io
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from filterbands import cli
from filterbands.datasets import load_data
from filterbands.evaluation import Store, load_scores
from filterbands.models import load_model
from filterbands.probes import corruption_spectra, read_added, read_probed

Words = list[str]


class Stock:
    """Whole files of every kind, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (64, 3, 16, 16), dtype=np.uint8)
        self.images = folder / "images.npz"
        np.savez(self.images, images=images, labels=np.arange(64) % 10)
        weights = dict(load_model(arch="fastnet").state_dict())
        weights = {name: value.contiguous() for name, value in weights.items()}
        self.safetensors, self.pickle = folder / "w.safetensors", folder / "w.pt"
        self.legacy, self.npz = folder / "old.pt", folder / "w.npz"
        save_file(weights, self.safetensors, metadata={"arch": "fastnet"})
        torch.save(weights, self.pickle)
        torch.save(weights, self.legacy, _use_new_zipfile_serialization=False)
        np.savez(self.npz, **{name: value.numpy() for name, value in weights.items()})
        self.run, self.db = folder / "run", folder / "results.db"
        self.pictures, self.copy = folder / "pictures", folder / "copy"
        for number in range(8):
            place = self.pictures / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[number].transpose(1, 2, 0)).save(
                place / f"{number}.{('png', 'jpg', 'bmp', 'gif', 'tif', 'ppm', 'webp', 'png')[number]}"
            )
        spec = f"npz:{self.images}"
        small = ["--set", "epochs=2", "--set", "batch_size=32", "--set", "precision=float32"]
        of_run = [str(self.run), "--data", spec, "--db", str(self.db)]
        evaluate = ["evaluate", *of_run, "--kinds", "contrast", "--severities", "1"]
        probe = ["probe", *of_run, "--limit", "8", "--only"]
        for words in (
            ["train", "standard", "--data", spec, "--out", str(self.run), *small],
            [*evaluate, "--logits"],
            ["corrupt", spec, "--out", str(self.copy), "--kinds", "contrast", "--workers", "1"],
            [*evaluate, "--corrupted", str(self.copy)],
            [*probe, "heatmap", "--radius", "0.1"],
            [*probe, "passes"],
        ):
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as told:
                if cli.main(words):
                    raise RuntimeError(f"{words}: {told.getvalue()}")
        corruption_spectra(load_data(spec), kinds=["contrast"], severities=[1], limit=8, db=self.db)
        self.figures = figures_of(self.db)
        with closing(sqlite3.connect(self.db)) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                if not connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]:
                    raise RuntimeError(f"the table {table} is empty, so that no attack can reach it")


def figures_of(db: Path) -> set[str]:
    """Return every figure that a database gives: of cells, tables and finished probes."""
    found = set()
    for scores in load_scores(db):
        found |= figures_in(scores.to_json())
    with Store(db, readonly=True) as store:
        found |= {f"{row['key']} {row['correct']}" for row in store.rows() if not row["failed"]}
    return found | set(probed_in(db))


def figures_in(document: Any) -> set[str]:
    """Return the accuracies that scores say, as JSON."""
    rows = [("clean", [document["clean"]["accuracy"]]), *document["kinds"].items()]
    return {f"{kind} {place} {one}" for kind, row in rows for place, one in enumerate(row) if one is not None}


def probed_in(db: Path) -> list[str]:
    """Return what finished probes in a database found."""
    return [json.dumps(one.found.to_json()) for one in (*read_probed(db), *read_added(db))]


def other_figures(stock: Stock, words: Words, out: str, run: Callable[[Words], str]) -> str:
    """Return which figures of a damaged database are others than those of the whole one, or nothing.

    Args:
        stock: The undamaged files.
        words: The command line, which succeeded.
        out: What it printed.
        run: Runs another command line, and returns what it prints.
    """
    found: set[str] = set()
    if "--export" in words:
        rows = json.loads(Path(words[-1]).read_text())
        found = {f"{row['key']} {row['correct']}" for row in rows if not row["failed"]}
    elif words[0] == "report":
        found = set(json.loads(run(["probed", words[1]]) or "[]"))
    elif "--json" in words:
        document = json.loads(out)
        found = set().union(*map(figures_in, document.get("results", [document])))
    other = found - stock.figures
    return f"other figures: {sorted(other)[:5]!s:.500}" if other else ""
