"""The training loop, read from top to bottom."""

import math
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__
from ..datasets import ImageSet, load_data
from ..engine import Fabric, launch
from ..filters import SpectralNoise, analyze, bake, modulate, proportion_parameters, recalibrate, set_share
from ..models import describe, load_model
from ..run import Run, git_revision, make_folder
from ..types import Progress
from .batches import Batches
from .config import TrainConfig, from_plain, to_plain
from .methods import METHODS

# Images on which the effect of recalibrating the batch norms is shown.
_WITNESSES = 5000


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    resume: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Run:
    """Return the finished run in folder `out`, trained as the config says.

    The last epoch's network is the result; no epoch is chosen by looking at any data. A checkpoint is
    written after every epoch, and a run that was killed and resumed ends with the same weights bit for
    bit on a CPU with the same number of threads. The global random state is left as it was.

    Args:
        config: What to train.
        out: The run's folder, created if need be.
        resume: Go on where a killed run stopped; a finished one is returned as it is.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: Threads of torch's operations; None leaves the setting as it is.
        progress: Called after every step with steps done, steps in all, and a line of figures.

    Raises:
        ValueError: The folder holds a run already, or one of another config or other images, or files
            that would be overwritten; data or device that cannot be had; a loss that is no longer finite.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     train(TrainConfig(split="validation", epochs=1), out).finished
    True
    """
    run = Run(make_folder(out))
    if _is_done(run, config, resume=resume):
        return run
    data = load_data(config.data, split=config.split, size=config.size or None)
    if len(data) < config.batch_size:
        raise ValueError(f"batch_size {config.batch_size} exceeds the {len(data)} images of {config.data}")
    if run.checkpoint.exists() and run.read()["data"]["fingerprint"] != data.fingerprint():
        raise ValueError(
            f"{run.folder} was begun on other images than {config.data} holds now; bring those back, or "
            "train anew in another folder"
        )
    fabric = launch(device=device, precision=config.precision, threads=threads)
    cuda = [fabric.device.index or 0] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(config.seed)
        return _train(config, run, data, fabric, progress)


def _train(config: TrainConfig, run: Run, data: ImageSet, fabric: Fabric, progress: Progress | None) -> Run:
    model = build(config, classes=len(data.classes))
    records = [{"epoch": 0, **_first_layer(model)}]
    network = nn.Sequential(_noise(config), model) if config.spectral.on else model
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        _groups(network, config), lr=0.0, momentum=config.momentum, nesterov=config.momentum > 0
    )
    wrapped, wrapped_optimizer = fabric.setup(network, optimizer)
    batches = Batches.of(data, config, fabric.device)
    steps = config.epochs * batches.count
    method = METHODS[config.method]

    first_epoch, seconds, cpu_seconds = 1, 0.0, 0.0
    begun = datetime.now(timezone.utc).isoformat(timespec="seconds")
    if run.checkpoint.exists():
        state = run.read_checkpoint()
        first_epoch, records = state["epoch"] + 1, state["records"]
        seconds, cpu_seconds = state["seconds"], state["cpu_seconds"]
        begun = run.read()["started"]
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        _set_random_state(state["random"], fabric.device)
    description: dict[str, Any] = {
        "config": to_plain(config),
        "version": __version__,
        "git": git_revision(),
        "data": {
            "name": data.name,
            "split": data.split,
            "images": len(data),
            "fingerprint": data.fingerprint(),
        },
        "device": _device_name(fabric.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "started": begun,
        "finished": None,
        "seconds": None,
        "cpu_seconds": None,
    }
    run.write(description)

    started, cpu_started = time.perf_counter() - seconds, time.process_time() - cpu_seconds
    wrapped.train()
    for epoch in range(first_epoch, config.epochs + 1):
        # Sums stay on the device, so that no step waits for them.
        loss_sum = torch.zeros((), device=fabric.device)
        hits = torch.zeros((), device=fabric.device, dtype=torch.int64)
        for number, batch in enumerate(batches.epoch(epoch)):
            done = (epoch - 1) * batches.count + number // config.accumulate
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * _triangle(done / steps, config.peak)
            step = method(
                wrapped,
                batch.images,
                batch.labels,
                key=batch.key,
                smoothing=config.label_smoothing,
                partners=batch.partners,
            )
            fabric.backward(step.loss / config.accumulate)
            loss_sum += step.loss.detach() / config.accumulate
            hits += (step.logits.detach().argmax(dim=1) == batch.labels).sum()
            if (number + 1) % config.accumulate:
                continue
            wrapped_optimizer.step()
            wrapped_optimizer.zero_grad()
            if progress is not None:
                seen = (done + 1) * config.batch_size - (epoch - 1) * batches.count * config.batch_size
                what = f"epoch {epoch}/{config.epochs}  accuracy in training {100 * float(hits) / seen:.1f} %"
                progress(done + 1, steps, what)
        loss = float(loss_sum) / batches.count
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss became {loss} in epoch {epoch} (seed {config.seed}); lower learning_rate "
                f"(now {config.learning_rate}) and train anew in another folder than {run.folder}"
            )
        seconds = time.perf_counter() - started
        records.append(
            {
                "epoch": epoch,
                "loss": loss,
                "accuracy": int(hits) / (batches.count * config.batch_size),
                "seconds": seconds,
                **_first_layer(model),
            }
        )
        run.write_log(records)
        run.write_checkpoint(
            {
                "epoch": epoch,
                "seconds": seconds,
                "cpu_seconds": time.process_time() - cpu_started,
                "records": records,
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "random": _random_state(fabric.device),
            }
        )

    if config.spectral.on or config.modulate.on:
        description["recalibrated"] = _recalibrated(model, batches, config, fabric)
    plain = bake(model.eval())
    description["seconds"] = time.perf_counter() - started
    description["cpu_seconds"] = time.process_time() - cpu_started
    description["finished"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    run.write(description)
    run.write_weights(plain.state_dict(), describe(plain, arch=config.arch))
    run.checkpoint.unlink()
    return run


def build(config: TrainConfig, *, classes: int) -> nn.Module:
    """Return a fresh network with the first layer controlled or modulated as the config says."""
    model = load_model(arch=config.arch, classes=classes)
    layer = model.get_submodule("conv1")
    if config.share.low is not None:
        share = config.share
        set_share(
            layer,
            low=config.share.low,
            cutoff=share.cutoff,
            zero_mean=share.zero_mean,
            guard=share.guard,
            seed=config.seed,
        )
    if config.modulate.on:
        part = config.modulate
        modulate(layer, shared=part.shared, independent=part.independent, clean=part.clean)
    return model


def _noise(config: TrainConfig) -> SpectralNoise:
    part = config.spectral
    return SpectralNoise(strength=part.strength, gain=part.gain, noise=part.noise, clean=part.clean)


def _groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    proportions = list(proportion_parameters(network))
    special = {id(parameter) for parameter in proportions}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in special]
    decayed = [parameter for parameter in rest if parameter.ndim > 1]
    others = [parameter for parameter in rest if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay, "peak": config.learning_rate},
        {"params": others, "weight_decay": 0.0, "peak": config.learning_rate},
        {"params": proportions, "weight_decay": 0.0, "peak": config.modulate.learning_rate},
    ]
    return [group for group in groups if group["params"]]


