"""Where a training step's time goes."""

import time
from dataclasses import asdict, dataclass, fields
from itertools import count

import torch

from ..datasets import ImageSet
from ..engine import compiling, launch
from .batches import Batches, check_count
from .config import TrainConfig
from .networks import compiled, in_training
from .optimizing import make_optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSeconds:
    """Mean seconds of the parts of a step."""

    data: float
    """Crops, flips, partners."""
    augmentation: float
    """What the method does before the network sees its images."""
    forward: float
    """The network, with what perturbs its input or its filters."""
    backward: float
    """Losses and gradients."""
    update: float
    """The optimizer."""

    @property
    def total(self) -> float:
        """Seconds of the whole step."""
        return float(sum(asdict(self).values()))


def measure_step(
    config: TrainConfig,
    data: ImageSet,
    *,
    steps: int = 5,
    device: str = "auto",
    threads: int | None = None,
) -> StepSeconds:
    """Return where the time of a step goes: the mean over some steps, after two that warm up.

    A fresh network is trained for as long and thrown away; the global random state is left as it was. A
    step is waited for part by part, so that on a GPU the sum is a little more than what training takes.

    Raises:
        ValueError: Fewer than 1 step, or fewer images than a batch; a network that torch cannot compile.

    >>> from filterbands import load_data
    >>> data = load_data("planted").subset(torch.arange(64))
    >>> measure_step(TrainConfig(batch_size=32), data, steps=1).total > 0
    True
    """
    if steps < 1:
        raise ValueError(f"steps needs a number of at least 1, got {steps}")
    check_count(data, config)
    fabric = launch(device=device, precision=config.precision, threads=threads)

    def now() -> float:
        if fabric.device.type == "cuda":
            torch.cuda.synchronize(fabric.device)
        return time.perf_counter()

    cuda = [fabric.device.index or 0] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), compiling():
        torch.manual_seed(config.seed)
        network = in_training(config, classes=len(data.classes))[1]
        optimizer = make_optimizer(network, config)
        wrapped, wrapped_optimizer = fabric.setup(compiled(network, config), optimizer)
        wrapped.train()
        forward: list[float] = []
        wrapped.register_forward_pre_hook(lambda *_: forward.append(now()))
        wrapped.register_forward_hook(lambda *_: forward.append(now()))
        batches = Batches.of(data, config, fabric.device)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * group["peak"]
        marks: list[tuple[float, ...]] = []
        passes = (batch for epoch in count(1) for batch in batches.epoch(epoch))
        for _ in range(steps + 2):
            began = now()
            batch = next(passes)
            drawn = now()
            fabric.backward(batch.step(wrapped, config).loss)
            backward = now()
            wrapped_optimizer.step()
            wrapped_optimizer.zero_grad()
            marks.append((began, drawn, *forward[-2:], backward, now()))
    kept = torch.tensor(marks[2:], dtype=torch.float64).diff(dim=1).mean(dim=0).tolist()
    names = [part.name for part in fields(StepSeconds)]
    # With parts, a step is that many passes and one update; one more update is negligible.
    return StepSeconds(**{name: value * config.accumulate for name, value in zip(names, kept, strict=True)})
