"""Evaluation: fills the cells that the store lacks, and returns the scores."""

import contextlib
import difflib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..corruptions import CORRUPTIONS, PARAMETERS, corrupt, kinds_of
from ..datasets import ImageSet
from ..engine import PRECISIONS, pick_device
from ..types import FloatImages, Images, Progress
from .fingerprint import model_fingerprint
from .scores import SEVERITIES, Answers, Scores
from .store import Bits, Cell, Store, Stored

Pair = tuple[Any, Any]
"""Images and labels as arrays or tensors."""

# Images corrupted at a time: enough to be fast, few enough to be small.
_CHUNK = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate, and how."""

    name: str | None = None
    """The name results are listed under; None keeps a known one, and is the class of a new network."""
    kinds: tuple[str, ...] | None = None
    """Kinds of corruption; None for all 19, () for clean accuracy alone."""
    severities: tuple[int, ...] = SEVERITIES
    """From 1 to 5; all five of a folder with fewer are those that it has."""
    parameters: str = "cifar"
    """Table of constants, `cifar` or `imagenet`."""
    seed: int = 0
    """Seed of the random kinds."""
    precision: str = "float32"
    """`float32`, or `bfloat16` by autocast."""
    limit: int | None = None
    """Take the first so many images."""
    spread: bool = False
    """Severity s sees the images i with i = s - 1 modulo 5 alone: every kind sees every image, at a fifth."""
    corrupted: str | None = None
    """Folder of corrupted arrays in the published layout, read instead of corrupting here."""
    batch_size: int = 500
    """Images the network takes at a time; no part of a result."""
    device: str | None = None
    """`cpu`, `cuda` or `cuda:N`; None is where the network is."""

    def __post_init__(self) -> None:
        if isinstance(self.kinds, str):
            raise ValueError(f"kinds needs a tuple of names, got the text {self.kinds!r}")
        for kind in self.kinds or ():
            if kind == "clean":
                raise ValueError("clean accuracy is always measured; leave clean out of kinds")
            if kind not in CORRUPTIONS and self.corrupted is None:
                close = difflib.get_close_matches(kind, CORRUPTIONS, n=1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise ValueError(f"unknown kind {kind!r}{hint}; known are {', '.join(CORRUPTIONS)}")
        if not self.severities or not set(self.severities) <= set(SEVERITIES):
            raise ValueError(f"severities need numbers from 1 to 5, got {self.severities}")
        for name, known in (("parameters", PARAMETERS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} needs {' or '.join(known)}, got {getattr(self, name)!r}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit needs a number of at least 1, got {self.limit}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size needs a number of at least 1, got {self.batch_size}")


def evaluate(
    model: nn.Module,
    data: ImageSet | Dataset[Any] | Pair,
    *,
    config: EvaluateConfig | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    db: str | Path | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Return a network's accuracy on clean and corrupted images, computing only what the database lacks.

    Everything is checked before the first batch. Each cell (kind and severity) is written as soon as it is
    done, with one bit an image, so that a run that is stopped loses the cell in flight at most, and two
    processes on one database share the work. The network runs in evaluation mode and is left as it was.

    Args:
        model: Takes NCHW floats in [0, 1] (scaled by `mean` and `std` if given) and returns logits.
        data: An `ImageSet`, a torch `Dataset` of (image, label), or a pair of arrays: images NCHW or NHWC,
            bytes or floats in [0, 1] that are whole 255ths, and labels.
        config: What to evaluate; None evaluates all 19 kinds and severities.
        mean: Subtracted from each channel before the network; 0 by default.
        std: Divided by; 1 by default.
        db: The database; made where there is none. None keeps nothing.
        progress: Called with cells done, cells in all, and the cell's name.

    Raises:
        ValueError: An option, data or file that does not fit; the line says which.
        FileNotFoundError: A corrupted array, or frost's textures, that are not there.

    >>> from filterbands import load_data, load_model
    >>> data = load_data("planted").subset(torch.arange(100))
    >>> scores = evaluate(load_model(arch="fastnet"), data, config=EvaluateConfig(kinds=("fog",)))
    >>> 0 <= scores.clean <= 1, scores.average_15()
    (True, None)
    """
    config = EvaluateConfig() if config is None else config
    images = as_image_set(data)
    if config.limit is not None:
        images = images.subset(torch.arange(min(config.limit, len(images))))
    network = nn.Sequential(Scale(mean, std), model) if mean is not None or std is not None else model
    device = pick_device(config.device) if config.device is not None else _device_of(model)
    folder = Corrupted(Path(config.corrupted), images) if config.corrupted is not None else None
    if folder is not None and config.severities == SEVERITIES:
        config = replace(config, severities=folder.severities)
    kinds = config.kinds
    if kinds is None:
        kinds = kinds_of("c") if folder is None else folder.kinds()
    # Kinds that do not exist or arrays that do not fit are found before any file is hashed or made.
    _check_kinds(kinds, images, config, folder)
    with Store(db) as store, _evaluating(network, device):
        _check_outputs(network, images, device, config, named=isinstance(data, ImageSet))
        fingerprint = model_fingerprint(network)
        known = Stored(
            fingerprint=images.fingerprint(),
            name=images.name,
            split=images.split,
            labels=images.labels.cpu().numpy(),
            classes=images.classes,
        )
        cells = _plan(config, kinds, folder, fingerprint, known.fingerprint)
        # A network that is known keeps its name unless it is given another.
        name = config.name or store.models().get(fingerprint) or type(model).__name__
        store.add_model(fingerprint, name)
        store.add_data(known)
        _fill(store, cells, network, images, device, config, folder, progress)
        answers = {cell.key: bits for cell, bits in store.cells(model=fingerprint, data=known.fingerprint)}
    return Scores(
        name=name,
        model=fingerprint,
        data=known.name,
        split=known.split,
        pixels=known.fingerprint,
        labels=known.labels,
        seed=config.seed,
        parameters=config.parameters if folder is None else "",
        precision=config.precision,
        cells={(cell.kind, cell.severity): _answers(cell, answers[cell.key]) for cell in cells},
    )


