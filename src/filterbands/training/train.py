"""The training loop, read from top to bottom."""

import copy
import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from .. import engine
from ..control import bake, recalibrate
from ..datasets import ImageSet, load_data, placed, sorted_by_class
from ..disk import make_folder, owned, write_weights, write_whole
from ..engine import (
    compiling,
    device_name,
    is_first_process,
    launch,
    pick_device,
    pick_precision,
    process_count,
)
from ..filters import analyze
from ..models import (
    describe,
    evaluating,
    first_layer,
    known_overlap,
    known_trainings,
    remembered,
    weights_hash,
)
from ..run import Run
from ..types import Progress
from ..version import __version__, git_revision
from .batches import Batches, check_count
from .config import TrainConfig, to_plain
from .networks import build, compiled, in_training, learned_spectrum, set_progress
from .optimizing import FACTORS, Averages, make_optimizer
from .recipes import check_start
from .resuming import is_done, say_other_machine

_LOG = logging.getLogger(__name__)
# Images on which the effect of recalibrating the batch norms is shown.
_WITNESSES = 5000
# Steps between looks at the loss on a device that would have to wait for it.
_CHECK_EVERY = 50


def train(
    config: TrainConfig,
    out: str | Path,
    *,
    resume: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Run:
    """Return the finished run in folder `out`, trained as the config says.

    The last epoch's network is the result; no epoch is chosen by looking at any data. A checkpoint is
    written after every epoch (or every `checkpoint_every`), and a run that was killed and resumed ends with
    the same weights bit for bit on a CPU with the same number of threads; a line says where these, torch or
    the device are others, and the record has all of them as `computed_with`. The global random state is left
    as it was. Under torchrun each process takes its share of every batch (see `launch`). The first writes.

    Args:
        config: What to train.
        out: The run's folder, created if need be.
        resume: Go on where a killed run stopped; a finished one is returned as it is. Images and weights to
            start from may have moved.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        threads: Threads of torch's operations; None leaves the setting as it is.
        progress: Called after every step, or every 50 with CUDA, with steps done, steps in all, and a line of
            figures.
        on_epoch: Called with each record of the log as it is written: that of the network before training,
            then one per epoch; of a resumed run with those that are new. For loggers of your own.

    Raises:
        ValueError: The folder holds a run already, or one of another config or other images, or files
            that would be overwritten; data or device that cannot be had; a batch that processes cannot share
            equally; a loss that is no longer finite, with its step and the file with the state; a network
            that torch cannot compile here, where the config asks for it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as out:
    ...     train(TrainConfig(split="validation", epochs=1), out).finished
    True
    """
    run = Run(make_folder(out))
    # Of processes that train together, the first one writes.
    with owned(run.folder) if is_first_process() else nullcontext():
        if not is_done(run, config, resume=resume):
            _begin(run, config, device, threads, progress, on_epoch)
    return run


def _begin(
    run: Run,
    config: TrainConfig,
    device: str,
    threads: int | None,
    progress: Progress | None,
    on_epoch: Callable[[dict[str, Any]], None] | None,
) -> None:
    """Train after all that can fail has been checked."""
    check_start(config.recipe, config)
    processes = process_count()
    if config.batch_size % (config.accumulate * processes):
        raise ValueError(
            f"batch_size {config.batch_size} cannot be shared equally by {processes} processes in "
            f"{config.accumulate} parts each; choose a multiple of {config.accumulate * processes}"
        )
    if config.sync_batch_norm and pick_device(device).type == "cpu":
        raise ValueError("sync_batch_norm needs CUDA devices; set it to false on a CPU")
    before = run.read() if run.checkpoint.exists() else {}
    begun_by = before.get("processes", 1) if before else processes
    if begun_by != processes:
        raise ValueError(
            f"{run.folder} was begun by {begun_by} processes and is resumed by as many, not {processes}"
        )
    data = load_data(config.data, split=config.split, size=config.size or None)
    check_count(data, config)
    if before and run.images != data.fingerprint():
        raise ValueError(
            f"{run.folder} was begun on other images than {config.data} holds now; bring those back, or "
            "train anew in another folder"
        )
    if before and config.init and run.start != weights_hash(config.init):
        raise ValueError(
            f"{run.folder} was begun from other weights than {config.init} holds now; bring those back, or "
            "train anew in another folder"
        )
    # A training goes on in the precision that it began in, also on another device.
    precision = pick_precision(run.precision if before else config.precision, pick_device(device))
    fabric = launch(device=device, precision=precision, threads=threads)
    cuda = [fabric.device.index or 0] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), compiling():
        torch.manual_seed(config.seed)
        _train(config, run, data, fabric, precision, progress, on_epoch)


