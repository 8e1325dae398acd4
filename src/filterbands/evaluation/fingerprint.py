"""The fingerprint of a network: a hash of everything that can change its answers."""

import contextlib
import logging
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules

from .. import rng
from ..engine import exact_float32
from ..models import evaluating
from ..types import FloatImages
from .contents import PLAIN, Contents, is_shown, settings, without_address
from .inference import logits_of
from .origin import is_library, replaced

_LOG = logging.getLogger(__name__)
# The images that a network of others is run on, those of one batch, and the numbers taken of each output.
_IMAGES, _BATCH, _NUMBERS = 4, 2, 4
# Steps of these numbers in units of the outputs' size. Rounding moves outputs by some 10^-6 of it.
_STEPS = 4


def model_fingerprint(model: nn.Module, *, shape: tuple[int, int, int] = (3, 32, 32)) -> str:
    """Return the sha256 of a network's structure, parameters, buffers, settings and code.

    Settings are the plain attributes of its modules, such as the width of a blur, which is not a weight. This
    is all of a network of this package or of torch's own modules.

    Of any other network, also of one with hooks or other attributes, the hash is of all that its modules
    refer to: arrays, containers, objects as `pickle` takes them, hooks, and functions with what they close
    over. Code is that of the user's functions and classes, of those that they name, also in other modules of
    the user's, and of methods that replace those of torch. What none of this shows, such as a compiled
    extension, an import within a function or a list among its globals, shows in what the network answers:
    its outputs for four fixed images, coarsely rounded, are part of the hash.

    A network that gives other outputs each time, fails on these images, or refers to what nothing can read is
    told; its fingerprint is another one each time, so that no result is taken for its own.

    Args:
        model: Run on its own device; it is left as it was.
        shape: Channels, height and width of the images that a network of others is run on.

    >>> model_fingerprint(nn.Linear(2, 3)) == model_fingerprint(nn.Linear(2, 3))
    False
    """
    found, why = _fingerprint(model, shape)
    if why:
        _LOG.warning(
            "the network %s, so that it cannot be told from others: stored results are not read, and it is "
            "evaluated anew each time",
            why,
        )
    return found


def known_fingerprints(model: nn.Module, known: Collection[str], *, sides: Iterable[int]) -> tuple[str, ...]:
    """Return which known fingerprints are of a network; those of others depend on the images' size.

    Args:
        model: As for `model_fingerprint`.
        known: The fingerprints of networks that have results.
        sides: Sides in pixels of the images that are tried; one is enough for a network of this package.

    >>> known_fingerprints(nn.Linear(2, 3), {"another"}, sides=(32, 224))
    ()
    """
    sides = dict.fromkeys((32,) if _is_known(model) else sides) if known else ()
    return tuple(found for side in sides if (found := _fingerprint(model, (3, side, side))[0]) in known)


def _fingerprint(model: nn.Module, shape: tuple[int, int, int]) -> tuple[str, str]:
    """Return the fingerprint, and why it is another one each time; an empty text where it is not."""
    if _is_known(model):
        return _of_known(model), ""
    contents = Contents()
    with evaluating(model):
        try:
            held = contents.digest([model, [list(hooks.values()) for hooks in _of_all_modules()]])
        except RecursionError:
            held = b""
            contents.opaque.add("objects that are nested too deeply")
        said, why = _answers(model, shape)
    if contents.opaque:
        why = f"refers to {', '.join(sorted(contents.opaque))}"
    if why:
        said = uuid.uuid4().hex
    return sha256(b"2 " + held + said.encode()).hexdigest(), why


def _is_known(model: nn.Module) -> bool:
    """Return whether weights, settings and the version of this package say all of a network."""
    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    if not all(map(_is_known_class, kinds)):
        return False
    for module in model.modules():
        hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        if not (
            all(isinstance(hook, FunctionType) and _is_ours(hook) for hook in hooks)
            and all(_is_shown(value) for value in settings(module).values())
            and "forward" not in vars(module)
        ):
            return False
    return not any(_of_all_modules())


def _of_all_modules() -> tuple[Mapping[int, Any], ...]:
    """Return the hooks that torch calls for every module."""
    return modules._global_forward_pre_hooks, modules._global_forward_hooks


def _is_known_class(kind: type) -> bool:
    known = kind.__module__.startswith("torch.nn.") or kind.__module__ in ("builtins", "abc")
    return (known or _is_ours(kind)) and not replaced(kind)


