"""Which control of the first layer's filters, or perturbation of spectra, buys robustness, and at what price?

Trains every arm on CIFAR-10's `train` split and scores it on `validation`, clean and under the four extra
kinds of corruption. The 15 benchmark kinds are not looked at. A line a finished network is appended to
results/control_study.jsonl; a rerun skips what is there and goes on with a training that was stopped.
When everything is chosen, `--benchmark` scores the networks named, once, on the test images under the 15.

    python benchmarks/control_study.py --data cifar10:DIR                      the 8 arms, seeds 0, 1, 2
    python benchmarks/control_study.py --data cifar10:DIR --arms variants      one seed each
    python benchmarks/control_study.py --data cifar10:DIR --arms white_0.04 --seeds 0
    python benchmarks/control_study.py --data cifar10:DIR --arms standard,both --epochs 40 --set ema=0.995
    python benchmarks/control_study.py --data cifar10:DIR --arms standard,both --benchmark
    python benchmarks/control_study.py --table
    python benchmarks/control_study.py --match both      the white noise that costs as much clean accuracy
    python benchmarks/control_study.py --chart docs/images/control.png
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import altair as alt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from filterbands.control import bake, equal_gain_blur, recalibrate, set_share
from filterbands.datasets import ImageSet, load_data
from filterbands.engine import set_threads
from filterbands.evaluation import EvaluateConfig, evaluate
from filterbands.filters import analyze
from filterbands.models import load_model, read_weights
from filterbands.report.style import GRID, INK, MUTED, RUN_COLORS
from filterbands.run import Run
from filterbands.scores import BENCHMARK_15, student_interval
from filterbands.training import RECIPES, TrainConfig, train, with_settings
from filterbands.version import git_revision

RESULTS = Path(__file__).parents[1] / "results" / "control_study.jsonl"
BENCHMARK = RESULTS.with_name("control_benchmark.jsonl")
KINDS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "extra_4": {"speckle": KINDS[:1], "blur": KINDS[1:2], "spatter": KINDS[2:3], "saturate": KINDS[3:]},
    "average_15": {
        "noise": BENCHMARK_15[:3],
        "blur": BENCHMARK_15[3:7],
        "weather": BENCHMARK_15[7:11],
        "digital": BENCHMARK_15[11:],
        "all but noise": BENCHMARK_15[3:],
    },
}
"""The columns of an average's table."""
CLEAN = "spectral.clean=0.4"
BOTH = ("spectral.strength=1", "spectral.gain=1", "spectral.noise=0.06", CLEAN)
TEMPERED = ("spectral.strength=0.5", "spectral.gain=0.5", "spectral.noise=0.03", CLEAN)
EIGEN = ("modulate.on=true", "modulate.bands=eigen")
# The chart: its size in pixels, the size of names and where they may stand.
_WIDTH, _HEIGHT = 640, 460
_TEXT = 11
_SIDES = (
    ("left", 8, -7),
    ("center", 0, -13),
    ("center", 0, 13),
    ("right", -8, -7),
    ("left", 8, 9),
    ("right", -8, 9),
)
# Images from which the blur of equal noise gain is solved.
BLUR_IMAGES = 2000

ARMS: Mapping[str, tuple[str, ...]] = {
    "standard": (),
    "share_low": ("share.low=1",),
    "share_high": ("share.low=0",),
    "blur": ("blur=solved",),
    "modulate": ("modulate.on=true",),
    "multiplicative": ("spectral.strength=1", "spectral.gain=1", CLEAN),
    "additive": ("spectral.noise=0.06", CLEAN),
    "both": BOTH,
}
"""The arms of the study, and what each changes in standard training."""

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "both_tempered": TEMPERED,
    "both_clean_0.7": (*BOTH, "spectral.clean=0.7"),
    "both_mild": (*TEMPERED, "spectral.clean=0.7"),
    "modulate_both": (*BOTH, "modulate.on=true"),
    "share_low_both": (*BOTH, "share.low=1"),
    "white_0.1": ("white_noise=0.1",),
    "modulate_eigen": EIGEN,
    "modulate_eigen_both": (*BOTH, *EIGEN),
    "share_random": ("share.low=1", "share.random=true"),
    "share_low_fixed": ("share.low=1", "share.fixed=true"),
    "projected": (),
    "finetuned": (),
}
"""Further variants, one seed each. The last two come from the standard network: the first layer made low
without training, and the recipe `finetune` after it."""


