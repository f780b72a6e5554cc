"""A process pool with a progress bar that gives results in input order."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

from memevit.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

_ITEMS_WORTH_A_PROCESS = 64  # Starting a worker costs about a second.
_CHUNK = 16


def _end_with_parent() -> None:
    """End this worker when its parent is killed: otherwise it would wait for work for ever, or still write files."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def map_ordered(
    function: Callable[[Item], Result], items: list[Item], *, n_processes: int, description: str, unit: str = "image"
) -> Iterator[Result]:
    """`function` of every item, in order, with a progress bar on stderr.

    Args:
        function: importable by name, since it runs in other processes.
        items: picklable arguments.
        n_processes: 1 stays in this process; few items use fewer processes than asked for.
        description: stands before the bar.
        unit: what an item is.

    Raises:
        UserError: a worker died, which is what the system does to a process that takes too much memory.
    """
    n_processes = min(n_processes, 1 + len(items) // _ITEMS_WORTH_A_PROCESS)
    progress = tqdm(total=len(items), desc=description, unit=unit, mininterval=0.5)
    with progress:
        if n_processes == 1:
            for item in items:
                yield function(item)
                progress.update()
            return
        context = multiprocessing.get_context("spawn")
        executor = ProcessPoolExecutor(n_processes, mp_context=context, initializer=_end_with_parent)
        try:
            for result in executor.map(function, items, chunksize=_CHUNK):
                yield result
                progress.update()
        except BrokenProcessPool as error:
            raise UserError(
                f"A worker died after {progress.n} of {len(items)} items, most likely for want of memory. "
                f"Run again with a smaller --num_proc than {n_processes}."
            ) from error
        finally:
            executor.shutdown(cancel_futures=True)