def _train(
    config: TrainConfig,
    run: Run,
    data: ImageSet,
    fabric: "engine.Fabric",
    precision: str,
    progress: Progress | None,
    on_epoch: Callable[[dict[str, Any]], None] | None,
) -> None:
    model, network = in_training(config, classes=len(data.classes))
    records = [{"epoch": 0, **_first_layer(model), **learned_spectrum(network)}]
    optimizer = make_optimizer(network, config)
    wrapped, wrapped_optimizer = fabric.setup(compiled(network, config), optimizer)
    rank, processes = fabric.global_rank, fabric.world_size
    batches = Batches.of(data, config, fabric.device, rank=rank, processes=processes)
    steps = config.epochs * batches.count
    if steps == 1 and FACTORS[config.schedule](0, config.peak) == 0:
        _LOG.warning(
            "train: one step alone, and the learning rate of schedule %s begins at 0: the weights stay as "
            "they were; take more epochs, more images or a smaller batch_size",
            config.schedule,
        )
    averages = Averages(network, config.ema) if config.ema else None

    def learned() -> dict[str, Any]:
        return {"network": network.state_dict(), "optimizer": optimizer.state_dict()}

    if rank:
        # Layers draw from torch's generator: each process its own numbers.
        torch.manual_seed((config.seed + rank * 1_000_003) % 2**63)

    first_epoch, seconds, cpu_seconds = 1, 0.0, 0.0
    begun, revisions, parts = _now(), list[Any](), list[dict[str, Any]]()
    machine = {
        "device": device_name(fabric.device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
    if run.checkpoint.exists():
        state = run.read_checkpoint()
        try:
            first_epoch, records = state["epoch"] + 1, state["records"]
            seconds, cpu_seconds = state["seconds"], state["cpu_seconds"]
            facts = run.read()
            begun, revisions = facts["started"], [*facts.get("revisions", [facts.get("git")])]
            before = {name: facts.get(name) for name in machine}
            parts = [*facts.get("computed_with", [before])]
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            if averages is not None:
                averages.load(state["averages"])
            engine.set_random_state(state["random"], fabric)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ValueError(
                f"{run.checkpoint} is not this training's, or is damaged ({said}); remove it to train anew "
                "from the first epoch"
            ) from None
        if rank == 0:
            say_other_machine(run, before, machine)
    description: dict[str, Any] = {
        "config": to_plain(config),
        "overlap": list(_resembled(config)),
        "version": __version__,
        "git": git_revision(),
        "data": {
            "name": data.name,
            "split": data.split,
            "images": len(data),
            "fingerprint": data.fingerprint(),
            # The config may name it from a folder in which nobody will be later.
            "place": placed(config.data),
        },
        **machine,
        "precision": precision,
        "processes": processes,
        "started": begun,
        "finished": None,
        "seconds": None,
        "cpu_seconds": None,
    }
    if others := [revision for revision in revisions if revision != description["git"]]:
        # A part of it was trained by other code.
        description["revisions"] = [*others, description["git"]]
    if elsewhere := [part for part in parts if part != machine]:
        description["computed_with"] = [*elsewhere, machine]
    if config.init:
        description["init"] = weights_hash(config.init)
        if earlier := known_trainings(config.init):
            names = [{"data": data, "split": split} for data, split in earlier]
            description["trained_before"] = names
    if rank == 0:
        run.write(description)
        if on_epoch is not None and first_epoch == 1:
            with engine.kept_random(fabric):
                on_epoch(records[0])

    started, cpu_started = time.perf_counter() - seconds, time.process_time() - cpu_seconds
    wrapped.train()
    for epoch in range(first_epoch, config.epochs + 1):
        # Sums stay on the device, so that no step waits for them.
        loss_sum = torch.zeros((), device=fabric.device)
        hits = torch.zeros((), device=fabric.device, dtype=torch.int64)
        epoch_started = time.perf_counter()
        for number, batch in enumerate(batches.epoch(epoch)):
            done = (epoch - 1) * batches.count + number // config.accumulate
            set_progress(network, config, done / steps)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * FACTORS[config.schedule](done / steps, config.peak)
            last_part = (number + 1) % config.accumulate == 0
            with fabric.no_backward_sync(wrapped, enabled=not last_part):
                step = batch.step(wrapped, config)
                fabric.backward(step.loss / config.accumulate)
            loss_sum += step.loss.detach() / config.accumulate
            hits += (step.logits.detach().argmax(dim=1) == batch.labels).sum()
            if not last_part:
                continue
            looks = fabric.device.type == "cpu" or done % _CHECK_EVERY == 0
            if looks and not bool(loss_sum.isfinite()):
                # Before the step, so that the state that is kept is the one that this batch met.
                raise _stopped(run, batches, epoch, done, float(loss_sum), learned())
            if config.clip:
                # What is not finite is told below, with its step.
                fabric.clip_gradients(
                    wrapped, wrapped_optimizer, max_norm=config.clip, error_if_nonfinite=False
                )
            wrapped_optimizer.step()
            wrapped_optimizer.zero_grad()
            if averages is not None:
                averages.update(network)
            shown = done + 1 - (epoch - 1) * batches.count
            if looks and progress is not None and rank == 0:
                seen = shown * config.batch_size
                figures = (
                    f"epoch {epoch}/{config.epochs}",
                    f"loss {float(loss_sum) / shown:.3f}",
                    f"accuracy in training {100 * int(hits) * processes / seen:.1f} %",
                    f"{seen / max(time.perf_counter() - epoch_started, 1e-9):,.0f} images/s",
                    f"low energy {records[-1]['first_layer']['mean_low_energy']:.3f}",
                )
                progress(done + 1, steps, "  ".join(figures))
        if processes > 1:
            loss_sum = cast(Tensor, fabric.all_reduce(loss_sum, reduce_op="mean"))
            hits = cast(Tensor, fabric.all_reduce(hits, reduce_op="sum"))
        loss = float(loss_sum) / batches.count
        if not math.isfinite(loss):
            raise _stopped(run, batches, epoch, done, loss, learned())
        seconds = time.perf_counter() - started
        # The strengths in force, where the filters are those of the result.
        strengths = learned_spectrum(network)
        with averages.applied(network) if averages is not None else nullcontext():
            layer_record = {**_first_layer(model), **strengths}
            if config.keep_every and epoch % config.keep_every == 0 and rank == 0:
                kept = bake(copy.deepcopy(model).eval())
                texts = describe(kept, arch=config.arch) | remembered(run.folder)
                write_weights(run.weights_at(epoch), kept.state_dict(), texts)
        records.append(
            {
                "epoch": epoch,
                "loss": loss,
                "accuracy": int(hits) / (batches.count * config.batch_size),
                "seconds": seconds,
                **layer_record,
            }
        )
        random = engine.random_state(fabric)
        if rank == 0:
            run.write_log(records)
            if on_epoch is not None:
                # What the user's function draws may not change the training, which is the same when resumed.
                with engine.kept_random(fabric):
                    on_epoch(records[-1])
        if rank == 0 and (epoch % config.checkpoint_every == 0 or epoch == config.epochs):
            run.write_checkpoint(
                {
                    "epoch": epoch,
                    "seconds": seconds,
                    "cpu_seconds": time.process_time() - cpu_started,
                    "records": records,
                    "random": random,
                    **learned(),
                    **({"averages": averages.state()} if averages is not None else {}),
                }
            )

    if rank == 0:
        if averages is not None:
            averages.apply(network)
        if config.sync_batch_norm:
            # Its batch norms would wait for the other processes.
            weights = model.state_dict()
            model = build(config, classes=len(data.classes)).to(fabric.device)
            model.load_state_dict(weights)
        if config.recalibrates:
            description["recalibrated"] = _recalibrated(model, batches, config, fabric)
        plain = bake(model.eval())
        description["seconds"] = time.perf_counter() - started
        description["cpu_seconds"] = time.process_time() - cpu_started
        description["finished"] = _now()
        run.write(description)
        run.write_weights(plain.state_dict(), describe(plain, arch=config.arch) | remembered(run.folder))
        run.checkpoint.unlink()
    fabric.barrier()


def _stopped(
    run: Run, batches: Batches, epoch: int, done: int, loss: float, state: dict[str, Any]
) -> ValueError:
    """Return the error of a loss that is NaN or infinite, after saving the state and the batch."""
    config = batches.config
    step = done - (epoch - 1) * batches.count
    # Batches are drawn by keys, so that this one can be had again.
    batch = next(islice(batches.epoch(epoch), step * config.accumulate, None))
    state |= {
        "epoch": epoch,
        "step": step,
        "seed": config.seed,
        "images": batch.images.cpu(),
        "labels": batch.labels.cpu(),
        "key": batch.key.cpu(),
    }
    file = run.failure(batches.rank)
    write_whole(file, lambda path: torch.save(state, path))
    return ValueError(
        f"the loss became {loss} in epoch {epoch} at step {step + 1} of {batches.count} or before (seed "
        f"{config.seed}, first key of the batch {int(batch.key[0])}); {file} has the state and the images; "
        f"lower learning_rate (now {config.learning_rate}) and train anew in another folder than {run.folder}"
    )


def _resembled(config: TrainConfig) -> tuple[str, ...]:
    """Return the kinds that training shows images of, with those that the network it starts from has seen."""
    before = known_overlap(config.init) if config.init else None
    return tuple(dict.fromkeys((*config.resembles, *(before or ()))))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _recalibrated(
    model: nn.Module, batches: Batches, config: TrainConfig, fabric: "engine.Fabric"
) -> dict[str, float]:
    """Recalibrate the batch norms on clean images and return the clean accuracy before and after."""
    before = _clean_accuracy(model, batches, fabric)
    with fabric.autocast():
        recalibrate((batch.images for batch in batches.epoch(config.epochs + 1)), model)
    return {
        "images": batches.count * config.batch_size // fabric.world_size,
        "accuracy_before": before,
        "accuracy_after": _clean_accuracy(model, batches, fabric),
    }


@torch.no_grad()
def _clean_accuracy(model: nn.Module, batches: Batches, fabric: "engine.Fabric") -> float:
    """Return the accuracy on so many training images as they are: the first, or every few of sorted ones."""
    total = len(batches.labels)
    places, hits = torch.arange(min(_WITNESSES, total), device=fabric.device), 0
    if sorted_by_class(batches.labels.cpu()):
        places = places * total // len(places)
    with evaluating(model), fabric.autocast():
        for part in torch.split(places, 500):
            hits += int((model(batches.plain(part)).argmax(dim=1) == batches.labels[part]).sum())
    return hits / len(places)


def _first_layer(model: nn.Module) -> dict[str, Any]:
    first = first_layer("train", model)
    layer = analyze({f"{first.name}.weight": first.layer.weight.detach().cpu()})[first.name]
    curve = [] if layer.curve is None else layer.curve.tolist()
    record = {name: getattr(layer, name) for name in ("name", "low_share", "low_energy", "mean_low_energy")}
    for name, values in (("radii", layer.radii.tolist()), ("curve", curve)):
        record[name] = [round(value, 6) for value in values]
    return {"first_layer": record}
