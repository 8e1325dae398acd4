"""Spectra over training: from files, from a Run, from a loop, from something that calls as Lightning does."""

import copy
import json
import pickle
import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from filterbands import SpectrumLogger, load_model
from filterbands.filters import Trajectory, analyze, trajectory
from filterbands.filters.trajectory import steps_of_training


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def folder(tmp_path):
    for place, step in enumerate((900, 1000, 10000)):
        state = {"conv1.weight": white(8, 3, 3, 3, seed=place), "conv2.weight": white(4, 8, 1, 1)}
        save_file(state, tmp_path / f"net2_iter_{step}.safetensors")
    return tmp_path


def test_checkpoints_give_figures_against_their_steps(folder):
    by_folder = trajectory(folder)
    files = sorted(folder.iterdir(), reverse=True)
    assert [step for step, _ in by_folder.series("conv1")] == [900, 1000, 10000]
    for places in (str(folder / "net2_*"), files, [str(file) for file in files]):
        assert trajectory(places).rows == by_folder.rows
    expected = analyze(folder / "net2_iter_1000.safetensors")["conv1"].low_energy
    assert by_folder.series("conv1", "low_energy")[1] == (1000, expected)
    assert by_folder.series("conv2") == []
    assert by_folder.layers == ("conv1", "conv2")
    assert "10000" in str(by_folder)
    assert "<td>10000</td>" in by_folder._repr_html_()
    json.dumps(by_folder.to_json(), allow_nan=False)
    with pytest.raises(ValueError, match="there are conv1, conv2"):
        by_folder.series("conv3")
    with pytest.raises(ValueError, match="no figure 'energy'"):
        by_folder.series("conv1", "energy")
    pytest.importorskip("pandas")
    assert list(by_folder.to_frame()["step"])[::2] == [900, 1000, 10000]


def test_files_without_numbers_are_steps_by_their_place(tmp_path):
    for name in ("a", "b"):
        save_file({"c.weight": white(2, 1, 3, 3)}, tmp_path / f"{name}.safetensors")
    assert [row["step"] for row in trajectory(tmp_path).rows] == [0, 1]


def test_a_run_tells_its_course_from_what_it_kept_or_from_its_log(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="says nothing of the first layer"):
        trajectory(tmp_path)
    layer = {"name": "conv1", "low_share": 0.5, "low_energy": 0.4, "mean_low_energy": 0.6}
    record = {"epoch": 0, "first_layer": layer}
    (tmp_path / "log.jsonl").write_text(json.dumps(record) + "\n" + json.dumps({**record, "epoch": 1}) + "\n")
    assert trajectory(tmp_path).series("conv1", "mean_low_energy") == [(0, 0.6), (1, 0.6)]
    with pytest.raises(ValueError, match="leave the cutoff out"):
        trajectory(tmp_path, cutoff=0.2)
    (tmp_path / "checkpoints").mkdir()
    save_file({"conv1.weight": white(2, 1, 3, 3)}, tmp_path / "checkpoints" / "epoch_5.safetensors")
    assert [step for step, _ in trajectory(tmp_path, cutoff=0.2).series("conv1")] == [5]


def test_an_architecture_gives_strides_and_the_network(tmp_path):
    save_file(load_model(arch="fastnet").state_dict(), tmp_path / "epoch_1.safetensors")
    assert trajectory(tmp_path, arch="fastnet").rows[0]["aliased_energy"] == 0.0
    assert trajectory(tmp_path).rows[0]["aliased_energy"] is None


def test_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one checkpoint"):
        trajectory([])
    with pytest.raises(FileNotFoundError, match="no such file"):
        trajectory(["nowhere.pt"])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 5))


class Writer:
    def __init__(self):
        self.scalars, self.histograms = [], []

    def add_scalar(self, tag, value, step):
        self.scalars.append((tag, float(value), step))

    def add_histogram(self, tag, values, step):
        self.histograms.append((tag, len(values), step))


