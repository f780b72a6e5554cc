"""A pool of processes that decode files in input order and survives files that crash or hang their decoder.

    python -P -m memevit.decoding FD

is such a process: through the socket FD it receives a function and then its arguments, and sends back the results. It
is not a `multiprocessing` worker, because those import the main script again, and with it torch.
"""

import contextlib
import functools
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from memevit import pixels
from memevit.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

TIMEOUT_S = 120.0  # The largest image that is accepted takes a few seconds.
_ATTEMPTS = 2  # The system may kill a process for the memory that others took.
_AHEAD_PER_PROCESS = 32
_ITEMS_WORTH_A_PROCESS = 64  # Starting a process takes a few tenths of a second.
# glibc returns the memory of every image to the system, and clearing new pages takes a fifth of the time to decode a
# full-HD JPEG. These variables let a process keep up to 64 MiB instead; other C libraries ignore them.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}
CRASHED = "the decoder crashed on it"
TOO_SLOW = f"not decoded within {TIMEOUT_S:.0f} s"


@dataclass(frozen=True)
class Failure:
    """Why an item has no result: its process crashed twice, or did not answer in time."""

    reason: str


def decoded(
    paths: Iterable[Path], render: Callable[[Image.Image], np.ndarray], *, n_processes: int
) -> Iterator[tuple[Path, np.ndarray | str]]:
    """Every path with its pixels [3, H, W] uint8, or with the reason why there are none.

    Args:
        paths: read as results are taken, so that a million of them need no memory.
        render: pixels of a decoded RGB image; picklable.
        n_processes: processes that decode; with 0 this process decodes, and a crash ends it.
    """
    results = mapped(functools.partial(decode, render=render), paths, n_processes=n_processes)
    with contextlib.closing(results):
        for path, result in results:
            yield path, result.reason if isinstance(result, Failure) else result


def decode(path: Path, render: Callable[[Image.Image], np.ndarray]) -> np.ndarray | str:
    """Pixels [3, H, W] uint8 of one file, or the reason why there are none."""
    try:
        return render(pixels.load_image(path))
    except pixels.UnreadableImageError as error:
        return str(error)


@contextlib.contextmanager
def early() -> Iterator[None]:
    """Start a process before the pool that takes it, so that it comes up while something else is loaded."""
    decoder = _Decoder()
    _early.append(decoder)
    try:
        yield
    finally:
        if decoder in _early:
            _early.remove(decoder)
            decoder.kill()
            decoder.close()


def map_ordered(
    function: Callable[[Item], Result],
    items: list[Item],
    *,
    n_processes: int,
    description: str,
    unit: str = "image",
    failed: Callable[[Item, str], Result] | None = None,
) -> Iterator[Result]:
    """`function` of every item, in order, with a progress bar on stderr.

    Args:
        function: importable by name, since other processes run it.
        items: picklable arguments.
        n_processes: few items use fewer processes than that.
        description: stands before the bar.
        unit: what an item is.
        failed: the result of an item that crashes or hangs its process, from the item and the reason. Without it the
            items are trusted, and a few of them run in this process.

    Raises:
        UserError: a process was lost and `failed` is not given.
    """
    n_processes = min(n_processes, 1 + len(items) // _ITEMS_WORTH_A_PROCESS)
    if failed is None and n_processes == 1:
        n_processes = 0
    results = mapped(function, items, n_processes=n_processes)
    with contextlib.closing(results), tqdm(total=len(items), desc=description, unit=unit, mininterval=0.5) as progress:
        for item, result in results:
            if isinstance(result, Failure):
                if failed is None:
                    raise UserError(
                        f"A process was lost after {progress.n} of {len(items)} items ({result.reason}), most likely "
                        f"for want of memory. Run again with a smaller --num_proc than {n_processes}."
                    )
                result = failed(item, result.reason)
            yield result
            progress.update()


def mapped(
    function: Callable[[Item], Result], items: Iterable[Item], *, n_processes: int
) -> Iterator[tuple[Item, Result | Failure]]:
    """Every item with `function` of it, in order.

    Args:
        function: importable by name; what it raises is raised here.
        items: read as results are taken.
        n_processes: processes that run `function`; with 0 this process does, and a crash ends it.
    """
    if n_processes == 0:
        yield from ((item, function(item)) for item in items)
        return
    team = _Team(function)
    pool = ThreadPoolExecutor(n_processes, thread_name_prefix="decoder")
    try:
        yield from in_order(pool, team.ask, items, n_ahead=_AHEAD_PER_PROCESS * n_processes)
    finally:
        team.kill()
        pool.shutdown(cancel_futures=True)
        team.close()


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], *, n_ahead: int
) -> Iterator[tuple[Item, Result]]:
    """Every item with `function` of it, in order; at most `n_ahead` items are read before their results are taken."""
    waiting: deque[tuple[Item, Future]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) >= n_ahead:
            done, future = waiting.popleft()
            yield done, future.result()
    while waiting:
        done, future = waiting.popleft()
        yield done, future.result()