def settings_of(arm: str) -> tuple[str, ...]:
    """Return what an arm changes; `white_X` is Gaussian noise of that standard deviation."""
    known = {**ARMS, **VARIANTS}
    if arm in known:
        return known[arm]
    if arm.startswith("white_"):
        return (f"white_noise={arm.removeprefix('white_')}",)
    raise SystemExit(f"unknown arm {arm!r}; known are {', '.join(known)} and white_X")


def config_of(arm: str, seed: int, given: argparse.Namespace) -> TrainConfig:
    """Return the training of an arm."""
    settings = list(settings_of(arm))
    if "blur=solved" in settings:
        images = load_data(given.data, split="train")
        side = equal_gain_blur(images.subset(torch.arange(min(BLUR_IMAGES, len(images)))))
        settings = [f"blur={side:.6g}"]
    base = replace(
        RECIPES["standard"](),
        recipe="standard" if arm == "projected" else arm,
        arch=given.arch,
        data=given.data,
        split="train",
        epochs=given.epochs,
        seed=seed,
    )
    if arm == "finetuned":
        recipe = RECIPES["finetune"]()
        init = folder_of(config_of("standard", seed, given), given)
        base = replace(
            recipe, recipe=arm, arch=base.arch, data=base.data, split="train", seed=seed, init=str(init)
        )
    return with_settings(base, [*given.set, *settings])


def folder_of(config: TrainConfig, given: argparse.Namespace) -> Path:
    """Return where a training lies."""
    changed = "".join(f"-{setting}" for setting in given.set)
    return Path(given.runs) / f"{config.recipe}-{config.arch}-{given.epochs}{changed}-{config.seed}"