def test_a_loop_records_before_the_first_step_and_every_so_many(tmp_path):
    model, writer = network(), Writer()
    logger = SpectrumLogger(model, every=2, layers="all", file=tmp_path / "log.jsonl", tensorboard=writer)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(5):
        model(torch.rand(2, 3, 9, 9)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        logger.step()
    course = logger.trajectory
    assert course.layers == ("1", "3")
    assert [step for step, _ in course.series("1")] == [0, 2, 4]
    assert course.series("3", "mean_low_energy")[0] != course.series("3", "mean_low_energy")[2]
    with torch.no_grad():
        expected = analyze(network())["1"]
    first = course.rows[0]
    for figure in ("low_share", "low_energy", "mean_low_energy", "centroid", "zero_leak", "aliased_energy"):
        assert first[figure] == getattr(expected, figure)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert Trajectory(rows=tuple(lines)) == course
    assert ("spectrum/1/filters_low_energy", 6, 4) in writer.histograms
    assert ("spectrum/3/low_energy", course.series("3", "low_energy")[1][1], 2) in writer.scalars
    assert logger.seconds > 0


def test_layers_are_chosen_and_steps_may_be_numbered():
    logger = SpectrumLogger(torch.compile(network(), backend="eager"), every=10)
    assert logger.trajectory.layers == ("1",)
    for step in (105, 110, 110, 111, 120):
        logger.step(step)
    assert [step for step, _ in logger.trajectory.series("1")] == [0, 110, 120]
    assert SpectrumLogger(network(), layers=["3"]).trajectory.layers == ("3",)
    assert SpectrumLogger(network(), layers="3").trajectory.layers == ("3",)


class Callback:
    """What Lightning's own class offers."""

    def setup(self, trainer, pl_module, stage):
        pass

    def on_fit_end(self, trainer, pl_module):
        pass


class Sink:
    def __init__(self):
        self.metrics = []

    def log_metrics(self, metrics, step):
        self.metrics.append((step, metrics))


def fit(callback, module, *, batches, first=True):
    """Call hooks in the order of Lightning's trainer, which refuses what is not its own class."""
    if not isinstance(callback, Callback):
        raise TypeError("expected a Callback")
    trainer = types.SimpleNamespace(global_step=0, is_global_zero=first, loggers=[Sink()])
    callback.setup(trainer, module, "fit")
    callback.on_train_start(trainer, module)
    for batch in range(batches):
        # Gradients of two batches make a step.
        trainer.global_step = (batch + 1) // 2
        callback.on_train_batch_end(trainer, module, None, None, batch)
    callback.on_fit_end(trainer, module)
    return trainer


@pytest.mark.parametrize("hook", ["setup", "state_key", "on_train_start"])
def test_a_logger_in_the_callbacks_place_names_the_callback(hook):
    with pytest.raises(AttributeError, match=r"pass logger.callback\(\)"):
        getattr(SpectrumLogger(), hook)
    with pytest.raises(AttributeError, match="has no 'steps'"):
        _ = SpectrumLogger().steps


@pytest.mark.slow
def test_the_trainer_of_lightning_shows_that_line(tmp_path):
    lightning = pytest.importorskip("pytorch_lightning")
    demos = pytest.importorskip("pytorch_lightning.demos.boring_classes")
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_steps": 1}
    trainer = lightning.Trainer(callbacks=[SpectrumLogger()], default_root_dir=tmp_path, **options)
    with pytest.raises(AttributeError, match=r"pass logger.callback\(\)"):
        trainer.fit(demos.BoringModel())


def test_it_gives_a_lightning_callback_once_lightning_is_there(monkeypatch):
    with pytest.raises(TypeError):
        fit(SpectrumLogger(), network(), batches=2)
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ValueError, match="import your Trainer's package"):
        SpectrumLogger().callback()
    monkeypatch.setitem(sys.modules, "lightning.pytorch", types.SimpleNamespace(Callback=Callback))
    logger = SpectrumLogger(every=2)
    assert type(logger) is SpectrumLogger
    callback = logger.callback()
    trainer = fit(callback, network(), batches=8)
    assert [step for step, _ in logger.trajectory.series("1")] == [0, 2, 4]
    assert [step for step, _ in trainer.loggers[0].metrics] == [0, 2, 4]
    assert "spectrum/1/low_share" in trainer.loggers[0].metrics[0][1]
    other = SpectrumLogger(every=2)
    fit(other.callback(), network(), batches=8, first=False)
    assert other.trajectory.rows == ()
    for again in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert isinstance(again, Callback)
        assert again.logger.trajectory == logger.trajectory


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpectrumLogger(network(), layers="9"), "no convolution '9'; there are 1, 3"),
        (lambda: SpectrumLogger(nn.Linear(2, 2)), "found none"),
        (
            lambda: SpectrumLogger(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LazyConv2d(4, 3)), layers="all"),
            "layer 1 is not initialized yet; run the network once",
        ),
        (lambda: SpectrumLogger(network(), every=0), "at least 1, got 0"),
        (lambda: SpectrumLogger(network(), cutoff=0.7), "cutoff"),
        (lambda: SpectrumLogger(network(), file="no/such/folder/log"), "no folder"),
        (lambda: SpectrumLogger(every=1).step(), "needs its network"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_tensorboard_is_asked_for_by_name(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="needs the package tensorboard"):
        SpectrumLogger(network(), tensorboard=tmp_path)


def test_the_share_of_cifar10_full_falls_along_its_training(shared):
    course = trajectory(shared / "checkpoints" / "caffe")
    steps = [step for step, _ in course.series("conv1")]
    assert steps == [10000, 20000, 30000, 40000, 50000, 60000, 65000, 70000]
    shares = [value for _, value in course.series("conv1", "low_share")]
    energies = [value for _, value in course.series("conv1", "low_energy")]
    assert shares == sorted(shares, reverse=True)
    assert (shares[0], shares[-1]) == (1.0, 28 / 32)
    assert energies[0] == pytest.approx(0.824, abs=6e-4)
    assert energies[-1] == pytest.approx(0.725, abs=6e-4)


def test_digits_that_count_no_steps_hide_no_file(tmp_path):
    for rate in ("0.1", "0.01", "0.001"):
        save_file({"conv1.weight": white(8, 3, 3, 3)}, tmp_path / f"lr={rate}.pt.safetensors")
    files = sorted(tmp_path.iterdir())
    assert steps_of_training(files) == {}
    assert steps_of_training([files[0].with_name(f"epoch_{number}.pt") for number in ("1", "01")]) == {}


def test_a_logger_takes_the_cutoff_that_it_is_given():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3))
    row = SpectrumLogger(network, cutoff=0.2).trajectory.rows[0]
    assert row["low_energy"] == analyze(network, cutoff=0.2)["0"].low_energy
