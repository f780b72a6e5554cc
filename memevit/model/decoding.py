"""Pictures decoded by other processes, in input order, whatever a file does to the process that opens it.

    python -P -m memevit.model.decoding FD

is such a process: it gets a `Render` and then paths through the socket FD, and answers with levels or a reason. It is
no `multiprocessing` worker, because those import the main script again, and with it torch.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import numpy as np

from memevit import pixels
from memevit.model.geometry import Render

TIMEOUT_S = 120.0  # The largest picture that is accepted takes a few seconds.
_ATTEMPTS = 2  # The system may kill a process for the memory that others took.
_AHEAD_PER_PROCESS = 32
# glibc gives the memory of every picture back to the system, and clearing new pages takes a fifth of the decoding of a
# full-HD JPEG. These bytes let a process keep up to 64 MiB instead; other C libraries don't look at them.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 2**20), "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20)}
CRASHED = "the decoder crashed on it"
TOO_SLOW = f"not decoded within {TIMEOUT_S:.0f} s"


def decoded(paths: Iterable[Path], render: Render, *, n_processes: int) -> Iterator[tuple[Path, np.ndarray | str]]:
    """Every path with its levels [3, H, W] uint8, or with the reason why there are none.

    Args:
        paths: read as results are taken, so that a million of them need no room.
        render: makes levels of a decoded picture.
        n_processes: that decode; with 0 this process does it itself, and a crash is its own.
    """
    if n_processes == 0:
        yield from ((path, decode(path, render)) for path in paths)
        return
    pool = ThreadPoolExecutor(n_processes, thread_name_prefix="decoder")
    team = _Team(render)
    waiting: deque[tuple[Path, Future]] = deque()
    try:
        for path in paths:
            waiting.append((path, pool.submit(team.decode, path)))
            if len(waiting) >= _AHEAD_PER_PROCESS * n_processes:
                done_path, future = waiting.popleft()
                yield done_path, future.result()
        while waiting:
            done_path, future = waiting.popleft()
            yield done_path, future.result()
    finally:
        team.kill()
        pool.shutdown(cancel_futures=True)
        team.close()


def decode(path: Path, render: Render) -> np.ndarray | str:
    """Levels [3, H, W] uint8 of one file, or the reason why there are none."""
    try:
        return render(pixels.load_image(path))
    except pixels.UnreadableImageError as error:
        return str(error)


class _Team:
    """One process per thread, started when the thread first needs it."""

    def __init__(self, render: Render) -> None:
        self._render = render
        self._own = threading.local()
        self._started: list[_Decoder] = []
        self._lock = threading.Lock()
        self._is_stopped = False

    def decode(self, path: Path) -> np.ndarray | str:
        problem = CRASHED
        for _ in range(_ATTEMPTS):
            decoder = getattr(self._own, "decoder", None) or self._start()
            try:
                return decoder.ask(path)
            except TimeoutError:
                problem = TOO_SLOW
                break
            except (EOFError, OSError):
                if self._is_stopped:
                    break
            finally:
                if decoder.is_lost:
                    decoder.kill()
                    decoder.close()
                    self._own.decoder = None
        return problem

    def _start(self) -> "_Decoder":
        with self._lock:
            if self._is_stopped:
                raise RuntimeError("the decoders have been stopped")
            decoder = _Decoder(self._render)
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
    """A process that decodes one file at a time, seen from outside."""

    def __init__(self, render: Render) -> None:
        ours, theirs = Pipe()
        root = str(Path(__file__).parents[2])
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
        with contextlib.suppress(OSError):  # A process that died at once is noticed at the first question.
            ours.send(render)

    def ask(self, path: Path) -> np.ndarray | str:
        self._wait_until_ready()
        try:
            self._socket.send(path)
            if not self._socket.poll(TIMEOUT_S):
                raise TimeoutError
            answer = self._socket.recv()
            if isinstance(answer, str):
                return answer
            return np.frombuffer(self._socket.recv_bytes(), dtype=np.uint8).reshape(answer)
        except (EOFError, OSError):
            self.is_lost = True
            raise

    def _wait_until_ready(self) -> None:
        """A process that never came to its first file is no fault of the file."""
        if self._is_ready:
            return
        try:
            self._is_ready = self._socket.recv()
        except (EOFError, OSError) as error:
            raise RuntimeError("a process that decodes pictures could not be started") from error

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._socket.close()


def serve(socket: Connection) -> None:
    """Answer questions until the other end closes."""
    render = socket.recv()
    socket.send(True)
    while True:
        answer = decode(socket.recv(), render)
        if isinstance(answer, str):
            socket.send(answer)
        else:
            socket.send(answer.shape)
            socket.send_bytes(answer.reshape(-1))


def main() -> None:
    """Serve the socket that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