def load_scores(db: str | Path) -> list[Scores]:
    """Return what a database holds: scores by network, data, seed, constants or files, and precision.

    Cells of an earlier version of a kind are left out, so that no average mixes two. Where several arrays of
    one kind were read for a network, nothing says which of them make a set: each file has scores of its own.

    Raises:
        FileNotFoundError: No such database.
        ValueError: Not a database of results.
    """
    groups: dict[tuple[Any, ...], dict[tuple[str, int], Answers]] = {}
    clean: dict[tuple[Any, ...], Answers] = {}
    with Store(db, readonly=True) as store:
        names = store.models()
        found = [(cell, bits) for cell, bits in store.cells() if not _outdated(cell)]
        twice = _kinds_of_several_files(cell for cell, _ in found)
        for cell, bits in found:
            base = (cell.model, cell.data, cell.precision)
            if cell.kind == "clean":
                clean[base] = _answers(cell, bits)
            else:
                ambiguous = (cell.model, cell.data, cell.precision) in twice
                origin = cell.source if ambiguous else bool(cell.source)
                group = (*base, cell.seed, cell.parameters, (cell.step, origin))
                groups.setdefault(group, {})[cell.kind, cell.severity] = _answers(cell, bits)
        for base in clean:
            if not any(group[:3] == base for group in groups):
                alone = (*base, 0, "", 1)
                groups[alone] = {}
        data = {group[1]: store.data(group[1]) for group in groups}
    return [
        Scores(
            name=names[model],
            model=model,
            data=data[images].name,
            split=data[images].split,
            pixels=images,
            labels=data[images].labels,
            seed=seed,
            parameters=parameters,
            precision=precision,
            cells={("clean", 0): clean[model, images, precision], **cells},
        )
        for (model, images, precision, seed, parameters, _), cells in groups.items()
        if (model, images, precision) in clean
    ]


def _outdated(cell: Cell) -> bool:
    made_here = cell.kind in CORRUPTIONS and not cell.source
    return made_here and cell.version != CORRUPTIONS[cell.kind].version


def _kinds_of_several_files(cells: Iterable[Cell]) -> set[tuple[str, str, str]]:
    """Return network, data and precision where two arrays of one kind were read."""
    files: dict[tuple[str, str, str, str], set[str]] = {}
    for cell in cells:
        if cell.source:
            files.setdefault((cell.model, cell.data, cell.precision, cell.kind), set()).add(cell.source)
    return {place[:3] for place, sources in files.items() if len(sources) > 1}


