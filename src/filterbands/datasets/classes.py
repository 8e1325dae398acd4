"""The numbers of class folders: by their names, or by a file with the names of a network's outputs."""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checks import hint
from ..disk import JSON, check_input
from .npz import CLASSES
from .reading import Reading

_SYNSET = re.compile(r"^(n\d{8})[\s,]+(\S.*)$")


def number_classes(
    folders: Sequence[str], reading: Reading, *, root: Path
) -> tuple[Mapping[str, int], tuple[str, ...]]:
    """Return the class number of each class folder, and the names of all classes.

    Args:
        folders: Names of the class folders.
        reading: `classes` is a file with the names of all outputs; without it, folders are numbered in order.
        root: The folder that they are in, for errors.

    Raises:
        FileNotFoundError: The file of names does not exist.
        ValueError: The names of folders are numbers and nothing says in which order, or the file lacks one.
    """
    if reading.classes is not None:
        return _looked_up(folders, Path(reading.classes).expanduser(), root)
    ordered = sorted(folders)
    numeric = all(name.isascii() and name.isdigit() for name in folders)
    by_number = sorted(folders, key=lambda name: (int(name), name)) if numeric else ordered
    if reading.class_order == "number" and not numeric:
        stranger = next(name for name in ordered if not (name.isascii() and name.isdigit()))
        raise ValueError(f"class_order needs class folders that are all numbers, but {root} has {stranger}")
    if by_number != ordered and reading.class_order is None:
        first, second = next(pair for pair in zip(ordered, by_number, strict=True) if pair[0] != pair[1])
        raise ValueError(
            f"{root} has numbers as class folders, and {first} comes before {second} by name; give the order "
            "that the network was trained with: --class-order name (class_order=; as torchvision's "
            "ImageFolder) or number, or rename them with leading zeros"
        )
    classes = tuple(by_number if reading.class_order == "number" else ordered)
    return {name: number for number, name in enumerate(classes)}, classes


def read_classes(file: Path) -> tuple[tuple[str, ...], ...]:
    """Return the names of each output: one as a rule, and as many as the file gives.

    The file is text with one name per line, of which `n01440764 tench` has two, or JSON: a list of names, an
    object of names by output number, `{"0": "tench"}` or `{"0": ["n01440764", "tench"]}`, one of numbers by
    name, or one that holds such names as `id2label`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is neither of them, or lacks an output.
    """
    if not file.is_file():
        raise FileNotFoundError(f"classes needs a file with a name per output, but there is no file {file}")
    check_input(file, largest=JSON)
    try:
        text = file.read_text(encoding="utf-8-sig")
        content = json.loads(text) if text.lstrip()[:1] in ("[", "{") else text.rstrip().splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"classes needs text or JSON, but {file} is neither") from None
    except ValueError as error:
        raise ValueError(f"classes: {file} begins as JSON does, but is none: {error}") from None
    except RecursionError:
        raise ValueError(f"classes: {file} is nested too deeply; give one or more names per output") from None
    if isinstance(content, dict):
        content = _of_object(content, file)
    elif isinstance(content, list):
        # As in LOC_synset_mapping.txt: a synset, then its words.
        synsets = [_SYNSET.match(one) if isinstance(one, str) else None for one in content]
        content = [
            list(found.groups()) if found else one for found, one in zip(synsets, content, strict=True)
        ]
    if len(content) > CLASSES:
        raise ValueError(f"classes: {file} has {len(content):,} names, more than the limit of {CLASSES:,}")
    names = [tuple(_plain(one)) for one in content]
    if wrong := [number for number, one in enumerate(names) if not one]:
        raise ValueError(f"classes: {file} has no name for output {wrong[0]}, counted from 0")
    if not names:
        raise ValueError(f"classes: {file} holds no names")
    return tuple(names)


def _plain(entry: Any) -> list[str]:
    """Return the names of one output; none of them where one is no text or is empty."""
    found = entry if isinstance(entry, list) else [entry]
    whole = all(isinstance(one, str) and one.strip() for one in found)
    return [unicodedata.normalize("NFC", one.strip()) for one in found] if whole else []


def _of_object(content: Mapping[str, Any], file: Path) -> list[Any]:
    """Return the names in the order of the outputs that an object gives them, in one of three forms."""
    if isinstance(inner := content.get("id2label"), dict):
        # The config of a Hugging Face model.
        content = inner
    numbers = list(content.values())
    if all(type(one) is int for one in numbers) and sorted(numbers) == list(range(len(numbers))):
        # As `class_to_idx` of torchvision.
        return sorted(content, key=content.__getitem__)
    missing = next((key for key in map(str, range(len(content))) if key not in content), None)
    if missing is not None:
        raise ValueError(f'classes: {file} needs an object with keys "0", "1", ...; it lacks "{missing}"')
    return [content[str(number)] for number in range(len(content))]


def _looked_up(folders: Sequence[str], file: Path, root: Path) -> tuple[Mapping[str, int], tuple[str, ...]]:
    outputs = read_classes(file)
    places: dict[str, set[int]] = {}
    for number, names in enumerate(outputs):
        for name in names:
            places.setdefault(name, set()).add(number)
    for folder in sorted(folders):
        if folder not in places:
            raise ValueError(
                f"class folder {folder} of {root} is not in {file}{hint(folder, places)}, whose first of "
                f"{len(outputs):,} names is {outputs[0][0]!r}; add it, or remove the folder"
            )
        if len(numbers := sorted(places[folder])) > 1:
            raise ValueError(
                f"class folder {folder} of {root} is in {file} for outputs {numbers[0]} and {numbers[1]}; "
                "give each a name of its own"
            )
    return {name: min(places[name]) for name in folders}, tuple(names[0] for names in outputs)
