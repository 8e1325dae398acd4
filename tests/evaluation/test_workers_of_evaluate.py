"""Cells on several processes: the same bits as in one, and what a kill leaves behind."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from filterbands.evaluation import EvaluateConfig, Store, evaluate, load_scores
from filterbands.scores import Scores

# A module that a worker can import. The network is slow enough to be killed in the middle of a cell.
MODULE = '''
import os, signal, sys, time
from pathlib import Path
import torch
from torch import nn
from filterbands.datasets import ImageSet
from filterbands.evaluation import EvaluateConfig, evaluate

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3 * 16 * 16, 4)
    def forward(self, images):
        # What happens when it runs is no setting of a network.
        folder = os.environ.get("MARKS_OF_A_TEST")
        if len(images) > 2 and folder:
            Path(folder, str(os.getpid())).touch()
            time.sleep(0.1)
        return self.linear(images.flatten(1))

class Dying(Net):
    """Its first worker dies in its first cell."""
    def forward(self, images):
        mark = Path(os.environ["MARKS_OF_A_TEST"], "died")
        if len(images) > 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.linear(images.flatten(1))

def data():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (40, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return ImageSet(name="noise", split="test", images=pixels, labels=torch.arange(40) % 4,
                    classes=("a", "b", "c", "d"), index=torch.arange(40))

CONFIG = dict(kinds=("fog", "contrast", "gaussian_noise"), workers=2)

if __name__ == "__main__":
    torch.set_num_threads(1)
    evaluate(Net(), data(), config=EvaluateConfig(**CONFIG), db=sys.argv[1])
'''


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "networks_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import networks_of_a_test

    yield networks_of_a_test
    del sys.modules["networks_of_a_test"]


def _bits(scores: Scores) -> dict[tuple[str, int], list[bool]]:
    return {place: answers.bits.tolist() for place, answers in scores.cells.items()}


def _alone(work: Any) -> dict[tuple[str, int], list[bool]]:
    return _bits(evaluate(work.Net(), work.data(), config=EvaluateConfig(kinds=work.CONFIG["kinds"])))


@pytest.mark.slow
def test_two_workers_give_the_bits_of_one_process_though_one_dies(
    work: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKS_OF_A_TEST", str(tmp_path))
    torch.manual_seed(0)
    config = EvaluateConfig(kinds=("fog", "contrast"), severities=(1, 5), workers=2)
    dying = evaluate(work.Dying(), work.data(), config=config, db=tmp_path / "r.db")
    assert (tmp_path / "died").exists()
    monkeypatch.delenv("MARKS_OF_A_TEST")
    whole = _alone(work)
    assert _bits(dying) == {place: whole[place] for place in dying.cells}
    (kept,) = load_scores(tmp_path / "r.db")
    assert _bits(kept) == _bits(dying)


def _alive(process: int) -> bool:
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{process}/stat")
        if stat.exists():
            return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
        os.kill(process, 0)
        return True
    return False


def _rows(db: Path) -> int:
    with contextlib.suppress(FileNotFoundError, ValueError), Store(db, readonly=True) as store:
        return len(list(store.cells()))
    return 0


def _kill_at(work: Any, tmp_path: Path, moment: float, db: Path) -> None:
    """Start an evaluation, kill it alone `moment` seconds after its first worker works, and look."""
    marks = tmp_path / f"marks{moment}"
    marks.mkdir()
    command = [sys.executable, tmp_path / "networks_of_a_test.py", str(db)]
    env = {**os.environ, "MARKS_OF_A_TEST": str(marks)}
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=env)
    try:
        while not any(marks.iterdir()) and parent.poll() is None:
            time.sleep(0.01)
        time.sleep(moment)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    workers = [int(mark.name) for mark in marks.iterdir()]
    end = time.monotonic() + 2
    while any(map(_alive, workers)):
        assert time.monotonic() < end, "a worker outlives its parent by 2 s"
        time.sleep(0.02)
    connection = sqlite3.connect(db)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def _killed_and_resumed(work: Any, tmp_path: Path, moments: list[float]) -> None:
    whole = _alone(work)
    for number, moment in enumerate(moments):
        db = tmp_path / f"r{number}.db"
        _kill_at(work, tmp_path, moment, db)
        kept = _rows(db)
        # The first of a worker's cells ends 0.1 s after it begins: what is done by then is kept.
        if moment > 1.0:
            assert kept > 2
        seen: list[int] = []
        again = evaluate(
            work.Net(),
            work.data(),
            config=EvaluateConfig(kinds=work.CONFIG["kinds"]),
            db=db,
            progress=lambda *report, seen=seen: seen.append(report[0]),
        )
        # Nothing that was written is done again, and nothing waits for the dead.
        assert seen == list(range(kept + 1, 17))
        assert _bits(again) == whole


@pytest.mark.slow
def test_a_killed_evaluation_leaves_no_worker_and_goes_on_where_it_was(work: Any, tmp_path: Path) -> None:
    _killed_and_resumed(work, tmp_path, [0.25])


@pytest.mark.slow
def test_30_killed_evaluations_leave_no_worker_and_go_on_where_they_were(work: Any, tmp_path: Path) -> None:
    draw = random.Random(0)
    _killed_and_resumed(work, tmp_path, [draw.uniform(0, 1.2) for _ in range(30)])


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_gives_the_bits_of_one_process(work: Any, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the package ray is not installed")
    # Ray's own warnings are not ours; a process of its own keeps what it starts apart.
    code = f"""
import json, sys
sys.path.insert(0, {str(tmp_path)!r})
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1}})
cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
import networks_of_a_test as work
from filterbands.evaluation import EvaluateConfig, evaluate
config = EvaluateConfig(kinds=("fog", "contrast"), severities=(1, 5), ray=cluster.address, workers=2)
scores = evaluate(work.Net(), work.data(), config=config, db={str(tmp_path / "r.db")!r})
print(json.dumps([[k, s, a.bits.tolist()] for (k, s), a in scores.cells.items()]))
cluster.shutdown()
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cells = {(kind, severity): bits for kind, severity, bits in json.loads(done.stdout.splitlines()[-1])}
    whole = _alone(work)
    assert cells == {place: whole[place] for place in cells}
    assert len(cells) == 5
