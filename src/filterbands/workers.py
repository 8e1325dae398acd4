"""Independent jobs on local processes or on Ray; the only file that knows Ray.

Local workers are fresh interpreters that read jobs from their standard input. The end of that pipe is their
parent's end, so they stop in the middle of a job as soon as the parent is gone, however it went.

Neither `concurrent.futures` nor Pebble passes `tests/test_workers.py`. Their workers import the user's script
before they can watch their parent, and outlive it for as long. If one worker dies, `concurrent.futures` ends
all others with their jobs, and Pebble waits forever where the exit code was 0.
"""

import contextlib
import ctypes
import functools
import logging
import multiprocessing.spawn
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any, TypeVar, cast

# Torch is loaded by the workers after they have begun to watch their parent: it takes seconds.

Job = TypeVar("Job")
Result = TypeVar("Result")

_PDEATHSIG = 1
_MAIN_KEYS = ("sys_path", "sys_argv", "dir", "orig_dir", "init_main_from_name", "init_main_from_path")
# Set in a worker, whose import of the user's script must not start workers of its own.
_within: list[str] = []


class JobError(RuntimeError):
    """A job failed; the text has the job's number and the traceback from where it ran."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a job raised."""

    told: str
    """Type and text in one line, then the traceback."""
    mistake: BaseException | None = None
    """The error itself, where it is a user's mistake that has its own clear line."""


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    workers: int = 1,
    ray: str | None = None,
    threads: int = 1,
    retries: int = 1,
) -> Iterator[tuple[int, Result]]:
    """Return an iterator of each job's number and `function(job)`, in the order in which they finish.

    One worker is this process itself. More are fresh Python processes, each of which gets the function once
    and then a job at a time; what they print goes to standard error. A worker that dies is replaced and its
    job done again. Leaving the iterator early, or the end of this process by any cause, kill -9 too, ends
    them within two seconds. A job is drawn from the iterable when a worker is free, and that is when its
    last result was taken: what is drawn and was not yielded is in flight.

    Args:
        function: Anything that can be pickled, such as a function of a module or a `functools.partial` of
            one; bound arguments are sent once a worker.
        jobs: Arguments, which can be pickled; numbered from 0 as they are drawn.
        workers: Processes; with `ray`, jobs in flight at once (1 stands for as many as fit the cluster).
        ray: Address of a Ray cluster (`auto`, `HOST:PORT`, or `local` for one on this machine), whose nodes
            have this package installed; None for processes of this machine.
        threads: Torch threads of each worker; this process keeps its own number.
        retries: How often a job is done again after the death of its worker.

    Raises:
        ValueError: Numbers out of range, a function or job that cannot be sent, no package ray. A
            `ValueError` or `OSError` of a job comes as it is, with the traceback as its cause.
        JobError: Another exception in a job, or a job whose workers died each time.

    >>> sorted(run_jobs(str.upper, ["a", "b"]))
    [(0, 'A'), (1, 'B')]
    """
    for name, value, least in (("workers", workers, 1), ("threads", threads, 1), ("retries", retries, 0)):
        if value < least:
            raise ValueError(f"{name} needs a number of at least {least}, got {value}")
    if ray is not None:
        return _on_ray(function, iter(jobs), workers, ray, threads, retries)
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
            raise JobError(f"job {number} failed: {_said(error)}") from error
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
                continue  # It was ended for want of jobs.
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
        # Signals of the kernel at a parent's end go by thread: only the main thread's end is the process's.
        tied = threading.current_thread() is threading.main_thread()
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import _serve; _serve({tied})"
        environment = {**_SPARING, **os.environ, "OMP_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._requests = cast(IO[bytes], self.process.stdin)
        self._answers = cast(IO[bytes], self.process.stdout)
        self.number = -1
        self.job = b""
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
            # What could not be written to a dead worker cannot be flushed either.
            with contextlib.suppress(OSError):
                stream.close()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _send(self, message: object) -> None:
        # A worker that has died meanwhile is reported by its listener.
        with contextlib.suppress(OSError):
            pickle.dump(message, self._requests)
            self._requests.flush()

    def _listen(self, inbox: "queue.SimpleQueue[tuple[_Worker, bytes | None]]") -> None:
        with contextlib.suppress(EOFError, pickle.UnpicklingError, OSError):
            while True:
                inbox.put((self, pickle.load(self._answers)))
        inbox.put((self, None))


def _serve(tied: bool) -> None:
    """Do the jobs that come on standard input, until it ends: the whole life of a worker."""
    if tied and sys.platform == "linux":
        # The pipe tells everywhere, but to a thread, which waits while a library is being loaded.
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    # Ctrl-C reaches the whole group; the parent decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _within.append("worker")
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # A job's own prints must not end up among the answers, nor its reads take the jobs.
    os.dup2(2, 1)
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_watch, args=(requests, inbox), daemon=True).start()
    function, main, threads = inbox.get()

    @functools.cache
    def load() -> Callable[[Any], Any]:
        call: Callable[[Any], Any] = _loaded(function, main)
        # A job that loads torch later finds OMP_NUM_THREADS, and one without torch need not wait for it.
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(threads)
        return call

    while True:
        job = inbox.get()
        try:
            answer = pickle.dumps(load()(_loaded(job, main)))
        except Exception as error:
            answer = pickle.dumps(_failure(error))
        pickle.dump(answer, answers)
        answers.flush()


def _watch(requests: IO[bytes], inbox: "queue.SimpleQueue[Any]") -> None:
    """Pass on what the parent sends; end the process when the parent is gone."""
    try:
        while True:
            inbox.put(pickle.load(requests))
    finally:
        os._exit(0)


def _loaded(content: bytes, main: Mapping[str, Any]) -> Any:
    """Unpickle, after running the user's script as an import where something in it is named."""
    if b"__main__" in content:
        multiprocessing.spawn.prepare(dict(main))
    return pickle.loads(content)


def _pickled(value: object, what: str) -> bytes:
    try:
        return pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"the {what} cannot be sent to workers: {_said(error)}; define it and its classes in a module, "
            "or use one worker"
        ) from error


def _failure(error: Exception) -> _Failure:
    mistake = None
    if isinstance(error, ValueError | OSError):
        with contextlib.suppress(Exception):
            mistake = pickle.loads(pickle.dumps(error))
    return _Failure(told=f"{_said(error)}\n{traceback.format_exc()}", mistake=mistake)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _opened(number: int, answer: Any) -> Any:
    """Return a result; raise what came in its place."""
    if not isinstance(answer, _Failure):
        return answer
    told = JobError(f"job {number} failed: {answer.told}")
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
            # Ray's own pickle carries classes of the user's script by value.
            sent = ray.put(function)
            task = ray.remote(_ray_job).options(num_cpus=threads, max_retries=retries)
            fitting = max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)  # type: ignore[no-untyped-call]
            drawn = enumerate(jobs)
            flying: dict[Any, int] = {}
            while True:
                for number, job in islice(drawn, (workers if workers > 1 else fitting) - len(flying)):
                    flying[task.remote(sent, job, threads)] = number
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


def _ray_job(function: Callable[[Any], Any], job: Any, threads: int) -> Any:
    import torch

    torch.set_num_threads(threads)
    try:
        return function(job)
    except Exception as error:
        return _failure(error)
