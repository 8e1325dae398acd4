"""SpectralNoise and SpectrumLogger in a module that Lightning's Trainer fits."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import filterbands as fb


@pytest.mark.slow
# Of Lightning, about workers and torch's own deprecations.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_module_with_both_is_fitted_and_perturbed_in_training_alone(tmp_path: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning")
    torch.manual_seed(0)
    images, labels = torch.randint(256, (32, 3, 16, 16)) / 255, torch.arange(32) % 4
    seen: list[tuple[bool, bool]] = []

    class Module(lightning.LightningModule):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            super().__init__()
            self.noise = fb.SpectralNoise(clean=0.0)
            self.network = nn.Sequential(
                nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.LazyLinear(4)
            )
            self.network(images)

        def _loss(self, batch: Any) -> torch.Tensor:
            inside = self.noise(batch[0])
            seen.append((self.training, torch.equal(inside, batch[0])))
            return F.cross_entropy(self.network(inside), batch[1])

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return self._loss(batch)

        def validation_step(self, batch: Any, _: int) -> None:
            self._loss(batch)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    loader, logger = DataLoader(TensorDataset(images, labels), batch_size=16), fb.SpectrumLogger(every=1)
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_steps": 2}
    trainer = lightning.Trainer(
        callbacks=[logger.callback()], default_root_dir=tmp_path, enable_progress_bar=False, **options
    )
    module = Module()
    trainer.fit(module, loader, loader)
    assert trainer.global_step == 2
    assert [step for step, _ in logger.trajectory.series("network.0")] == [0, 1, 2]
    assert {same for training, same in seen if training} == {False}
    assert {same for training, same in seen if not training} == {True}
    assert (
        fb.evaluate(module.network.eval(), loader, config=fb.EvaluateConfig(kinds=("none",))).to_json()[
            "images"
        ]
        == 32
    )
