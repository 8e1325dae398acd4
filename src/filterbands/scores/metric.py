"""A metric for torchmetrics, which this file needs: it collects the answers of any evaluation loop."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import hint
from ..corruptions import CORRUPTIONS
from .answers import Answers, Place, check_place, nan_answers
from .scores import AVERAGES, Scores
from .statistics import Integers

try:
    from torchmetrics import Metric
    from torchmetrics.metric import jit_distributed_available
    from torchmetrics.utilities.data import dim_zero_cat
    from torchmetrics.utilities.distributed import gather_all_tensors
except ImportError:
    raise ImportError(
        "CorruptionAccuracy needs the package torchmetrics; install filterbands[metrics]"
    ) from None

_LOG = logging.getLogger(__name__)
_Rows = np.ndarray[Any, np.dtype[np.int32]]
# Columns of a row, severities of a kind with that of clean images, and the prediction that stands for NaN.
_COLUMNS, _PLACES, _NAN = 4, 6, -1


class CorruptionAccuracy(Metric):
    """Accuracy on clean and corrupted images, kept image by image so that networks can be compared in pairs.

    `compute` returns the complete averages as a dict of tensors, for `MetricCollection` and the `log_dict` of
    Lightning; `scores` returns `Scores`. Both gather the answers of all processes, so that every process has
    to call them. Call `reset` before another network or epoch.

    >>> metric = CorruptionAccuracy()
    >>> target = torch.tensor([0, 1, 1, 1])
    >>> metric.update(torch.tensor([0, 1, 1, 0]), target)
    >>> metric.update(torch.tensor([0, 1, 0, 0]), target, kind="fog", severity=3)
    >>> {name: float(value) for name, value in metric.compute().items()}
    {'clean': 0.75, 'average_at_hand': 0.5}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    answers: list[Tensor]
    """Flat rows of int32: number of the cell, image, prediction, target."""

    def __init__(self, *, kinds: Sequence[str] = tuple(CORRUPTIONS), **settings: Any) -> None:
        """Return a metric without answers.

        Args:
            kinds: All kinds that `update` may get, in the same order in every process.
            settings: Those of `torchmetrics.Metric`.

        Raises:
            ValueError: Kinds that are no texts, or `clean`, which is always there.
        """
        names = [kinds] if isinstance(kinds, str) else list(kinds)
        if isinstance(kinds, str) or "clean" in names or not all(isinstance(one, str) for one in names):
            raise ValueError(f"kinds needs names of corruptions without clean, got {kinds!r}")
        super().__init__(**{"dist_sync_fn": _gather, **settings})
        self.kinds = ("clean", *dict.fromkeys(names))
        self.add_state("answers", default=[], dist_reduce_fx="cat")

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        *,
        kind: str = "clean",
        severity: int = 0,
        index: Tensor | None = None,
    ) -> None:
        """Add the answers to one batch of images of one kind and severity.

        Args:
            preds: Predicted classes (images,), or logits or probabilities (images, classes). A cell that gets
                NaN is marked as failed.
            target: Class of each image.
            kind: The kind, or `clean`.
            severity: 1 to 5; 0 for clean.
            index: Number of each image in the data set, the same under every kind. An image that comes
                twice, as a `DistributedSampler` may repeat it, counts once. None numbers images by arrival,
                separately in each cell: right only for one process and a loader that does not shuffle.

        Raises:
            ValueError: Arguments that do not fit, or no index where there are several processes.
        """
        cell = self._cell(kind, severity)
        target = _whole("target", torch.as_tensor(target))
        preds = torch.as_tensor(preds).detach()
        if preds.ndim == 2 and preds.is_floating_point():
            if preds.shape[1] < 2:
                raise ValueError(f"preds needs logits of at least 2 classes, got shape {tuple(preds.shape)}")
            preds = torch.where(preds.isnan().any(dim=1), _NAN, preds.argmax(dim=1))
        else:
            preds = _whole("preds", preds)
        if index is None and jit_distributed_available() and torch.distributed.get_world_size() > 1:
            raise ValueError(
                "CorruptionAccuracy needs index= where there are several processes: the number of each image "
                "in the data set; have the data set return it"
            )
        number = torch.full_like(target, -1) if index is None else _whole("index", torch.as_tensor(index))
        if not len(preds) == len(target) == len(number):
            raise ValueError(
                "preds, target and index need one value per image, got "
                f"{len(preds)}, {len(target)} and {len(number)}"
            )
        columns = (torch.full_like(target, cell), number, preds, target)
        rows = torch.stack([column.to(self.device, torch.int32) for column in columns], dim=1)
        # Flat, so that a process without answers, which sends one axis of length 0, fits to the others.
        self.answers.append(rows.flatten())

    def compute(self) -> dict[str, Tensor]:
        """Return accuracies in [0, 1]: `clean`, `average_at_hand`, and the complete averages by their names.

        The names are those of `Scores.to_json`; `mean_corruption_error` is there with `average_15`.
        """
        cells, failed = self._cells(self._rows())
        # Averages do not depend on the order of the images, so that some images of some cells are enough.
        answers = {
            place: Answers(positions=np.arange(len(rows)), bits=rows[:, 2] == rows[:, 3])
            for place, rows in cells.items()
        }
        images = max((len(rows) for rows in cells.values()), default=0)
        facts: dict[str, Any]
        facts = dict.fromkeys(("name", "model", "data", "split", "parameters", "precision"), "")
        labels = np.zeros(images, dtype=np.int64)
        scores = Scores(labels=labels, seed=0, cells=answers, failed=failed, **facts)
        averages = {name: average(scores) for name, (average, _) in AVERAGES.items()}
        averages["average_at_hand"] = scores.average_at_hand()
        found = {"clean": scores.clean} if ("clean", 0) in answers else {}
        found |= {name: estimate.accuracy for name, estimate in averages.items() if estimate is not None}
        if (error := scores.mean_corruption_error()) is not None:
            found["mean_corruption_error"] = error
        return {name: torch.tensor(value, device=self.device) for name, value in found.items()}

    def scores(self, *, name: str, **options: Any) -> Scores:
        """Return the scores of all answers.

        Args:
            name: Name of the network.
            options: Other options of `Scores.from_predictions`.

        Raises:
            ValueError: As for `predictions`.
        """
        return Scores.from_predictions(*self.predictions(), name=name, **options)

    def predictions(self) -> tuple[Integers, dict[Place, Any]]:
        """Return labels and predictions, as `Scores.from_predictions` takes them, ordered by index.

        A value is a pair (positions, predictions), or the reason why a cell failed.

        Raises:
            ValueError: No answers on clean images, images under a kind that the clean ones lack, or an image
                whose class differs between kinds, since batches were shuffled and had no index.
        """
        gather = self._to_sync and not self._is_synced
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=gather):
            rows = self._rows()
        cells, failed = self._cells(rows)
        if ("clean", 0) in failed:
            raise ValueError(f"on clean images {failed['clean', 0]}, so that nothing can be scored")
        if ("clean", 0) not in cells:
            raise ValueError("CorruptionAccuracy has no answers on clean images; update it with these too")
        images, labels = cells["clean", 0][:, 1], cells["clean", 0][:, 3].astype(np.int64)
        found: dict[Place, Any] = dict(failed)
        for (kind, severity), part in cells.items():
            positions = np.minimum(np.searchsorted(images, part[:, 1]), len(images) - 1)
            for wrong, what in (
                (images[positions] != part[:, 1], "is not among the clean images"),
                (labels[positions] != part[:, 3], "has another target than on clean images"),
            ):
                if wrong.any():
                    raise ValueError(
                        f"image {part[wrong.argmax(), 1]} of {kind} {severity} {what}; give every update "
                        "index=, the numbers of its images, or loaders of the same images in the same order"
                    )
            found[kind, severity] = (positions, part[:, 2].astype(np.int64))
        return labels, found

    def _cell(self, kind: str, severity: int) -> int:
        """Return the number of a cell."""
        kind, severity = check_place((kind, severity))
        if kind not in self.kinds:
            near = hint(kind, self.kinds)
            raise ValueError(
                f"unknown kind {kind!r}{near}; name kinds of your own with CorruptionAccuracy(kinds=...)"
            )
        return self.kinds.index(kind) * _PLACES + severity

    def _rows(self) -> _Rows:
        """Return the rows of all answers; torchmetrics makes one tensor of the list when it gathers."""
        flat = dim_zero_cat(self.answers) if len(self.answers) else torch.zeros(0, dtype=torch.int32)
        return np.asarray(flat.cpu()).reshape(-1, _COLUMNS)

    def _cells(self, rows: _Rows) -> tuple[dict[Place, _Rows], dict[Place, str]]:
        """Return the rows of each cell, one per image by ascending index, and why other cells failed."""
        cells: dict[Place, _Rows] = {}
        failed: dict[Place, str] = {}
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        borders = np.flatnonzero(np.diff(rows[:, 0])) + 1
        for part in np.split(rows, borders) if len(rows) else ():
            kind, severity = self.kinds[part[0, 0] // _PLACES], int(part[0, 0]) % _PLACES
            part = _numbered(part, f"{kind} {severity}")
            _, first, again = np.unique(part[:, 1], return_index=True, return_inverse=True)
            once = part[first]
            repeated = once[again]
            if (wrong := part[:, 3] != repeated[:, 3]).any():
                raise ValueError(
                    f"image {part[wrong.argmax(), 1]} of {kind} {severity} came with two targets; index= "
                    "needs the number of each image in the data set"
                )
            if count := int((part[:, 2] != repeated[:, 2]).sum()):
                _LOG.warning(
                    "%s %d: %d images came again with other predictions, and the first ones count; "
                    "call reset() before another network or epoch",
                    *(kind, severity, count),
                )
            if bad := int((once[:, 2] == _NAN).sum()):
                failed[kind, severity] = nan_answers(bad, len(once))
            else:
                cells[kind, severity] = once
        return cells, failed


def _numbered(part: _Rows, what: str) -> _Rows:
    """Return the rows of a cell with numbers by arrival where there was no index."""
    lacking = part[:, 1] < 0
    if not lacking.any():
        return part
    if not lacking.all():
        raise ValueError(f"{what} got some batches with index= and some without; give it always or never")
    arrival = np.arange(len(part), dtype=np.int32)
    return np.stack([part[:, 0], arrival, part[:, 2], part[:, 3]], axis=1)


def _whole(what: str, numbers: Tensor) -> Tensor:
    """Return whole numbers that int32 holds, one per image."""
    plain = numbers.ndim == 1 and not numbers.is_floating_point() and numbers.dtype != torch.bool
    if not plain:
        raise ValueError(
            f"{what} needs whole numbers of shape (images,)"
            f"{', or logits (images, classes)' if what == 'preds' else ''}, "
            f"got {numbers.dtype} of shape {tuple(numbers.shape)}"
        )
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < 2**31:
        raise ValueError(f"{what} needs numbers of at least 0, got {int(numbers.min())}")
    return numbers


def _gather(state: Tensor, group: Any = None) -> list[Tensor]:
    """Return the state of every process; torchmetrics gives one without answers an empty float tensor."""
    return list(gather_all_tensors(state.to(torch.int32), group))
