"""Independent jobs on local processes or on Ray; the only file that knows Ray.

Local workers are fresh interpreters that read jobs from their standard input. This pipe closes when their
parent ends for any reason; they then stop at once, even in the middle of a job.

Neither `concurrent.futures` nor Pebble passes `tests/test_workers.py`. Their workers import the user's script
before they watch their parent, and can outlive it until then. If one worker dies, `concurrent.futures` ends
all others with their jobs, and Pebble waits forever if the exit code is 0.
"""

import contextlib
import ctypes
import functools
import logging
import multiprocessing.spawn
import os
import pickle
import queue
import secrets
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, TypeVar, cast

from .checks import users_line

# Workers load torch, which takes seconds, after they have begun to watch their parent.

Job = TypeVar("Job")
Result = TypeVar("Result")

_PDEATHSIG = 1
_MAIN_KEYS = ("sys_path", "sys_argv", "dir", "orig_dir", "init_main_from_name", "init_main_from_path")
# Not empty in a worker, which must not start workers when it imports the user's script.
_within: list[str] = []


class JobError(RuntimeError):
    """A job failed; `text` contains its number and its traceback, `place` is where the user's code failed."""

    def __init__(self, text: str, place: str = "") -> None:
        super().__init__(text, place)
        self.text, self.place = text, place

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class _Failure:
    """The error of a job."""

    told: str
    """Type and text in one line, then the traceback."""
    mistake: BaseException | None = None
    """The error itself, if its one line is meant for the user."""
    place: str = ""
    """The line of the user's own code, from `users_line`."""


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int = 1,
    ray: str | None = None,
    threads: int = 1,
    retries: int = 1,
    device: str = "cpu",
) -> Iterator[tuple[int, Result]]:
    """Return an iterator of each job's number and `function(job)`, in the order in which they finish.

    One worker is this process itself. Several workers are fresh Python processes. Each receives the function
    once, and then one job at a time. Their output goes to standard error. A worker that dies is replaced, and
    its job is repeated. Workers end within two seconds when the iterator is closed or this process ends,
    including by kill -9. A job is taken from the iterable when a worker is free, which is after the caller
    has taken its last result.

    Args:
        function: A picklable function, such as one of a module or a `functools.partial` of one. Bound
            arguments are sent once per worker.
        jobs: Picklable arguments, numbered from 0 in this order.
        workers: Number of processes; with `ray`, jobs at once (1 for as many as fit the cluster).
        ray: Address of a Ray cluster (`auto`, `HOST:PORT`, or `local` for one on this machine), whose nodes
            have this package installed; None for processes of this machine.
        threads: Torch threads of each worker; this process keeps its own number.
        retries: How often a job is repeated after its worker died.
        device: Where jobs compute; of a Ray cluster each takes a GPU for `cuda`, and for `auto` if there is
            one.

    Raises:
        ValueError: A number is out of range, the function or a job cannot be sent, the package ray is
            missing, or no node of the cluster has what a job takes. A `ValueError` or `OSError` of a job is
            raised unchanged; its cause is the traceback.
        JobError: A job raised another exception, or its workers died each time.

    >>> sorted(run_jobs(str.upper, ["a", "b"]))
    [(0, 'A'), (1, 'B')]
    """
    for name, value, least in (("workers", workers, 1), ("threads", threads, 1), ("retries", retries, 0)):
        if value < least:
            raise ValueError(f"{name} needs a number of at least {least}, got {value}")
    if ray is not None:
        return _on_ray(function, iter(jobs), workers, ray, threads, retries, device)
    if workers == 1:
        return _here(function, iter(jobs))
    if _within:
        raise RuntimeError(
            "a worker was about to start workers while it imported your script; put what the script does "
            'under `if __name__ == "__main__":`'
        )
    return _on_processes(_pickled(function, "function"), iter(jobs), workers, threads, retries)


def _here(function: Callable[[Job], Result], jobs: Iterator[Job]) -> Iterator[tuple[int, Result]]:
    for number, job in enumerate(jobs):
        try:
            result = function(job)
        except (ValueError, OSError):
            raise
        except Exception as error:
            raise JobError(f"job {number} failed: {_said(error)}", users_line(error)) from error
        yield number, result


