"""Jobs on processes: the same results as in one, and no process that outlives its parent."""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from filterbands.workers import JobError, run_jobs

# A module that a worker can import: tests are none.
MODULE = '''
import os, signal, sys, time
from pathlib import Path

def square(number):
    return number * number

def report(folder, number):
    """Leave the process's number, and stay."""
    Path(folder, f"{number}.{os.getpid()}").touch()
    time.sleep(600)

def die_once(folder, number):
    mark = Path(folder, str(number))
    if number == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number

def die(number):
    os._exit(7)

def leave(number):
    os._exit(0)

def fail(number):
    print("printed by a job")
    return {}[number]

def refuse(number):
    raise ValueError(f"{number} is no good; take another")

def threads(tensor, _):
    import torch
    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]

def spoil(number):
    """Write into all pipes, as a library may that keeps a handle of standard output."""
    for handle in range(3, 20):
        try:
            os.write(handle, b"I say so. ")
        except OSError:
            pass
    return number

def heard(_):
    print("to standard output")
    return sys.stdin.read()
'''


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    (tmp_path / "jobs_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import jobs_of_a_test

    yield jobs_of_a_test
    del sys.modules["jobs_of_a_test"]


def test_one_worker_is_this_process_and_works_as_results_are_taken() -> None:
    done: list[int] = []
    jobs = run_jobs(lambda number: (done.append(number), os.getpid())[1], range(3))
    assert next(jobs) == (0, os.getpid())
    assert done == [0]
    assert [number for number, _ in jobs] == [1, 2]


def test_workers_give_what_one_gives_and_draw_jobs_when_they_are_free(work) -> None:
    drawn: list[int] = []

    def jobs() -> Iterator[int]:
        for number in range(6):
            drawn.append(number)
            yield number

    results = run_jobs(work.square, jobs(), workers=2, threads=1)
    first = next(results)
    assert drawn == [0, 1]
    assert dict([first, *results]) == {number: number * number for number in range(6)}
    assert drawn == list(range(6))


def test_the_job_of_a_worker_that_dies_is_done_again(work, tmp_path: Path) -> None:
    results = dict(run_jobs(partial(work.die_once, str(tmp_path)), range(3), workers=2))
    assert results == {0: 0, 1: 1, 2: 4}
    assert (tmp_path / "1").exists()


def test_a_job_that_always_kills_its_worker_is_given_up(work) -> None:
    with pytest.raises(JobError, match=r"job 0 was given up: its worker ended 1 times, last by exit code 7"):
        list(run_jobs(work.die, [0], workers=2, retries=0))


def test_a_worker_that_ends_as_if_all_were_well_has_died_too(work) -> None:
    with pytest.raises(JobError, match=r"job 0 was given up: its worker ended 2 times, last by exit code 0"):
        list(run_jobs(work.leave, [0], workers=2))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failed_job_knows_the_line_of_the_users_own_code(work, workers: int) -> None:
    with pytest.raises(JobError) as caught:
        list(run_jobs(work.fail, [5], workers=workers))
    assert caught.value.place == f"{work.__file__}, line 28"
    if workers == 2:
        with pytest.raises(ValueError, match="no good") as refused:
            list(run_jobs(work.refuse, [3], workers=2))
        assert refused.value.__cause__.place == f"{work.__file__}, line 31"


def test_a_failed_job_tells_where_and_a_mistake_keeps_its_line(work, capfd) -> None:
    with pytest.raises(JobError, match=r"(?s)job 0 failed: KeyError: 5.*return \{\}\[number\]"):
        list(run_jobs(work.fail, [5], workers=2))
    assert capfd.readouterr() == ("", "printed by a job\n")
    with pytest.raises(JobError, match=r"job 0 failed: KeyError: 5"):
        list(run_jobs(work.fail, [5]))
    for workers in (1, 2):
        with pytest.raises(ValueError, match=r"^3 is no good; take another$"):
            list(run_jobs(work.refuse, [3], workers=workers))


def test_a_worker_has_its_threads_and_no_standard_input(work) -> None:
    function = partial(work.threads, torch.zeros(1))
    assert dict(run_jobs(function, range(1), workers=2, threads=1)) == {0: (1, "1")}
    assert dict(run_jobs(work.heard, range(1), workers=2)) == {0: ""}


@pytest.mark.parametrize("printed", ["Info: site configured", ".", "x" * 100_000])
def test_what_is_printed_while_a_worker_starts_is_no_answer(
    printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"print({printed!r}, flush=True)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert dict(run_jobs(str.upper, ["a", "b"], workers=2)) == {0: "A", 1: "B"}
    caught = capfd.readouterr()
    assert (caught.out, caught.err.count(printed + "\n")) == ("", 2)


def test_what_a_library_prints_with_a_handle_of_its_own_is_no_answer(work, capfd) -> None:
    assert dict(run_jobs(work.spoil, range(3), workers=2)) == {0: 0, 1: 1, 2: 2}
    assert capfd.readouterr() == ("", 3 * "I say so. ")


def test_an_answer_that_cannot_be_read_ends_the_job_with_its_cause(
    work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(stream: object) -> object:
        raise ValueError("could not convert string to int")

    monkeypatch.setattr(pickle, "load", spoiled)
    with pytest.raises(
        JobError,
        match=r"ended 2 times, last by an answer that something else was written into \(ValueError: could ",
    ):
        list(run_jobs(work.square, [0], workers=2))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"workers": 0}, "workers needs a number of at least 1, got 0"),
        ({"threads": 0}, "threads needs a number of at least 1, got 0"),
        ({"retries": -1}, "retries needs a number of at least 0, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(options, line) -> None:
    with pytest.raises(ValueError, match=line):
        run_jobs(str, [1], **options)


def test_what_cannot_be_sent_is_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"function cannot be sent to workers.*or use one worker"):
        run_jobs(lambda number: number, [1], workers=2)


def test_a_class_of_the_users_script_is_found_and_a_script_without_its_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    body = (
        "from filterbands.workers import run_jobs\n"
        "class Twice:\n"
        "    def __call__(self, number): return 2 * number\n"
    )
    work = "print(dict(run_jobs(Twice(), [4, 5], workers=2)))\n"
    script.write_text(f"{body}if __name__ == '__main__':\n    {work}")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert sorted(done.stdout) == sorted("{0: 8, 1: 10}\n")
    script.write_text(body + work)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "put what the script does under" in done.stderr


def alive(process: int) -> bool:
    """Return whether a process runs; one that only waits to be buried does not."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{process}/stat")
        if stat.exists():
            return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
        os.kill(process, 0)
        return True
    return False


def seen(folder: Path, count: int) -> list[int]:
    """Return the numbers of the processes that left a mark, once there are so many."""
    for _ in range(1200):
        found = [int(path.suffix[1:]) for path in folder.glob("?.*")]
        if len(found) == count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{len(found)} of {count} workers began")


def assert_gone(processes: list[int], within: float) -> None:
    end = time.monotonic() + within
    while any(map(alive, processes)):
        assert time.monotonic() < end, "a worker outlives its parent"
        time.sleep(0.02)


@pytest.mark.parametrize("tied", [True, False], ids=["main thread", "another thread"])
def test_workers_end_with_a_parent_that_is_killed(work, tmp_path: Path, tied: bool) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    body = f"list(run_jobs(partial(jobs_of_a_test.report, {str(marks)!r}), range(2), workers=2))"
    code = (
        f"import sys, threading; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import jobs_of_a_test\n"
        "from functools import partial\n"
        "from filterbands.workers import run_jobs\n"
        + (body if tied else f"other = threading.Thread(target=lambda: {body}); other.start(); other.join()")
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        workers = seen(marks, 2)
        assert all(map(alive, workers))
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert_gone(workers, within=2)


SLOW_TO_IMPORT = """
import os, sys, time
from pathlib import Path
from filterbands.workers import run_jobs
class Same:
    def __call__(self, number): return number
if __name__ == "__main__":
    list(run_jobs(Same(), range(2), workers=2))
else:
    Path(sys.argv[1], f"0.{os.getpid()}").touch()
    time.sleep(600)
"""


def test_workers_that_still_import_the_users_script_end_with_their_parent(tmp_path: Path) -> None:
    marks, script = tmp_path / "marks", tmp_path / "script.py"
    marks.mkdir()
    script.write_text(SLOW_TO_IMPORT)
    parent = subprocess.Popen([sys.executable, script, marks])
    try:
        workers = seen(marks, 2)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert_gone(workers, within=2)


def test_workers_end_when_nobody_takes_their_results(work, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()

    def jobs() -> Iterator[int]:
        yield 0
        seen(marks, 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(run_jobs(partial(work.report, str(marks)), jobs(), workers=2))
    assert_gone(seen(marks, 1), within=0.1)


@pytest.mark.ray
@pytest.mark.slow
def test_jobs_of_a_ray_cluster_take_its_gpus_and_do_not_wait_for_what_no_node_has(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the package ray is not installed")
    # Ray takes our word for a GPU; a process of its own keeps what it starts apart.
    code = """
import ray
from filterbands.workers import run_jobs
ray.init(num_cpus=2, num_gpus=1)
gpus = lambda job: ray.get_gpu_ids()
for device in ("cpu", "auto", "cuda"):
    print(device, [found for _, found in run_jobs(gpus, range(2), ray="auto", device=device)])
for threads, device in ((3, "cpu"), (1, "cuda")):
    try:
        list(run_jobs(gpus, range(2), ray="auto", device=device, threads=threads))
    except ValueError as error:
        print(error)
    ray.shutdown()
    ray.init(num_cpus=2, num_gpus=0)
"""
    environment = {**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [
        "cpu [[], []]",
        "auto [[0], [0]]",
        "cuda [[0], [0]]",
        "no node of the Ray cluster has 3 CPUs, which a job takes; give fewer --threads",
        "no node of the Ray cluster has 1 CPU and a GPU, which a job takes; give fewer --threads, or "
        "--device cpu",
    ]
