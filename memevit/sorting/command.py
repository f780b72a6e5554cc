"""The whole sorting run: inputs, rows, files, progress, summary; everything but the model."""

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from memevit import cores, decoding, labels
from memevit.errors import Interrupted, UserError
from memevit.sorting import inputs, processes, rows, summary, watch
from memevit.sorting import undo as undoing
from memevit.sorting.contact_sheet import ContactSheets
from memevit.sorting.placement import Placer, open_placer
from memevit.sorting.rows import Row, Write
from memevit.sorting.run import Sorter
from memevit.sorting.watch import Arrivals

logger = logging.getLogger(__name__)

STANDARD_OUTPUT = Path("-")
_POSTFIX_EVERY_S = 0.5
_N_AHEAD_PER_PROCESS = 64  # At least as many files as a decoding process reads ahead.


class Classifier(Protocol):
    """A model that says something about files: see `memevit.model.classifier`."""

    class_names: list[str]

    def classify(self, paths: Iterable[Path], **options: Any) -> Iterator[Any]:
        """A `Classification` per path, in order."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `sort` is to do: the flags of sort_memes.py, which its --help explains."""

    model: Path
    into: Path | None = None
    link: bool = False
    move: bool = False
    dry_run: bool = False
    watch: Path | None = None
    unknown: bool = True
    min_probability: float = 0.0
    output: Path | None = None
    format: str = "csv"
    top_k: int | None = None
    contact_sheet: Path | None = None
    frames: int = 1
    fast: bool = False
    batch_size: int = 32
    num_proc: int | None = None


@dataclass(frozen=True)
class Team:
    """The processes of one run: this one's number, how many there are, a name nobody else has, and how to wait."""

    rank: int
    n: int
    token: str
    wait: Callable[[], None]


def undo(log: Path) -> None:
    """Put back what the run with this log has filed, and say what that was."""
    found = undoing.undo(log, shown=lambda records: tqdm(records, desc="Undo", unit="file", mininterval=0.5))
    for line in summary.undone_lines(found, log):
        logger.info("%s", line)
    if n_kept := found.counts[undoing.KEPT]:
        raise UserError(f"{summary.plural(n_kept, 'file')} could not be put back; see above. Nothing was deleted.")


def sort(options: Options, paths: list[str], load: Callable[[], Classifier], team: Team | None = None) -> None:
    """Classify every file of `paths`, write the rows and file the images.

    Args:
        options: what to do.
        paths: see `inputs.find`.
        load: the model; called when all else is known to be right.
        team: the processes that share the work; None for one alone.

    Raises:
        UserError: an input is missing, a folder can't be written, or files could not be filed.
        Interrupted: SIGTERM.
    """
    if team is not None and team.rank > 0:
        team.wait()
        classify = _row_maker(options, load(), team)
        processes.serve(_shared_folder(options, team), team.rank, classify)
        return
    if options.watch is not None:
        paths = [str(options.watch), *paths]
    if not paths:
        raise UserError("Nothing to sort. Name images or folders, - for a list on standard input, or --watch FOLDER.")
    _require_other_folder(options, paths)
    inputs.find(paths)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_sigterm_interrupts())
        if team is not None:
            shared_folder = _shared_folder(options, team)
            shared_folder.mkdir(parents=True)
            stack.callback(shutil.rmtree, shared_folder, ignore_errors=True)
            team.wait()
        stack.enter_context(decoding.early())
        classifier = load()
        placer = _placer(options, paths, classifier, stack)
        classify = _row_maker(options, classifier, team)
        if team is not None:
            n_ahead = _N_AHEAD_PER_PROCESS * _n_processes(options, team) + 4 * options.batch_size
            classify = processes.shared(shared_folder, team.n, classify, block=options.batch_size, n_ahead=n_ahead)
        run = _Run(options, paths, classifier.class_names, classify, placer)
        run.run()
        if team is not None:
            processes.wait_for_others(shared_folder, team.n)
    run.require_all_filed()


def _require_other_folder(options: Options, paths: list[str]) -> None:
    for path in paths:
        if options.into is not None and os.path.isdir(path) and options.into.exists():
            if os.path.samefile(path, options.into):
                raise UserError(f"--into {options.into} is the folder to sort. Name another one, or one inside of it.")


def _placer(options: Options, paths: list[str], classifier: Classifier, stack: contextlib.ExitStack) -> Placer | None:
    if options.into is None:
        return None
    action = "move" if options.move else "link" if options.link else "copy"
    header = {"model": os.path.abspath(options.model), "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    opened = open_placer(
        options.into, action, classifier.class_names, inputs=[Path(path) for path in paths], header=header,
        is_dry_run=options.dry_run,
    )  # fmt: skip
    return stack.enter_context(opened)


def _row_maker(
    options: Options, classifier: Classifier, team: Team | None
) -> Callable[[Iterable[Path]], Iterator[Row]]:
    more: dict[str, Any] = {"n_frames": options.frames} if options.frames > 1 else {}
    if options.fast:
        more["is_fast"] = True

    def classify(paths: Iterable[Path]) -> Iterator[Row]:
        found = classifier.classify(
            paths, batch_size=options.batch_size, n_processes=_n_processes(options, team), **more
        )
        for one in found:
            yield rows.row_of(
                str(one.path),
                classifier.class_names,
                one.probabilities,
                one.problem,
                known_score=getattr(one, "known_score", None),
                accepted=getattr(one, "accepted", None),
                reason=getattr(one, "reason", "") or "",
                min_probability=options.min_probability,
                top_k=options.top_k,
                is_filed=options.into is not None,
            )

    return classify