def _on_processes(
    function: bytes, jobs: Iterator[Any], workers: int, threads: int, retries: int
) -> Iterator[tuple[int, Any]]:
    inbox: queue.SimpleQueue[tuple[_Worker, bytes | None]] = queue.SimpleQueue()
    tasks = ((number, _pickled(job, f"job {number}")) for number, job in enumerate(jobs))
    deaths: dict[int, int] = {}
    busy: list[_Worker] = []

    def begin(number: int, job: bytes) -> None:
        busy.append(_Worker(function, threads, inbox))
        busy[-1].give(number, job)

    try:
        for task in islice(tasks, workers):
            begin(*task)
        while busy:
            worker, answer = inbox.get()
            if worker not in busy:
                continue  # It was ended because no jobs were left.
            if answer is not None:
                yield worker.number, _opened(worker.number, pickle.loads(answer))
                if (following := next(tasks, None)) is not None:
                    worker.give(*following)
                    continue
            busy.remove(worker)
            ended = worker.end()
            if answer is None:
                deaths[worker.number] = deaths.get(worker.number, 0) + 1
                if deaths[worker.number] > retries:
                    raise JobError(
                        f"job {worker.number} was given up: its worker ended {deaths[worker.number]} times, "
                        f"last by {ended}; if memory ran out, take fewer workers or smaller batches"
                    )
                begin(worker.number, worker.job)
    finally:
        for worker in busy:
            worker.end()


# Threads that wait do not spin, and freed memory is kept for the next tensors (see `engine.keep_memory`).
_SPARING = {
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
}


class _Worker:
    """A local process, and the job that it does."""

    def __init__(
        self,
        function: bytes,
        threads: int,
        inbox: "queue.SimpleQueue[tuple[_Worker, bytes | None]]",
    ) -> None:
        # The kernel signals the end of the parent thread; only the main thread ends with the process.
        tied = threading.current_thread() is threading.main_thread()
        # An answer follows this mark: sitecustomize and libraries with a handle of their own print too.
        self._mark = secrets.token_hex(16).encode()
        serve = f"from {__name__} import _serve; _serve({tied}, {self._mark!r})"
        code = f"import sys; sys.path[:] = {sys.path!r}; {serve}"
        environment = {**_SPARING, **os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._requests = cast(IO[bytes], self.process.stdin)
        self._answers = cast(IO[bytes], self.process.stdout)
        self.number = -1
        self.job = b""
        self._unreadable = ""
        self._listener = threading.Thread(target=self._listen, args=(inbox,), daemon=True)
        self._listener.start()
        found = multiprocessing.spawn.get_preparation_data("worker")
        self._send((function, {key: found[key] for key in _MAIN_KEYS if key in found}, threads))

    def give(self, number: int, job: bytes) -> None:
        """Send a job."""
        self.number, self.job = number, job
        self._send(job)

    def end(self) -> str:
        """End the process if it runs; return how it ended."""
        self.process.kill()
        code = self.process.wait()
        self._listener.join()
        for stream in (self._requests, self._answers):
            # Closing flushes, which fails for a dead worker.
            with contextlib.suppress(OSError):
                stream.close()
        return self._unreadable or (f"signal {-code}" if code < 0 else f"exit code {code}")

    def _send(self, message: object) -> None:
        # The listener reports a worker that has died.
        with contextlib.suppress(OSError):
            pickle.dump(message, self._requests)
            self._requests.flush()

    def _listen(self, inbox: "queue.SimpleQueue[tuple[_Worker, bytes | None]]") -> None:
        try:
            while True:
                self._pass_on_what_it_printed()
                inbox.put((self, pickle.load(self._answers)))
        except (EOFError, OSError):
            pass
        # What unpickling raises depends on the byte.
        except Exception as error:
            self._unreadable = f"an answer that something else was written into ({_said(error)})"
        finally:
            inbox.put((self, None))

    def _pass_on_what_it_printed(self) -> None:
        """Read up to the mark that an answer follows, and write what comes before it to standard error."""
        printed = bytearray()
        while not printed.endswith(self._mark) and (byte := self._answers.read(1)):
            printed += byte
        if shown := printed.removesuffix(self._mark):
            with contextlib.suppress(OSError):
                os.write(2, shown)


def _serve(tied: bool, mark: bytes) -> None:
    """Do the jobs that arrive on standard input, until it ends; every answer follows the mark."""
    if tied and sys.platform == "linux":
        # The thread that watches the pipe cannot run while a library is being loaded.
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C reaches the whole process group; the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _within.append("worker")
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # The output of a job must not mix with the answers, and a job must not read the pipe of jobs.
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_watch, args=(requests, inbox), daemon=True).start()
    function, main, threads = inbox.get()

    @functools.cache
    def load() -> Callable[[Any], Any]:
        call: Callable[[Any], Any] = _loaded(function, main)
        # A job that loads torch later uses OMP_NUM_THREADS, and a job without torch does not load it.
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(threads)
        return call

    while True:
        job = inbox.get()
        try:
            answer = pickle.dumps(load()(_loaded(job, main)))
        except Exception as error:
            answer = pickle.dumps(_failure(error))
        answers.write(mark)
        pickle.dump(answer, answers)
        answers.flush()