class Scale(nn.Module):
    """Subtracts a mean from each channel and divides by a standard deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        super().__init__()
        for name, values, default in (("mean", mean, 0.0), ("std", std, 1.0)):
            numbers = [default] * 3 if values is None else [float(value) for value in values]
            if len(numbers) != 3 or not np.isfinite(numbers).all() or (name == "std" and min(numbers) <= 0):
                rule = "above 0" if name == "std" else "that are finite"
                raise ValueError(f"{name} needs 3 numbers {rule} (red, green, blue), got {values}")
            self.register_buffer(name, torch.tensor(numbers).reshape(1, 3, 1, 1))

    def forward(self, images: FloatImages) -> FloatImages:
        """Return (images - mean) / std."""
        scaled: Tensor = (images - self.mean) / self.std
        return scaled


class Corrupted:
    """A folder of corrupted arrays in the published layout, memory-mapped."""

    def __init__(self, folder: Path, images: ImageSet) -> None:
        """Open it and check that it belongs to these images.

        Raises:
            FileNotFoundError: No such folder, or one without labels.npy.
            ValueError: Labels that are not these images'.
        """
        self._folder = folder
        self._images = images
        self._sums: dict[str, str] = {}
        if not folder.is_dir():
            raise FileNotFoundError(f"no such folder of corrupted arrays: {folder}")
        described = folder / "corrupt.json"
        self.severities: tuple[int, ...] = SEVERITIES
        if described.exists():
            self.severities = _read_severities(described)
        labels = self._open("labels").reshape(-1)
        self._count, rest = divmod(len(labels), len(self.severities))
        positions = images.index.cpu().numpy()
        if rest or self._count <= positions.max(initial=0):
            raise ValueError(
                f"{folder}/labels.npy has {len(labels):,} labels; expected {len(self.severities)} times the "
                f"number of images, at least {positions.max(initial=0) + 1:,}"
            )
        if not np.array_equal(np.asarray(labels[positions], dtype=np.int64), images.labels.cpu().numpy()):
            raise ValueError(
                f"{folder}/labels.npy does not hold the labels of {images.name} ({images.split})"
            )

    def kinds(self) -> tuple[str, ...]:
        """Return the kinds whose arrays are there, known ones first in their order.

        Raises:
            FileNotFoundError: There are none.
        """
        there = {path.stem for path in self._folder.glob("*.npy")} - {"labels", "clean"}
        if not there:
            raise FileNotFoundError(f"{self._folder} has no corrupted arrays, such as fog.npy")
        known = [kind for kind in CORRUPTIONS if kind in there]
        return (*known, *sorted(there - set(known)))

    def check(self, kind: str, severities: Sequence[int]) -> None:
        """Raise ValueError unless a kind's array has these severities and the images' shape."""
        for severity in severities:
            if severity not in self.severities:
                have = ", ".join(map(str, self.severities))
                raise ValueError(f"{self._folder} has severities {have}, not {severity}")
        rows = self._open(kind)
        _, channels, height, width = self._images.images.shape
        expected = (len(self.severities) * self._count, height, width, channels)
        if rows.dtype != np.uint8 or rows.shape != expected:
            raise ValueError(
                f"{self._folder}/{kind}.npy is {rows.dtype} {rows.shape}, expected uint8 {expected}"
            )

    def sha256(self, kind: str) -> str:
        """Return the sha256 of a kind's file, and of its list of severities if that is not all five."""
        if kind not in self._sums:
            digest = sha256(b"" if self.severities == SEVERITIES else repr(self.severities).encode())
            with (self._folder / f"{kind}.npy").open("rb") as stream:
                while block := stream.read(1 << 24):
                    digest.update(block)
            self._sums[kind] = digest.hexdigest()
        return self._sums[kind]

    def read(self, kind: str, severity: int, index: Tensor) -> Images:
        """Return the corrupted images of these numbers."""
        first = self.severities.index(severity) * self._count
        rows = self._open(kind)[first + index.cpu().numpy()]
        return torch.from_numpy(np.ascontiguousarray(rows)).permute(0, 3, 1, 2)

    def _open(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        file = self._folder / f"{name}.npy"
        if not file.exists():
            raise FileNotFoundError(f"{self._folder} has no {name}.npy")
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"{file} is not a whole array: {error}") from None
        if not isinstance(array, np.ndarray):
            array.close()
            raise ValueError(f"{file} is not a whole array: it is an archive of several")
        return array


def _read_severities(file: Path) -> tuple[int, ...]:
    try:
        content = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    found = content.get("severities") if isinstance(content, dict) else None
    if not isinstance(found, list) or not found or not set(map(repr, found)) <= set(map(repr, SEVERITIES)):
        raise ValueError(f'{file} needs "severities", a list of numbers from 1 to 5, got {found!r}')
    return tuple(found)