def network_of(run: Run, arch: str) -> nn.Module:
    """Return a run's plain network, with a wider first layer where a blur was folded into it."""
    weights = read_weights(run.weights)
    model = load_model(arch=arch, classes=len(weights["linear.weight"]))
    wide, layer = weights["conv1.weight"], model.get_submodule("conv1")
    if wide.shape[2:] != layer.weight.shape[2:]:
        side = wide.shape[2]
        model.conv1 = nn.Conv2d(wide.shape[1], wide.shape[0], side, padding=side // 2, bias=False)
    model.load_state_dict(weights)
    return model.eval()


def projected(model: nn.Module, data: ImageSet) -> nn.Module:
    """Return the trained network, its first layer projected to low and its batch norms recomputed."""
    set_share(model.get_submodule("conv1"), low=1.0, seed=None)
    bake(model.eval())
    recalibrate(augmented(data), model)
    return model


def augmented(data: ImageSet) -> Iterator[Tensor]:
    """Yield the images once, flipped and shifted as in training."""
    torch.manual_seed(0)
    for part in torch.randperm(len(data)).split(256):
        images = F.pad(data.images[part].float() / 255, (4, 4, 4, 4), mode="reflect")
        down, right = torch.randint(0, 9, (2,)).tolist()
        images = images[:, :, down : down + data.images.shape[2], right : right + data.images.shape[3]]
        yield images.flip(3) if torch.rand(()) < 0.5 else images


def run_arm(arm: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Train, or go on with, one network, score it and return its line.

    With `--benchmark` it is scored on the test images under the 15 kinds.
    """
    config = config_of(arm, seed, given)
    folder = folder_of(config, given)
    run = train(config, folder, resume=folder.exists(), threads=given.threads)
    described = run.read()
    model = network_of(run, config.arch)
    if arm == "projected":
        model = projected(model, load_data(given.data, split="train"))
    split, kinds = ("test", BENCHMARK_15) if given.benchmark else ("validation", KINDS)
    data = load_data(given.data, split=split, limit=given.images or None)
    settings = EvaluateConfig(name=f"{arm}-{seed}", kinds=kinds, precision=given.precision)
    scores = evaluate(model, data, config=settings).to_json()
    average = mean(mean(scores["kinds"][kind]) for kind in kinds)
    layer = next(iter(analyze(model)))
    return {
        "arm": arm,
        "set": list(given.set),
        "arch": config.arch,
        "data": given.data.partition(":")[0],
        "split": "train",
        "scored_on": split,
        "seed": seed,
        "epochs": given.epochs,
        "images": scores["images"],
        "precision": given.precision,
        "clean": scores["clean"]["accuracy"],
        "average_15" if given.benchmark else "extra_4": average,
        "kinds": {kind: scores["kinds"][kind] for kind in kinds},
        "low_share": layer.low_share,
        "mean_low_energy": layer.mean_low_energy,
        "seconds": round(described["seconds"], 1),
        "cpu_seconds": round(described["cpu_seconds"], 1),
        "threads": described["threads"],
        "device": described["device"],
        "git": described["git"],
        "scored_by": git_revision(),
        "config": {
            **described["config"],
            "data": given.data.partition(":")[0],
            "init": Path(described["config"]["init"]).name,
        },
    }


def table(lines: list[dict[str, Any]]) -> str:
    """Return the lines as Markdown: percent, mean ± standard deviation over seeds, and gains seed by seed.

    Gains over standard training of the same seed have Student's 95 % interval.
    """
    averaged = "average_15" if "average_15" in lines[0] else "extra_4"
    of = averaged.rpartition("_")[2] + " kinds"
    groups = GROUPS[averaged]
    heads = ["arm", "epochs", "seeds", "clean", of, "gain clean", f"gain {of}", *groups, "mean low energy"]
    rows = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    # In the study's order; other arms, which it does not list, come last.
    order = {arm: place for place, arm in enumerate((*ARMS, *VARIANTS))}
    names = {(*_setting(line), line["arm"]) for line in lines}
    for *setting, arm in sorted(names, key=lambda name: (*name[:3], order.get(name[3], len(order)), name[3])):
        here = [line for line in lines if list(_setting(line)) == setting]
        group = [line for line in here if line["arm"] == arm]
        standard = {line["seed"]: line for line in here if line["arm"] == "standard"}
        cells = [_text([line[name] for line in group]) for name in ("clean", averaged)]
        paired = [line for line in group if line["seed"] in standard]
        for name in ("clean", averaged):
            gains = [line[name] - standard[line["seed"]][name] for line in paired]
            cells.append("" if arm == "standard" else _text(gains, sign=True))
        for kinds in groups.values():
            cells.append(_text([mean(mean(line["kinds"][kind]) for kind in kinds) for line in group]))
        energy = mean(line["mean_low_energy"] for line in group)
        name, epochs = " ".join((arm, *setting[2])), setting[1]
        rows.append(f"| {name} | {epochs} | {len(group)} | {' | '.join(cells)} | {energy:.3f} |")
    return "\n".join(rows)


def chart(lines: list[dict[str, Any]]) -> alt.LayerChart:
    """Return what each arm gains and costs beside standard training, in points, whiskers over seeds.

    Without `finetuned`, which had more epochs.
    """
    here = [line for line in lines if _setting(line) == _setting(lines[0])]
    standard = {line["seed"]: line for line in here if line["arm"] == "standard"}
    rows = []
    arms = dict.fromkeys(line["arm"] for line in here)
    for arm in [arm for arm in arms if arm not in ("standard", "finetuned")]:
        group = [line for line in here if line["arm"] == arm and line["seed"] in standard]
        row: dict[str, Any] = {"arm": arm, "of": _family(arm)}
        for name, to in (("clean", "x"), ("extra_4", "y")):
            gains = [100 * (line[name] - standard[line["seed"]][name]) for line in group]
            low, high = student_interval(gains) if len(gains) > 1 else (gains[0], gains[0])
            row |= {to: mean(gains), f"{to}_low": low, f"{to}_high": high}
        rows.append(row)
    base = alt.Chart(alt.Data(values=rows))
    x_ends, y_ends = (_domain(rows, to, step) for to, step in (("x", 0.5), ("y", 2.0)))
    titles = ("gain in clean accuracy, points", "gain under four kinds of corruption, points")
    x = alt.X("x:Q", title=titles[0]).scale(domain=x_ends)
    y = alt.Y("y:Q", title=titles[1]).scale(domain=y_ends)
    families = dict.fromkeys(row["of"] for row in rows)
    colour = (
        alt.Color("of:N", title=None, sort=list(families))
        .scale(range=[light for light, _ in RUN_COLORS])
        .legend(orient="bottom", labelLimit=400, symbolOpacity=1)
    )
    rule = base.mark_rule(opacity=0.4)
    across = rule.encode(x=alt.X("x_low:Q", title=titles[0]), x2="x_high:Q", y=y, color=colour)
    upright = rule.encode(x=x, y=alt.Y("y_low:Q", title=titles[1]), y2="y_high:Q", color=colour)
    points = base.mark_point(filled=True, size=70, opacity=1).encode(x=x, y=y, color=colour)
    places = _places([(row["arm"], row["x"], row["y"]) for row in rows], x_ends, y_ends)
    names = [
        alt.Chart(alt.Data(values=[row for row, place in zip(rows, places, strict=True) if place == at]))
        .mark_text(align=align, dx=right, dy=down, fontSize=_TEXT, color=INK[0])
        .encode(x=x, y=y, text="arm:N")
        for at, (align, right, down) in enumerate(_SIDES)
    ]
    zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(color=MUTED[0], strokeDash=[3, 3])
    lines_of_zero = (zero.encode(x="zero:Q"), zero.encode(y="zero:Q"))
    layers = alt.layer(*lines_of_zero, across, upright, points, *names)
    return layers.properties(width=_WIDTH, height=_HEIGHT).configure_axis(gridColor=GRID[0])


def _domain(rows: list[dict[str, Any]], to: str, step: float) -> tuple[float, float]:
    """Return the ends of an axis, whole steps that hold every point and whisker."""
    low, high = min(row[f"{to}_low"] for row in rows), max(row[f"{to}_high"] for row in rows)
    return step * math.floor(low / step), step * math.ceil(high / step)


def _places(
    points: list[tuple[str, float, float]], x_ends: tuple[float, float], y_ends: tuple[float, float]
) -> list[int]:
    """Return beside which side of its point each name stands, so that few cover points or other names."""
    across, up = _WIDTH / (x_ends[1] - x_ends[0]), _HEIGHT / (y_ends[1] - y_ends[0])
    dots = [(x * across, -y * up) for _, x, y in points]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in dots]
    places = []
    for (name, _, _), (x, y) in zip(points, dots, strict=True):
        boxes = []
        for align, right, down in _SIDES:
            wide = 0.55 * _TEXT * len(name)
            left = x + right - {"left": 0, "center": wide / 2, "right": wide}[align]
            boxes.append((left, y + down - _TEXT / 2, left + wide, y + down + _TEXT / 2))
        covered = [sum(_overlap(box, other) for other in taken) for box in boxes]
        places.append(covered.index(min(covered)))
        taken.append(boxes[places[-1]])
    return places


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Return the area that two boxes (left, top, right, bottom) share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0) * max(high, 0)


def _family(arm: str) -> str:
    """Return what an arm acts on."""
    if arm.startswith("white_"):
        return "white noise on the images"
    acts = settings_of(arm)
    on_images = any(setting.startswith("spectral.") for setting in acts)
    on_filters = any(setting.startswith(("share.", "modulate.")) for setting in acts) or arm == "projected"
    if on_images and on_filters:
        return "filters and spectra"
    return "spectra of the images" if on_images else "filters of the first layer" if on_filters else "blur"


def _setting(line: dict[str, Any]) -> tuple[str, int, tuple[str, ...]]:
    """Return what lines share that are compared: the network, the budget and what was changed in all arms."""
    return line["arch"], line["epochs"], tuple(line.get("set", ()))


def _text(shares: list[float], *, sign: bool = False) -> str:
    values = [100 * share for share in shares]
    if not values:
        return "not measured"
    text = f"{mean(values):+.2f}" if sign else f"{mean(values):.2f}"
    if len(values) == 1:
        return text
    if sign:
        return "{} ({:+.2f} to {:+.2f})".format(text, *student_interval(values))
    return f"{text} ± {stdev(values):.2f}"


def matched(lines: list[dict[str, Any]], arm: str) -> str:
    """Return the sigma of white noise whose clean accuracy is an arm's, between the sigmas that were run.

    Of the seeds that both the arm and the noises have, at the first setting in the lines.
    """
    lines = [line for line in lines if _setting(line) == _setting(lines[0])]
    seeds = {line["seed"] for line in lines if line["arm"].startswith("white_")}
    lines = [line for line in lines if line["seed"] in seeds]
    clean = {
        name: mean(line["clean"] for line in lines if line["arm"] == name)
        for name in {line["arm"] for line in lines}
    }
    if arm not in clean or "standard" not in clean:
        raise SystemExit(f"--match needs lines of standard and of {arm!r}")
    known = {float(name.removeprefix("white_")): clean[name] for name in clean if name.startswith("white_")}
    points = sorted({0.0: clean["standard"], **known}.items())
    for (low, at_low), (high, at_high) in pairwise(points):
        if at_low >= clean[arm] >= at_high and at_low > at_high:
            sigma = low + (high - low) * (at_low - clean[arm]) / (at_low - at_high)
            return f"{arm}: clean {100 * clean[arm]:.2f} %, white noise of sigma {sigma:.3f} costs as much"
    return f"{arm}: clean {100 * clean[arm]:.2f} % is beyond the white noise that was run; run a larger sigma"


def main() -> None:
    """Run the networks that are missing, one at a time, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--arch", default="cifar_resnet18_narrow")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--arms", default="arms", help="arms, variants, or names separated by commas")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="in every arm")
    parser.add_argument("--seeds", default="", help="0,1,2 for the arms and 0 for variants by default")
    parser.add_argument("--images", type=int, default=0, help="score the first N images; 0 for all")
    parser.add_argument("--precision", default="float32", help="of scoring; float32 or bfloat16")
    parser.add_argument("--runs", default="runs/control_study")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--benchmark", action="store_true", help="score on the test images under the 15 kinds"
    )
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    parser.add_argument("--match", default="", metavar="ARM", help="only say which white noise costs as much")
    parser.add_argument("--chart", default="", metavar="FILE", help="only draw the arms that the table has")
    given = parser.parse_args()
    set_threads(given.threads)
    results = given.results or (BENCHMARK if given.benchmark else RESULTS)
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if given.match:
        print(matched(lines, given.match))
        return
    if given.chart:
        chart(lines).save(given.chart, scale_factor=2)
        # A handful of colours, so that the file is small.
        Image.open(given.chart).convert("RGB").quantize(64).save(given.chart, optimize=True)
        return
    groups = {"arms": tuple(ARMS), "variants": tuple(VARIANTS)}
    arms = groups.get(given.arms, tuple(given.arms.split(",")))
    seeds = given.seeds or ("0,1,2" if given.arms == "arms" else "0")
    for arm in arms:
        settings_of(arm)
    # Seed by seed, so that a study that is stopped early has every arm.
    for seed in [] if given.table else map(int, seeds.split(",")):
        for arm in arms:
            wanted = ((given.arch, given.epochs, tuple(given.set)), arm, seed)
            if any((_setting(line), line["arm"], line["seed"]) == wanted for line in lines):
                continue
            lines.append(run_arm(arm, seed, given))
            with results.open("a") as stream:
                stream.write(json.dumps(lines[-1]) + "\n")
            print(f"{arm} {seed}: clean {100 * lines[-1]['clean']:.2f} %", flush=True)
    print(table(lines) if lines else f"{results}: nothing measured yet")


if __name__ == "__main__":
    main()
