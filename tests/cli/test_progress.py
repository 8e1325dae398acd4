"""Long work whose output is not a terminal tells every half minute what is done and what is left."""

import io
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from filterbands.cli import main, probe, shared


class _Clock:
    """A clock in place of `time.monotonic` that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr(shared.time, "monotonic", clock)
    return clock


def test_a_line_has_done_total_elapsed_and_what_is_left(clock: _Clock) -> None:
    lines = shared._Lines("evaluate", began=clock.now)
    assert lines.text(1030) == "at work for 0:00:30"
    clock.now = 1040
    lines.report(1, 96, "clean")
    assert lines.text(1060) == "1 of 96 after 0:01:00, about 1:35:00 left: clean"
    clock.now = 1080
    lines.report(2, 96, "fog 1")
    assert lines.text(1080) == "2 of 96 after 0:01:20, about 1:02:40 left: fog 1"


def test_what_was_there_before_does_not_count_as_speed(clock: _Clock) -> None:
    lines = shared._Lines("evaluate", began=clock.now)
    lines.report(91, 96, "fog 1")
    assert lines.text(1030) == "91 of 96 after 0:00:30: fog 1"
    clock.now = 1060
    lines.report(92, 96, "fog 2")
    assert lines.text(1060) == "92 of 96 after 0:01:00, about 0:04:00 left: fog 2"


def test_a_second_part_of_the_work_is_timed_anew(clock: _Clock) -> None:
    lines = shared._Lines("probe", began=clock.now)
    for done in (1, 2):
        clock.now += 100
        lines.report(done, 514, "heat map")
    clock.now += 10
    lines.report(1, 98, "low ideal")
    assert lines.text(clock.now) == "1 of 98 after 0:03:30, about 0:16:10 left: low ideal"


def test_lines_come_while_nothing_is_reported_and_a_closed_reader_stops_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return False

        def write(self, text: str) -> int:
            super().write(text)
            raise BrokenPipeError

    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(shared, "_EVERY", 0.01)
    with shared.progress_bar("work"):
        until = time.monotonic() + 10
        while stream.getvalue().count("work: at work for") < 2 and time.monotonic() < until:
            time.sleep(0.01)
    assert stream.getvalue().count("work: at work for") >= 2


def test_a_label_is_neither_pattern_nor_markup_nor_orders_for_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    with shared.progress_bar("a{b}[red]\x1b]0;title\x07.pt") as progress:
        assert progress is not None
        progress(1, 2, "c{d}[bold]")
    assert "a{b}[red]" in stream.getvalue()
    assert "\x1b]0;" not in stream.getvalue()


def test_of_processes_that_train_together_the_first_alone_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "is_first_process", lambda: False)
    with shared.progress_bar("train") as progress:
        assert progress is None


@pytest.mark.parametrize(
    "verb",
    [
        *("evaluate", "report"),
        *(
            pytest.param(verb, marks=pytest.mark.slow)
            for verb in ("analyze", "corrupt", "demo", "probe", "shrink")
        ),
    ],
)
def test_every_long_verb_tells_that_it_is_at_work(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    module = import_module(f"filterbands.cli.{verb}")
    monkeypatch.setattr(shared, "_EVERY", 0.01)
    work = {
        "analyze": ("analyze", "net.safetensors"),
        "corrupt": ("copy_arrays", "planted --limit 2 --kinds fog"),
        "demo": ("train", ""),
        "evaluate": ("evaluate", "net.safetensors --arch fastnet --data planted"),
        "probe": ("fourier_heatmap", "net.safetensors --data planted --only heatmap --limit 2"),
        "report": ("write_report", "runs/a"),
        "shrink": ("shrink", "net.safetensors --data planted --images 5"),
    }
    name, words = work[verb]

    def slow(*_: object, **__: object) -> None:
        time.sleep(0.3)
        raise ValueError("that was slow")

    monkeypatch.setattr(module, name, slow)
    monkeypatch.setattr(import_module("filterbands.cli.main"), "users_line", lambda _: "")
    _network(tmp_path / "net.safetensors")
    monkeypatch.chdir(tmp_path)
    out = [] if verb in ("analyze", "evaluate", "probe") else ["--out", "out.safetensors"]
    assert main([verb, *words.split(), *out]) == 2
    err = capsys.readouterr().err
    assert ": at work for 0:00:0" in err
    assert err.endswith(f"filterbands {verb}: that was slow\n")


def _network(file: Path) -> None:
    from safetensors.torch import save_file

    from filterbands.models import describe, load_model

    model = load_model(arch="fastnet")
    save_file(dict(model.state_dict()), file, metadata=describe(model, arch="fastnet"))


PARTS = {
    "heatmap": "fourier_heatmap",
    "passes": "pass_curves",
    "gradient": "gradient_spectrum",
    "corruptions": "corruption_spectra",
    "vulnerability": "patch_moments",
}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_probe_tells_that_it_is_at_work(
    part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def slow(*_: object, **__: object) -> None:
        time.sleep(0.3)
        raise ValueError("that was slow")

    assert set(PARTS) == set(probe.PARTS)
    monkeypatch.setattr(shared, "_EVERY", 0.01)
    monkeypatch.setattr(probe, PARTS[part], slow)
    monkeypatch.chdir(tmp_path)
    _network(tmp_path / "net.safetensors")
    main(["probe", "net.safetensors", "--data", "planted", "--only", part, "--limit", "2"])
    assert "at work for" in capsys.readouterr().err