def as_image_set(data: ImageSet | Dataset[Any] | Pair) -> ImageSet:
    """Return labelled images of any of the forms that `evaluate` takes as an `ImageSet`."""
    if isinstance(data, ImageSet):
        return data
    if isinstance(data, tuple | list) and len(data) == 2:
        images, labels = data
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        pairs = [data[number] for number in range(len(data))]
        arrays = [np.asarray(image) for image, _ in pairs]
        sizes = sorted({array.shape for array in arrays})
        if len(sizes) > 1:
            raise ValueError(
                f"evaluate needs images of one size, got {sizes[0]} and {sizes[1]}; resize and crop them"
            )
        images = np.stack(arrays) if arrays else np.zeros((0, 3, 1, 1))
        labels = np.array([int(label) for _, label in pairs])
    else:
        raise ValueError(
            "evaluate needs an ImageSet, a torch Dataset of (image, label), or a pair of arrays, "
            f"got {type(data).__name__}"
        )
    pixels = _as_bytes(images)
    numbers = _as_tensor(labels)
    if bool((numbers != numbers.to(torch.int64)).any()):
        raise ValueError("evaluate needs labels that are whole numbers, the classes' numbers from 0")
    numbers = numbers.to(torch.int64)
    if numbers.ndim != 1 or len(numbers) != len(pixels):
        raise ValueError(
            f"evaluate needs one label an image, got {len(pixels)} images, labels {tuple(numbers.shape)}"
        )
    if len(numbers) == 0 or int(numbers.min()) < 0:
        raise ValueError("evaluate needs at least one image, and labels from 0")
    return ImageSet(
        name="arrays",
        split="given",
        images=pixels,
        labels=numbers,
        classes=tuple(map(str, range(int(numbers.max()) + 1))),
        index=torch.arange(len(numbers)),
    )


def _as_bytes(images: Any) -> Images:
    pixels = _as_tensor(images)
    if pixels.ndim != 4 or 3 not in (pixels.shape[1], pixels.shape[3]):
        raise ValueError(
            f"evaluate needs images of shape (n, 3, h, w) or (n, h, w, 3), got {tuple(pixels.shape)}"
        )
    if pixels.shape[1] != 3:
        pixels = pixels.permute(0, 3, 1, 2)
    if pixels.dtype != torch.uint8:
        scaled = pixels.double() * 255
        rounded = scaled.round()
        if not bool(((rounded >= 0) & (rounded <= 255) & ((scaled - rounded).abs() < 1e-2)).all()):
            raise ValueError(
                "evaluate needs images as bytes, or as floats that are whole 255ths of [0, 1]; corruptions "
                "are defined on bytes: give them before any normalisation, and that as mean= and std="
            )
        pixels = rounded.to(torch.uint8)
    return pixels.contiguous()


def _as_tensor(values: Any) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach().cpu()
    # A mapped file cannot be written, and torch warns of tensors that share its memory.
    return torch.as_tensor(np.require(np.asarray(values), requirements=("W", "C")))


def _plan(
    config: EvaluateConfig, kinds: Sequence[str], folder: Corrupted | None, model: str, data: str
) -> list[Cell]:
    cells = [Cell(model=model, data=data, kind="clean", severity=0, precision=config.precision)]
    for kind in kinds:
        for severity in sorted(set(config.severities)):
            cells.append(
                Cell(
                    model=model,
                    data=data,
                    kind=kind,
                    severity=severity,
                    parameters=config.parameters if folder is None else "",
                    version=CORRUPTIONS[kind].version if folder is None else 0,
                    seed=config.seed if folder is None else 0,
                    source="" if folder is None else folder.sha256(kind),
                    precision=config.precision,
                    first=severity - 1 if config.spread else 0,
                    step=len(SEVERITIES) if config.spread else 1,
                )
            )
    return cells


def _check_kinds(
    kinds: Sequence[str], images: ImageSet, config: EvaluateConfig, folder: Corrupted | None
) -> None:
    """Make or read one image of each kind, so that nothing fails in the middle."""
    for kind in kinds:
        if folder is not None:
            folder.check(kind, config.severities)
        else:
            corrupt(
                images.images[:1], kind, severity=config.severities[0], seed=0, parameters=config.parameters
            )
    if config.spread and len(images) < len(SEVERITIES):
        raise ValueError(f"spread needs at least {len(SEVERITIES)} images, got {len(images)}")


