"""The tables of docs/performance.md: what other scripts here measured. `study_report.py` writes them."""

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from filterbands.corruptions import CORRUPTIONS

RESULTS = Path(__file__).parents[1] / "results"


def read(name: str) -> Any:
    """Return what results/NAME.json holds."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Return Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def analysis() -> str:
    """Return what analyzing and logging cost."""
    found = read("analyze_speed")
    network, logger = found["resnet50"], found["logger"]
    rows = [
        ["`analyze`, first call", f"{network['first_seconds']:.2f} s"],
        ["`analyze`, later calls", f"{network['seconds']:.2f} s"],
        ["memory before the call", f"{network['megabytes_before']} MB"],
        ["memory, at most", f"{network['megabytes']} MB"],
    ]
    for which, name in (("first", "the first layer"), ("all", "all layers")):
        record = logger[which]
        told = (
            f"{1000 * record['record_seconds']:.1f} ms, {100 * record['share_of_a_step']:.3f} % of training"
        )
        rows.append([f"one record of `SpectrumLogger`, {name}", told])
    return table(["what", "cost"], rows)


def heat_map() -> str:
    """Return the seconds of a map, and how many times as long the loop takes."""
    found = read("heatmap_speed")["seconds"]
    names = {
        "ours": "the map",
        "ours compiled in float32": "the map, compiled",
        "ours in bfloat16": "the map in bfloat16",
        "ours compiled in bfloat16": "the map in bfloat16, compiled",
        "bare": "bare forward passes, float32",
        "loop": "the loop, float32",
    }
    rows = [
        [told, f"{found[name]:.0f}", f"{found['loop'] / found[name]:.1f}"] for name, told in names.items()
    ]
    return table(["", "seconds", "the loop takes, times as long"], rows)


def evaluation() -> str:
    """Return the seconds of an evaluation and of its parts."""
    names = {
        "making": "making the corrupted images",
        "inference": "the network alone, as often",
        "evaluate": "`evaluate`",
        "scores with intervals": "scores with their intervals",
    }
    found = read("evaluate_speed")["seconds"]
    return table(["", "seconds"], [[told, f"{found[name]:.1f}"] for name, told in names.items()])


def training() -> str:
    """Return images per second compared with a plain loop, and the parts of a step."""
    rows = []
    for arch, found in read("training_speed").items():
        shares = [
            f"{100 * found['shares_of_a_step'][part]:.0f} %"
            for part in ("data", "forward", "backward", "update")
        ]
        speeds = [f"{found[name]:,.0f}" for name in ("images_per_second", "plain_loop_images_per_second")]
        rows.append([f"`{arch}`", *speeds, f"{found['ratio']:.2f}", *shares])
    heads = ["network", "images/s", "plain loop", "times as fast", "data", "forward", "backward", "update"]
    return table(heads, rows)


def precision() -> str:
    """Return how long a step takes in bfloat16 relative to float32, on every processor that was measured."""
    lines = (RESULTS / "precision.jsonl").read_text().splitlines()
    rows = [
        [
            f"{line['device']}, {line['capability']}, {line['threads']} threads, {line['date']}",
            f"`{line['auto']}`",
            *(f"{found['ratio']:.2f}" for found in line["networks"].values()),
        ]
        for line in map(json.loads, lines)
    ]
    networks = [f"`{name}`" for name in json.loads(lines[0])["networks"]]
    return table(["processor", "`auto` is", *networks], rows)


def methods() -> str:
    """Return what a step of each method costs."""
    seconds = read("augmentation_cost")["seconds"]
    rows = []
    for name, one in seconds.items():
        step = [f"{1000 * one['augmentation']:.0f}", f"{1000 * one['total']:.0f}"]
        share = f"{100 * one['augmentation'] / one['total']:.1f} %"
        rows.append([f"`{name}`", *step, share, f"{one['total'] / seconds['standard']['total']:.2f}"])
    return table(["method", "augmentation, ms", "step, ms", "its share", "step / `standard`"], rows)


def controls() -> str:
    """Return what a control of the first layer adds to a training step, and the middle half of the rounds."""
    steps = read("modulation_overhead")["steps"]
    by_arch: dict[str, dict[str, Any]] = {}
    for step in steps:
        by_arch.setdefault(step["arch"], {})[step["first_layer"]] = step
    heads = [f"`{arch}`, {layers['plain']['milliseconds']:.0f} ms" for arch, layers in by_arch.items()]
    rows = []
    for layer in dict.fromkeys(step["first_layer"] for step in steps if step["first_layer"] != "plain"):
        found = [layers[layer] for layers in by_arch.values()]
        ends = [one["middle_half"] for one in found]
        cells = [
            f"{one['overhead_percent']:+.1f} % ({low:+.1f} to {high:+.1f})"
            for one, (low, high) in zip(found, ends, strict=True)
        ]
        rows.append([f"`{layer}`", *cells])
    return table(["first layer", *heads], rows)


def budgets() -> str:
    """Return the minutes of the recipes that have a budget."""
    lines = [
        json.loads(text)
        for name in ("budget_study", "budget_resnet20_study")
        for text in (RESULTS / f"{name}.jsonl").open()
    ]
    rows = []
    for name in dict.fromkeys(line["recipe"] for line in lines):
        group = [line for line in lines if line["recipe"] == name]
        clean = [100 * line["clean"] for line in group]
        minutes = sorted(line["seconds"] / 60 for line in group)
        spread = f" ± {stdev(clean):.2f}" if len(clean) > 1 else ""
        told = ", ".join(f"{each:.1f}" for each in minutes)
        first = group[0]
        rows.append(
            [
                f"`{name}`",
                f"`{first['arch']}`",
                f"{first['epochs']}",
                f"{len(group)}",
                f"{mean(clean):.2f}{spread}",
                told,
            ]
        )
    return table(["recipe", "network", "epochs", "seeds", "clean accuracy, %", "minutes of each run"], rows)


def kinds(which: str) -> str:
    """Return the milliseconds that 1,000 images take under each kind, mean over severities."""
    found = read("corruptions_speed")[which]["ms_per_image"]
    rows = [
        [f"`{kind}`", CORRUPTIONS[kind].family, f"{1000 * mean(times):.0f}"] for kind, times in found.items()
    ]
    return table(["kind", "family", "ms per 1,000 images"], rows)


def sets() -> str:
    """Return what whole sets of corruptions cost."""
    found = read("corruptions_speed")
    rows = []
    for which, name in (("c-32", "19 kinds of CIFAR-10-C"), ("cbar-32", "10 kinds of C-bar")):
        one = found[which]
        seconds = [
            one["core_seconds_of_10000"],
            one["command_seconds"]["all"],
            one["command_seconds"]["1000"],
        ]
        rows.append([name, *(f"{each:.1f}" for each in seconds), f"{one['peak_gib']:.2f} GiB"])
    heads = [
        "set, 5 severities",
        "10,000 images, one core, s",
        "the command, two cores, s",
        "the command, 1,000 images, s",
    ]
    return table([*heads, "memory, at most"], rows)


def peers() -> str:
    """Return how many times as long packages take that make one image at a time."""
    found = read("corruptions_speed")
    packages = list(found["c-32"]["ratios"])
    small, large = (
        [found[which]["ratios"][name]["times"] for name in packages] for which in ("c-32", "c-224")
    )
    # The command's share of one image at one severity of one kind, in ms: 10,000 images, 95 cells.
    one = found["c-32"]["command_seconds"]["all"] / (10 * 95)
    command = [
        mean(each for times in found["c-32"]["peers"][name].values() for each in times) / one
        for name in packages
    ]
    as_run = [found["c-224"]["as_run"][name] for name in packages]
    rows: list[tuple[str, list[float]]] = [
        ("32 pixels, the same constants (ImageNet-C's, their only ones), one core each", small),
        ("224 pixels, the same constants, one core each", large),
        ("32 pixels, the command with CIFAR-10-C's constants on two cores, files written", command),
        ("224 pixels, the command on two cores, 128 images, files written", as_run),
    ]
    return table(["", *packages], [[name, *(f"{each:.1f}" for each in ratios)] for name, ratios in rows])


def torture() -> str:
    """Return the tries and failures of the last run of every attack, and of all runs that are kept."""
    runs = read("torture")
    last = next(run for run in reversed(runs) if len(run["attacks"]) == max(len(r["attacks"]) for r in runs))
    rows = []
    for one in last["attacks"]:
        same = [other for run in runs for other in run["attacks"] if other["name"] == one["name"]]
        tries, failures = (sum(other[what] for other in same) for what in ("tries", "failures"))
        made = f"{one['tries']:,}" if one["tries"] else "not run"
        rows.append([one["name"], made, str(one["failures"]), f"{tries:,}", str(failures)])
    heads = ["attack", "tries", "failures", "tries, all runs", "failures, all runs"]
    facts = (
        f"The last whole run: {last['date']}, revision {last['git']}, seed {last['seed']}, {last['minutes']} "
        f"minutes on {last['cores']} cores of {last['processor']}; Python {last['python']}, torch "
        f"{last['torch']}, {last['system']}. All {len(runs)} runs are in `results/torture.json`."
    )
    return table(heads, rows) + f"\n\n<small>{facts}</small>"