def _watch(requests: IO[bytes], inbox: "queue.SimpleQueue[Any]") -> None:
    """Forward the messages of the parent; end the process when the parent has ended."""
    try:
        while True:
            inbox.put(pickle.load(requests))
    finally:
        os._exit(0)


def _loaded(content: bytes, main: Mapping[str, Any]) -> Any:
    """Unpickle, after importing the user's script if the content refers to it."""
    if b"__main__" in content:
        multiprocessing.spawn.prepare(dict(main))
    return pickle.loads(content)


def _pickled(value: object, what: str) -> bytes:
    try:
        return pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
        if "parametrized modules" in str(error):
            raise ValueError(
                f"the {what} cannot be sent to workers while layers of it are held, as by set_share or "
                "modulate; bake it first (fb.bake(model)), or use one worker"
            ) from error
        raise ValueError(
            f"the {what} cannot be sent to workers: {_said(error)}; define it and its classes in a module, "
            "or use one worker"
        ) from error


def _failure(error: Exception) -> _Failure:
    mistake = None
    if isinstance(error, ValueError | OSError):
        with contextlib.suppress(Exception):
            mistake = pickle.loads(pickle.dumps(error))
    told = f"{_said(error)}\n{traceback.format_exc()}"
    return _Failure(told=told, mistake=mistake, place=users_line(error))


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _opened(number: int, answer: Any) -> Any:
    """Return a result, or raise the error of the job."""
    if not isinstance(answer, _Failure):
        return answer
    told = JobError(f"job {number} failed: {answer.told}", answer.place)
    if answer.mistake is not None:
        raise answer.mistake from told
    raise told


def _on_ray(
    function: Callable[[Any], Any],
    jobs: Iterator[Any],
    workers: int,
    address: str,
    threads: int,
    retries: int,
    device: str,
) -> Iterator[tuple[int, Any]]:
    try:
        import ray
    except ImportError:
        raise ValueError(
            "a Ray cluster needs the package ray; install filterbands[ray], or use workers of this machine"
        ) from None
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError) as error:
            raise ValueError(f"no Ray cluster answers at {address}: {' '.join(str(error).split())}") from None

    def results() -> Iterator[tuple[int, Any]]:
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
            gpus, fitting = _asked_of(nodes, threads, device)
            # Ray's own pickle carries classes of the user's script by value.
            sent = ray.put(function)
            task = ray.remote(_ray_job).options(num_cpus=threads, num_gpus=gpus, max_retries=retries)
            drawn = enumerate(jobs)
            flying: dict[Any, int] = {}
            while True:
                for number, job in islice(drawn, (workers if workers > 1 else fitting) - len(flying)):
                    flying[task.remote(sent, job, threads, os.getcwd())] = number
                if not flying:
                    return
                [done], _ = ray.wait(list(flying), num_returns=1)
                number = flying.pop(done)
                try:
                    answer = ray.get(done)
                except ray.exceptions.RayError as error:
                    raise JobError(f"job {number} was given up by Ray: {_said(error)}") from error
                yield number, _opened(number, answer)
        finally:
            if started:
                ray.shutdown()

    return results()


def _asked_of(nodes: Sequence[Mapping[str, float]], threads: int, device: str) -> tuple[int, int]:
    """Return the GPUs that a job takes and how many jobs fit; Ray waits forever for what no node has."""
    kind = device.partition(":")[0]
    gpus = int(kind == "cuda" or (kind == "auto" and any(node.get("GPU", 0) >= 1 for node in nodes)))
    fits = [
        min(int(node.get("CPU", 0)) // threads, int(node.get("GPU", 0)) if gpus else 1 << 30)
        for node in nodes
    ]
    if not sum(fits):
        wanted = f"{threads} CPU{'s'[: threads > 1]}{' and a GPU' if gpus else ''}"
        raise ValueError(
            f"no node of the Ray cluster has {wanted}, which a job takes"
            f"; give fewer --threads{', or --device cpu' if gpus else ''}"
        )
    return gpus, sum(fits)


def _ray_job(function: Callable[[Any], Any], job: Any, threads: int, folder: str) -> Any:
    import torch

    torch.set_num_threads(threads)
    try:
        if os.path.isdir(folder):
            # Relative paths mean what they mean to the process that asks, where the node has its folder.
            os.chdir(folder)
        return function(job)
    except Exception as error:
        return _failure(error)
