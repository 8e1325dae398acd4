"""Published CIFAR-10-C results, each with its source, and the rank of a run among them.

Accuracies on CIFAR-10-C are over 15 or 19 kinds. Networks have several sizes and training costs of one to six
times the standard cost. Some training data resemble the benchmark; a row says so if its source does.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

from .conditions import images_per_cell
from .scores import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The published accuracy of one network on CIFAR-10-C, five severities of each kind."""

    method: str
    """Training method."""
    architecture: str
    """Architecture of the network."""
    clean: float | None
    """Accuracy on the clean test images, in [0, 1]; None if the source does not give it."""
    corrupted: float
    """Average accuracy on corrupted images, in [0, 1]."""
    source: str
    """Source of the numbers."""
    recipe: str = "not stated"
    """Known facts about the training, and what it shares with the benchmark."""
    kinds: int = 15
    """Number of kinds in the average: 15 or 19."""
    more_data: bool = False
    """Whether the training used more images than those of CIFAR-10."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The rank of a run among published networks."""

    rows: tuple[Published, ...]
    """The published networks over the same number of kinds, best first."""
    kinds: int
    """Number of kinds in the average."""
    corrupted: float
    """Average of the run, in [0, 1]."""
    above: int
    """Number of rows below the run."""
    caution: tuple[str, ...]
    """Differences that limit the comparison."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "kinds": self.kinds,
            "above": self.above,
            "rows": len(self.rows),
            "nearest": [asdict(row) for row in self.nearest()],
            "caution": list(self.caution),
        }

    def nearest(self) -> tuple[Published, ...]:
        """Return the two rows above the run and the two below it."""
        below = len(self.rows) - self.above
        return self.rows[max(0, below - 2) : below + 2]

    def __str__(self) -> str:
        lines = [
            f"above {self.above} of {len(self.rows)} published networks over {self.kinds} kinds; the nearest:"
        ]
        rows = [(self.corrupted, "this network")]
        for row in self.nearest():
            clean = "clean unknown" if row.clean is None else f"clean {100 * row.clean:.2f} %"
            rows.append((row.corrupted, f"{row.method}, {row.architecture}, {clean}"))
        rows.sort(key=itemgetter(0), reverse=True)
        lines += [f"  {100 * corrupted:6.2f} %  {what}" for corrupted, what in rows]
        lines += [f"  not fully comparable: {caution}" for caution in self.caution]
        return "\n".join(lines)


_ROBUSTBENCH = "github.com/RobustBench/robustbench, model_info/cifar10/corruptions, March 2025"
_KIREEV = (
    "Kireev et al. 2022, arXiv:2103.02325; github.com/tml-epfl/adv-training-corruptions, "
    "full_evaluation_results/cifar10"
)
_HYBRID = "Yucel et al. 2023, arXiv:2307.11823, tables"
_APR = "Chen et al. 2021, arXiv:2108.08487"
_PRIME = "Modas et al. 2022, arXiv:2112.13547, table of CIFAR-10"
_AUGMIX = "a re-implementation: github.com/MTandHJ/PyTorch-Robust, results"
_SIEDEL = "github.com/Georgsiedel/robust_image_classification, results, 3 seeds"
_PUSH = "Strisciuglio et al. 2020, Neural Computing and Applications; results of the authors' repository"


_COLUMNS = ("method", "architecture", "clean", "corrupted", "source", "recipe", "kinds", "more_data")
# Percentages, as sources print them.
_ROWS: tuple[tuple[Any, ...], ...] = (
    ("standard", "PreActResNet-18", None, 74.65, _KIREEV),
    ("Gaussian noise on half of the images", "PreActResNet-18", 93.24, 85.04, _ROBUSTBENCH,
     "sigma 0.1; it is a noise of the benchmark; arXiv:2103.02325"),
    ("Gaussian noise on all images", "PreActResNet-18", None, 80.46, _KIREEV,
     "sigma 0.05; it is a noise of the benchmark"),
    ("AugMix without JSD", "PreActResNet-18", 94.97, 86.60, _ROBUSTBENCH, "arXiv:2103.02325"),
    ("RLAT", "PreActResNet-18", 93.10, 84.10, _ROBUSTBENCH,
     "adversarial in LPIPS, radius 0.08; arXiv:2103.02325"),
    ("RLAT and AugMix without JSD", "PreActResNet-18", 94.77, 88.53, _ROBUSTBENCH, "arXiv:2103.02325"),
    ("RLAT and AugMix", "ResNet-18", 94.75, 89.60, _ROBUSTBENCH, "with JSD, three views; arXiv:2103.02325"),
    ("RLAT and DeepAugment", "PreActResNet-18", None, 87.84, _KIREEV),
    ("DeepAugment", "PreActResNet-18", None, 85.33, _KIREEV),
    ("adversarial, l2, radius 0.1", "PreActResNet-18", None, 83.40, _KIREEV),
    ("adversarial, linf, radius 1/255", "PreActResNet-18", None, 82.67, _KIREEV),
    ("gradient regularization", "PreActResNet-18", None, 78.35, _KIREEV),
    ("Fast PAT", "PreActResNet-18", None, 80.55, _KIREEV),
    ("APR-S", "ResNet-18", 95.6, 90.1, _APR, "200 epochs, two views of summed loss"),
    ("APR-P", "ResNet-18", 94.9, 83.0, _APR, "200 epochs, two views of summed loss"),
    ("APR-SP", "ResNet-18", 95.0, 90.9, _APR, "200 epochs, two views of summed loss"),
    ("standard", "ResNet-18", 92.2, 74.6, _HYBRID, "a weak base"),
    ("HybridAugment S", "ResNet-18", 95.5, 87.8, _HYBRID),
    ("HybridAugment++ S", "ResNet-18", 95.6, 90.7, _HYBRID),
    ("HybridAugment P", "ResNet-18", 90.9, 81.7, _HYBRID),
    ("HybridAugment++ P", "ResNet-18", 89.7, 84.8, _HYBRID),
    ("RFC", "ResNet-18", 91.7, 80.4, _HYBRID),
    ("APR-P and HybridAugment++ S", "ResNet-18", 95.4, 91.5, _HYBRID),
    ("HybridAugment++ P and APR-S", "ResNet-18", 95.0, 91.4, _HYBRID),
    ("HybridAugment++ P and HybridAugment S", "ResNet-18", 95.1, 91.6, _HYBRID),
    ("HybridAugment++ PS", "ResNet-18", 95.0, 91.8, _HYBRID),
    ("standard", "ResNet-18", 95.0, 74.0, _PRIME),
    ("AugMix", "ResNet-18", 95.2, 88.6, _PRIME),
    ("PRIME", "ResNet-18", 93.06, 89.05, _ROBUSTBENCH, "100 epochs, JSD, three views; arXiv:2112.13547"),
    ("AugMix", "ResNet-18", 95.69, 87.74, _AUGMIX, "200 epochs, JSD, three views"),
    ("AugMix without JSD", "ResNet-18", 95.50, 85.67, _AUGMIX, "200 epochs"),
    ("AugMix", "ResNet-18", 95.69, 88.48, _AUGMIX, "200 epochs, JSD, three views", 19),
    ("AugMix without JSD", "ResNet-18", 95.50, 86.54, _AUGMIX, "200 epochs", 19),
    ("Mixup", "ResNet-18", 95.86, 79.47, _AUGMIX, "200 epochs"),
    ("Cutout", "ResNet-18", 96.09, 74.12, _AUGMIX, "200 epochs"),
    ("TrivialAugment", "WideResNet-28-4", 96.68, 86.63, _SIEDEL,
     "200 epochs, label smoothing 0.1, averaged weights"),
    ("TrivialAugment and style transfer", "WideResNet-28-4", 96.60, 89.89, _SIEDEL,
     "200 epochs, label smoothing 0.1, averaged weights; styles of other pictures", 15, True),
    ("standard", "WideResNet-28-10", 94.78, 73.46, _ROBUSTBENCH),
    ("AugMix", "ResNeXt-29-32x4d", 95.83, 89.09, _ROBUSTBENCH, "with JSD; arXiv:1912.02781"),
    ("AugMix", "WideResNet-40-2", 95.08, 88.82, _ROBUSTBENCH, "with JSD; arXiv:1912.02781"),
    ("NoisyMix", "WideResNet-28-4", 96.73, 92.78, _ROBUSTBENCH,
     "AugMix, JSD, mixup and noise on features, which resembles the benchmark's; arXiv:2202.01263"),
    ("pruned (LRR), AugMix", "WideResNet-18-2", 96.66, 90.94, _ROBUSTBENCH,
     "95 % of the weights pruned; arXiv:2106.09129"),
    ("pruned (LRR), AugMix, an ensemble", "WideResNet-18-2", 96.56, 92.78, _ROBUSTBENCH,
     "several networks, 95 % of the weights pruned; arXiv:2106.09129"),
    ("binary, AugMix", "WideResNet-18-2", 94.87, 88.32, _ROBUSTBENCH,
     "95 % of the weights pruned; arXiv:2106.09129"),
    ("binary, AugMix, an ensemble", "WideResNet-18-2", 95.09, 90.15, _ROBUSTBENCH,
     "several networks, 95 % of the weights pruned; arXiv:2106.09129"),
    ("AdA", "ResNet-50", 94.93, 92.17, _ROBUSTBENCH,
     "adversarial corruptions of networks trained on other images; arXiv:2104.01086", 15, True),
    ("adversarial, l2, radius 0.5", "WideResNet-70-16", 90.90, 84.90, _ROBUSTBENCH, "arXiv:2010.03593"),
    ("adversarial, linf, radius 8/255", "WideResNet-70-16", 85.29, 76.37, _ROBUSTBENCH, "arXiv:2010.03593"),
    ("adversarial, l2, radius 0.5, more images", "WideResNet-70-16", 94.74, 87.68, _ROBUSTBENCH,
     "arXiv:2010.03593", 15, True),
    ("adversarial, linf, radius 8/255, more images", "WideResNet-70-16", 91.10, 81.84, _ROBUSTBENCH,
     "arXiv:2010.03593", 15, True),
    ("adversarial, l2, radius 0.5, CutMix", "WideResNet-70-16", 95.74, 88.23, _ROBUSTBENCH,
     "arXiv:2103.01946", 15, True),
    ("adversarial, linf, radius 8/255, CutMix", "WideResNet-70-16", 92.23, 82.82, _ROBUSTBENCH,
     "arXiv:2103.01946", 15, True),
    ("adversarial, augmented", "WideResNet-34-10", 88.71, 80.12, _ROBUSTBENCH, "arXiv:2210.15318"),
    ("adversarial, large bounds", "WideResNet-34-10", 85.32, 76.78, _ROBUSTBENCH, "arXiv:2210.09852"),
    ("standard", "ResNet-20", None, 69.71, _PUSH, "not stated", 19),
    ("push-pull first layer", "ResNet-20", None, 70.62, _PUSH, "not stated", 19),
    ("standard", "ResNet-32", None, 69.60, _PUSH, "not stated", 19),
    ("push-pull first layer", "ResNet-32", None, 73.37, _PUSH, "not stated", 19),
    ("standard", "ResNet-44", None, 71.43, _PUSH, "not stated", 19),
    ("push-pull first layer", "ResNet-44", None, 73.09, _PUSH, "not stated", 19),
    ("standard", "ResNet-56", None, 71.36, _PUSH, "not stated", 19),
    ("push-pull first layer", "ResNet-56", None, 73.77, _PUSH, "not stated", 19),
)  # fmt: skip


def _published(row: Sequence[Any]) -> Published:
    given = dict(zip(_COLUMNS, row, strict=False))
    shares = {name: given[name] and round(given[name] / 100, 6) for name in ("clean", "corrupted")}
    return Published(**{**given, **shares})


# The table of constants that made CIFAR-10-C.
_CONSTANTS = "cifar"

PUBLISHED = tuple(map(_published, _ROWS))
"""Published results in no particular order; none of them was rerun here."""


def place_among_published(scores: Scores) -> Place | None:
    """Return the rank of a run among published networks, over the benchmark's 15 kinds.

    None for another data set than the test images of CIFAR-10, or if cells of the 15 kinds are missing.
    """
    average = scores.average_15()
    if average is None or scores.data != "cifar10" or scores.split != "test":
        return None
    alike = sorted((row for row in PUBLISHED if row.kinds == 15), key=lambda row: -row.corrupted)
    return Place(
        rows=tuple(alike),
        kinds=15,
        corrupted=average.accuracy,
        above=sum(row.corrupted < average.accuracy for row in alike),
        caution=_cautions(scores),
    )


def _cautions(scores: Scores) -> tuple[str, ...]:
    """Return what differs from how the published rows were measured."""
    caution = []
    if scores.parameters:
        caution.append(
            "the corrupted images were made here, those of published rows are the benchmark's files"
        )
    elif scores.seed is not None:
        caution.append(
            f"the corrupted images are a copy that was made with seed {scores.seed}, those of published rows "
            "are the benchmark's files"
        )
    if scores.parameters not in ("", _CONSTANTS):
        caution.append(f"the constants are those of {scores.parameters}, the benchmark's are {_CONSTANTS}")
    if len(scores.labels) < 10000:
        caution.append(f"{len(scores.labels):,} of the 10,000 test images")
    if (each := images_per_cell(scores)) < len(scores.labels):
        caution.append(f"{each:,} of the {len(scores.labels):,} images in a corrupted cell (--spread)")
    if scores.precision != "float32":
        caution.append(f"the precision is {scores.precision}")
    if scores.overlap:
        caution.append(f"the training data resemble {', '.join(scores.overlap)} of the benchmark")
    return tuple(caution)