def _n_processes(options: Options, team: Team | None) -> int:
    local = int(os.environ.get("LOCAL_WORLD_SIZE", team.n)) if team is not None else 1
    return options.num_proc or max(1, cores.n_cores() // local)


def _shared_folder(options: Options, team: Team) -> Path:
    """A folder that all processes see: where the results go, else that for temporary files."""
    if options.output is not None and options.output != STANDARD_OUTPUT:
        base = options.output.parent
    elif options.into is not None and not options.dry_run:
        base = options.into.parent
    else:
        base = Path(tempfile.gettempdir())
    return base / f".sorting-{team.token}"


class _Run:
    """One run in the first or only process."""

    def __init__(self, options: Options, paths: list[str], class_names: list[str], classify, placer: Placer | None):
        self._options, self._paths, self._class_names = options, paths, class_names
        self._classify, self._placer = classify, placer
        self._sheets = ContactSheets() if options.contact_sheet is not None else None
        self._started = time.monotonic()

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            write = stack.enter_context(self._writer())
            bar = stack.enter_context(self._progress())
            sorter = Sorter(
                self._classify, self._blank, self._shown(write, bar), placer=self._placer, seen=self._seen,
                group_size=self._options.batch_size,
            )  # fmt: skip
            self._counts = sorter.counts
            try:
                if self._options.watch is None:
                    sorter.sort(self._inputs())
                else:
                    self._watch(sorter)
            finally:
                bar.set_postfix_str(summary.running(self._counts.labels))
                bar.close()
                self._say_summary()

    def require_all_filed(self) -> None:
        """Raise a `UserError` if an image could not be filed."""
        if n := self._counts.n_failed:
            raise UserError(
                f"{summary.plural(n, 'image')} could not be filed and {'is' if n == 1 else 'are'} where "
                f"{'it was' if n == 1 else 'they were'}; the rows (--output) say why. The same command tries again."
            )

    def _inputs(self) -> Iterator[inputs.Input]:
        options = self._options
        left_out = [path for path in (options.into, options.output, options.contact_sheet) if path is not None]
        return inputs.find(self._paths, stdin=getattr(sys.stdin, "buffer", None), left_out=left_out)

    def _watch(self, sorter: Sorter) -> None:
        arrivals = Arrivals(self._inputs, interval_s=watch.INTERVAL_S, settled_s=watch.SETTLED_S)
        sorter.postpone = lambda row, path: row["label"] == labels.UNREADABLE and arrivals.again(path)
        logger.info("Watching %s; stop with Ctrl-C", self._options.watch)
        with contextlib.suppress(KeyboardInterrupt, Interrupted):
            for batch in arrivals.batches():
                sorter.sort(batch)

    def _blank(self, file: str, problem: str) -> Row:
        is_filed = self._placer is not None
        return rows.row_of(file, self._class_names, None, problem, top_k=self._options.top_k, is_filed=is_filed)

    def _seen(self, row: Row, path: Path) -> None:
        if self._sheets is not None:
            self._sheets.add(row, path)
        if self._options.watch is not None:
            where = row.get("placed") or ""
            logger.info("%s", f"{row['file']}: {row['label']}{f' -> {where}' if where else ''}")

    @contextlib.contextmanager
    def _writer(self) -> Iterator[Write]:
        options = self._options
        if options.output is None and options.into is not None and not options.dry_run:
            yield lambda row: None
            return
        output = None if options.output == STANDARD_OUTPUT else options.output
        names = rows.columns(self._class_names, top_k=options.top_k, is_filed=options.into is not None)
        with rows.writer(output, options.format, names, at_once=options.watch is not None) as write:
            yield write

    def _shown(self, write: Write, bar: tqdm) -> Write:
        last = 0.0

        def write_and_count(row: Row) -> None:
            nonlocal last
            write(row)
            if (now := time.monotonic()) - last > _POSTFIX_EVERY_S:
                last = now
                bar.set_postfix_str(summary.running(self._counts.labels), refresh=False)
            bar.update()

        return write_and_count

    def _progress(self) -> tqdm:
        options = self._options
        rows_are_shown = sys.stdout.isatty() and (
            options.output == STANDARD_OUTPUT or (options.output is None and (options.into is None or options.dry_run))
        )
        bar = tqdm(unit="image", mininterval=0.5, disable=rows_are_shown or options.watch is not None)
        if inputs.STANDARD_INPUT not in self._paths and not bar.disable:
            threading.Thread(target=self._count, args=(bar,), daemon=True).start()
        return bar

    def _count(self, bar: tqdm) -> None:
        """Tell the progress bar how many files there are, as soon as that is known."""
        n = 0
        with contextlib.suppress(Exception):
            for _ in self._inputs():
                n += 1
                if bar.disable:  # The run is over.
                    return
            bar.total = n

    def _say_summary(self) -> None:
        if not self._counts.total:
            logger.info("No files to sort")
            return
        seconds = time.monotonic() - self._started
        for line in summary.lines(self._counts, seconds, self._placer):
            logger.info("%s", line)
        if self._sheets is not None:
            written = self._sheets.write(self._options.contact_sheet)
            logger.info(
                "%s to look at in %s", summary.plural(len(written), "contact sheet"), self._options.contact_sheet
            )


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: between two actions, and with a summary."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