class _Team:
    """One process per thread, started when the thread first needs it."""

    def __init__(self, function: Callable) -> None:
        self._function = function
        self._own = threading.local()
        self._started: list[_Decoder] = []
        self._lock = threading.Lock()
        self._is_stopped = False

    def ask(self, item: object) -> Any:
        """The result of `item`, or a `Failure`."""
        problem = CRASHED
        for _ in range(_ATTEMPTS):
            decoder = getattr(self._own, "decoder", None) or self._start()
            try:
                return decoder.ask(item)
            except TimeoutError:
                problem = TOO_SLOW
                break
            except EOFError:
                if self._is_stopped:
                    break
            finally:
                if decoder.is_lost:
                    decoder.kill()
                    decoder.close()
                    self._own.decoder = None
        return Failure(problem)

    def _start(self) -> "_Decoder":
        with self._lock:
            if self._is_stopped:
                raise RuntimeError("the decoders have been stopped")
            decoder = _early.pop() if _early else _Decoder()
            decoder.give(self._function)
            self._started = [one for one in self._started if not one.is_lost] + [decoder]
        self._own.decoder = decoder
        return decoder

    def kill(self) -> None:
        """End all processes; whoever waits for an answer gets none."""
        with self._lock:
            self._is_stopped = True
            for decoder in self._started:
                decoder.kill()

    def close(self) -> None:
        """Close all sockets, when nobody waits any more."""
        for decoder in self._started:
            decoder.close()


class _Decoder:
    """A process that handles one item at a time, seen from outside."""

    def __init__(self) -> None:
        ours, theirs = Pipe()
        root = str(Path(__file__).parents[1])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = _KEEP_MEMORY | os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C in the terminal is for us; this process ends when the socket closes.
            )
        self._socket: Connection = ours
        self.is_lost = self._is_ready = False

    def give(self, function: Callable) -> None:
        """Say what is to be done with each item."""
        with contextlib.suppress(OSError):  # A process that died at once is noticed at the first question.
            self._socket.send(function)

    def ask(self, item: object) -> Any:
        """The result of `item`; what the function raises is raised here.

        Raises:
            TimeoutError: no answer within `TIMEOUT_S`.
            EOFError: the process died.
        """
        self._wait_until_ready()
        try:
            self._socket.send(item)
            if not self._socket.poll(TIMEOUT_S):
                raise TimeoutError
            is_result, answer = self._socket.recv()
        except TimeoutError:
            self.is_lost = True
            raise
        except (EOFError, OSError) as error:
            self.is_lost = True
            raise EOFError from error
        if is_result:
            return answer
        raise answer

    def _wait_until_ready(self) -> None:
        """A process that never came to its first item is no fault of the item."""
        if self._is_ready:
            return
        try:
            self._is_ready = self._socket.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("a process that decodes images could not be started") from error

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._socket.close()


_early: list[_Decoder] = []  # Started by `early`, and not taken yet.


def serve(socket: Connection) -> None:
    """Answer questions; end the process, even in the middle of a file, when the other end closes."""
    function = socket.recv()
    socket.send(True)
    questions: queue.SimpleQueue = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(socket, questions), daemon=True).start()
    while True:
        item = questions.get()
        try:
            answer = (True, function(item))
        except Exception as error:
            answer = (False, error)
        socket.send(answer)


def _receive(socket: Connection, questions: queue.SimpleQueue) -> None:
    """Put what arrives into `questions`; a process whose parent was killed must not write files any more."""
    try:
        while True:
            questions.put(socket.recv())
    except (EOFError, OSError):
        os._exit(1)


def main() -> None:
    """Serve the socket that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