def _is_ours(code: Any) -> bool:
    return is_library(code) and not code.__module__.startswith("torch")


def _is_shown(value: Any) -> bool:
    """Return whether the text of a setting says all of it, in every process."""
    if isinstance(value, Tensor):
        return value.layout == torch.strided and not value.is_quantized
    if type(value) in (set, frozenset):
        return all(type(one) in PLAIN for one in value)
    return is_shown(value)


def _of_known(model: nn.Module) -> str:
    """Return the fingerprint of a known network, as all versions of this package wrote it."""
    digest = sha256(repr(model).encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(_tensor(name, tensor))
    for name, module in model.named_modules():
        for setting, value in settings(module).items():
            place = f"{name}.{setting}"
            # The order of a set and the address of an object differ between processes.
            plain = sorted(map(repr, value)) if isinstance(value, set | frozenset) else value
            text = f"{place} {without_address(repr(plain))}"
            digest.update(_tensor(place, value) if isinstance(value, Tensor) else text.encode())
    # Modules and tensors that stand in several places have been read at their first one alone.
    for names in (model.named_modules, model.named_parameters, model.named_buffers):
        first: dict[int, str] = {}
        for name, held in names(remove_duplicate=False):
            if (other := first.setdefault(id(held), name)) != name:
                digest.update(f"{name} = {other}\n".encode())
    return digest.hexdigest()


def _tensor(name: str, tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().contiguous()
    head = f"{name} {plain.dtype} {tuple(plain.shape)}".encode()
    return head + plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def _answers(model: nn.Module, shape: tuple[int, int, int]) -> tuple[str, str]:
    """Return what a network gives for the fixed images, coarsely, and why that cannot be relied on."""
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    images = _fixed_images(shape).to(device)
    why = ""
    # Weights of bfloat16 need autocast.
    for precision in ("float32", "bfloat16"):
        try:
            with _fixed_numbers(device):
                parts = torch.split(images, _BATCH)
                # A network may normalize its input in place.
                outputs = [logits_of(model, part.clone(), precision) for part in parts]
            with _fixed_numbers(device):
                again = logits_of(model, images[:_BATCH].clone(), precision)
        except Exception as error:  # whatever the user's own code raises
            why = why or f"fails on fixed images of shape {shape} ({str(error).partition(chr(10))[0]:.200})"
            continue
        same = torch.equal(outputs[0].nan_to_num(), again.nan_to_num())
        why = "" if same else "gives other outputs for the same images"
        return _coarse(torch.cat([part.flatten(1).cpu() for part in outputs])), why
    return "", why


@contextlib.contextmanager
def _fixed_numbers(device: torch.device) -> Iterator[None]:
    """Give a network that draws random numbers the same ones, in full precision, without a graph."""
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices=cuda), exact_float32():
        torch.manual_seed(0)
        yield


def _fixed_images(shape: tuple[int, int, int]) -> FloatImages:
    """Return noise that is smooth in half of the channels' strength, in [0, 1], the same on all machines."""
    channels, height, width = shape
    key = rng.keys(0, "fingerprint", index=torch.arange(_IMAGES))
    fine = rng.integers(key, 0, 128, shape, stream=0)
    blocks = rng.integers(key, 0, 128, (channels, -(-height // 8), -(-width // 8)), stream=1)
    coarse = blocks.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)[:, :, :height, :width]
    return (fine + coarse).to(torch.float32) / 255


def _coarse(outputs: Tensor) -> str:
    """Return some sums of each image's outputs and their size, so coarse that rounding hardly ever shows."""
    values = outputs.double().nan_to_num(nan=1e6, posinf=1e6, neginf=-1e6)
    size = values.square().mean().sqrt()
    key = rng.keys(0, "sums of a fingerprint", index=torch.arange(_NUMBERS))
    signs = 2.0 * rng.integers(key, 0, 2, (values.shape[1],)) - 1
    sums = (values @ signs.double().T) / (values.shape[1] ** 0.5 * size.clamp_min(1e-300))
    # The shift keeps outputs of zeros and of whole numbers away from where they would round otherwise.
    steps = (_STEPS * sums + 0.318).floor().to(torch.int64).flatten().tolist()
    return f"{tuple(outputs.shape)} {steps} {int((2 * size.clamp_min(1e-300).log2() + 0.318).floor())}"