def _triangle(progress: float, peak: float) -> float:
    """Return the schedule's factor in [0, 1]: up to 1 at `peak`, then down to 0 at the end."""
    return progress / peak if progress < peak else (1 - progress) / (1 - peak)


def _recalibrated(
    model: nn.Module, batches: Batches, config: TrainConfig, fabric: Fabric
) -> dict[str, float]:
    """Recalibrate the batch norms on clean images and return the clean accuracy before and after."""
    before = _clean_accuracy(model, batches, fabric)
    with fabric.autocast():
        recalibrate((batch.images for batch in batches.epoch(config.epochs + 1)), model)
    return {
        "images": batches.count * config.batch_size,
        "accuracy_before": before,
        "accuracy_after": _clean_accuracy(model, batches, fabric),
    }


@torch.no_grad()
def _clean_accuracy(model: nn.Module, batches: Batches, fabric: Fabric) -> float:
    """Return the accuracy on the first training images as they are."""
    was_training = model.training
    model.eval()
    count, hits = min(_WITNESSES, len(batches.labels)), 0
    for start in range(0, count, 500):
        part = slice(start, min(start + 500, count))
        images = batches.plain(part)
        with fabric.autocast():
            hits += int((model(images).argmax(dim=1) == batches.labels[part]).sum())
    model.train(was_training)
    return hits / count


def _first_layer(model: nn.Module) -> dict[str, Any]:
    weight: Any = model.get_submodule("conv1").weight
    layer = analyze({"conv1.weight": weight.detach().cpu()})["conv1"]
    curve = [] if layer.curve is None else layer.curve.tolist()
    return {
        "first_layer": {
            "name": "conv1",
            "low_share": layer.low_share,
            "low_energy": layer.low_energy,
            "mean_low_energy": layer.mean_low_energy,
            "radii": [round(value, 6) for value in layer.radii.tolist()],
            "curve": [round(value, 6) for value in curve],
        }
    }


def _is_done(run: Run, config: TrainConfig, *, resume: bool) -> bool:
    """Return whether the folder holds the finished run; refuse one that is not this run's to continue."""
    if not (run.folder / "run.json").exists():
        for file in (run.checkpoint, run.weights, run.folder / "log.jsonl"):
            if file.exists():
                raise ValueError(
                    f"{run.folder} holds {file.name}, but no run it belongs to; move it away, or name "
                    "another folder with --out"
                )
        return False
    if not resume:
        raise ValueError(
            f"{run.folder} already holds a run; continue it with --resume, or name another folder with --out"
        )
    try:
        plain, before = to_plain(config), to_plain(from_plain(run.read()["config"]))
    except ValueError as error:
        raise ValueError(f"{run.folder} cannot be resumed: {error}") from None
    changed = [name for name in plain if plain[name] != before[name]]
    if changed:
        differences = ", ".join(f"{name} was {before[name]!r}, now {plain[name]!r}" for name in changed)
        raise ValueError(f"{run.folder} cannot be resumed with another configuration: {differences}")
    return run.finished


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _cpu_name()


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return "CPU"