def _fill(
    store: Store,
    cells: Sequence[Cell],
    network: nn.Module,
    images: ImageSet,
    device: torch.device,
    config: EvaluateConfig,
    folder: Corrupted | None,
    progress: Progress | None,
) -> None:
    """Compute the cells that are missing; one that another process works on comes back at the end."""
    waiting = [cell for cell in cells if not store.has(cell.key)]
    done = len(cells) - len(waiting)
    while waiting:
        later = []
        for cell in waiting:
            with store.claim(cell.key) as mine:
                if not mine:
                    later.append(cell)
                    continue
                # The other process may have finished it between the two looks.
                if not store.has(cell.key):
                    started = time.perf_counter()
                    bits = _run_cell(cell, network, images, device, config, folder)
                    store.put(cell, bits, seconds=time.perf_counter() - started)
            done += 1
            if progress is not None:
                progress(done, len(cells), _title(cell))
        if len(later) == len(waiting):
            time.sleep(0.2)
        waiting = later


@torch.inference_mode()
def _run_cell(
    cell: Cell,
    network: nn.Module,
    images: ImageSet,
    device: torch.device,
    config: EvaluateConfig,
    folder: Corrupted | None,
) -> Bits:
    chosen = torch.arange(cell.first, len(images), cell.step)
    hits = []
    for positions in torch.split(chosen, _CHUNK):
        part = images.subset(positions)
        if cell.kind == "clean":
            pixels = part.images.to(device)
        elif folder is not None:
            pixels = folder.read(cell.kind, cell.severity, part.index).to(device)
        else:
            pixels = corrupt(
                part.images.to(device),
                cell.kind,
                severity=cell.severity,
                seed=cell.seed,
                parameters=cell.parameters,
                index=part.index,
            )
        logits = torch.cat(
            [_logits(network, batch, config) for batch in torch.split(pixels, config.batch_size)]
        )
        if bool(logits.isnan().any()):
            raise ValueError(
                f"the network gives NaN on {_title(cell)}, which is neither right nor wrong; "
                "the cells before it are kept"
            )
        named = logits.argmax(dim=1)
        hits.append(named.cpu() == part.labels.cpu())
    return torch.cat(hits).numpy()


def _logits(network: nn.Module, batch: Images, config: EvaluateConfig) -> Tensor:
    floats = batch.float().div_(255).contiguous(memory_format=torch.channels_last)
    low = config.precision == "bfloat16"
    with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=low):
        logits = network(floats)
    if not isinstance(logits, Tensor):
        raise ValueError(f"the network gives a {type(logits).__name__}, expected a tensor of logits")
    return logits.float()


def _check_outputs(
    network: nn.Module, images: ImageSet, device: torch.device, config: EvaluateConfig, *, named: bool
) -> None:
    """Refuse outputs that do not fit the classes; of classes nobody named, some may not have been seen."""
    first = images.images[:2]
    try:
        with torch.inference_mode():
            logits = _logits(network, first.to(device), config)
    except RuntimeError as error:
        what = str(error).partition("\n")[0]
        raise ValueError(f"the network cannot take images of shape {tuple(first.shape)}: {what}") from error
    wide = logits.ndim == 2 and logits.shape[1] > len(images.classes)
    whole = logits.ndim == 2 and len(logits) == len(first)
    if not whole or logits.shape[1] < len(images.classes) or (named and wide):
        raise ValueError(
            f"the network gives {tuple(logits.shape)} for {tuple(first.shape)}, expected "
            f"({len(first)}, {len(images.classes)}): {images.name} has {len(images.classes)} classes"
        )


@contextlib.contextmanager
def _evaluating(network: nn.Module, device: torch.device) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    home = _device_of(network)
    try:
        network.eval().to(device)
        yield
    finally:
        network.to(home)
        for module, mode in modes.items():
            module.training = mode


def _title(cell: Cell) -> str:
    return cell.kind if cell.severity == 0 else f"{cell.kind} {cell.severity}"


def _answers(cell: Cell, bits: Bits) -> Answers:
    return Answers(positions=cell.first + cell.step * np.arange(len(bits)), bits=bits)


def _device_of(model: nn.Module) -> torch.device:
    tensor = next(model.parameters(), None)
    return tensor.device if tensor is not None else torch.device("cpu")
