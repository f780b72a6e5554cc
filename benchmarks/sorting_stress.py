"""Nothing is lost: thousands of damaged and oddly named files are sorted, and runs are killed at random moments.

    python -m benchmarks.sorting_stress
    python -m benchmarks.sorting_stress --n_files 2000 --n_kills 20

The files are decoded by Pillow and labelled by their colour: what is tested is filing, not a model. After every run all
inputs are looked up: each must have one row, lie unharmed where it was or, byte for byte, where its row says. Undo must
restore contents, times and permissions of everything. Started as root on Linux, it also fills a small disk, files onto
another file system and works as a user who lacks permissions; otherwise these parts are skipped, as the result says.
Writes benchmarks/results/sorting_stress.json.
"""

import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from memevit import cli, files, pixels, results
from memevit.errors import UserError
from memevit.sorting import command, journal

logger = logging.getLogger(__name__)

ACTIONS = ("copy", "link", "move")
_NOBODY = 65534
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_WRONG = (
    b"<!DOCTYPE html><html>",
    b"\x00\x00\x00\x18ftypmp42",
    b"PK\x03\x04",
    b"%PDF-1.7",
    b"\x7fELF",
    b"#!/bin/sh\nrm -rf /\n",
)
_ODD_NAMES = (
    "line\nbreak", "escape\x1b[2J\x1b]0;title\x07", "tab\t", "\u202egnp", "quote'\"`$(id)", "semi;colon|&", "-dash",
    "=1+1", "..dots..", "trailing ", "trailing.", "CON", "ümläut", "e\u0301", "\U0001f600", "%s%n{}", "a" * 240,
    "back\\slash", "\x9b2J", "star*?[x]",
)  # fmt: skip
_CLASSES = ["red/ish", "green", "blue", "unknown"]


@dataclass
class StressArguments:
    """How much is tried."""

    n_files: int = field(default=10_000, metadata={"help": "Files of the large runs."})
    n_kills: int = field(default=100, metadata={"help": "Runs that are killed."})
    n_files_killed: int = field(default=400, metadata={"help": "Files of the runs that are killed."})
    seed: int = field(default=0, metadata={"help": "Of the files and the moments."})
    work_dir: Path | None = field(default=None, metadata={"help": "Where to work; a temporary folder by default."})
    output: Path = field(default=Path("benchmarks/results/sorting_stress.json"), metadata={"help": "The numbers."})


@dataclass(frozen=True)
class Said:
    """What the stand-in for a model says."""

    path: Path
    probabilities: np.ndarray | None
    problem: str = ""
    accepted: bool | None = None


class ByColour:
    """Labels images by their colour; some files vanish just after it has seen them."""

    class_names = _CLASSES

    def __init__(self, *, vanishing: Iterable[Path] = ()) -> None:
        self._vanishing = set(vanishing)

    def classify(self, paths: Iterable[Path], *, batch_size: int, n_processes: int) -> Iterator[Said]:
        """One `Said` per path; reads a batch ahead, as a model does."""
        batch: list[Path] = []
        for path in paths:
            batch.append(path)
            if len(batch) == batch_size:
                yield from map(self._said, batch)
                batch = []
        yield from map(self._said, batch)

    def _said(self, path: Path) -> Said:
        try:
            mean = np.asarray(pixels.load_image(path).resize((8, 8))).mean(axis=(0, 1))
        except pixels.UnreadableImageError as error:
            return Said(path, None, str(error))
        finally:
            if path in self._vanishing:
                path.unlink(missing_ok=True)
        values = np.append(mean, 1.0) / (mean.sum() + 1.0)
        return Said(path, values, accepted=bool(values.max() > 0.34))


# ---- Files ----


def write_inbox(folder: Path, n: int, rng: random.Random, *, with_special: bool = True) -> Counter[str]:
    """Write `n` files of all kinds and return how many of each kind."""
    kinds: Counter[str] = Counter()
    images = [_image(rng, image_format) for image_format in _FORMATS for _ in range(8)]
    for number in range(n):
        kind = rng.choices(list(_KINDS), [weight for weight, _ in _KINDS.values()])[0]
        sub_folder = folder / rng.choice(["", "", "a", "b", "b/c", "odd \x1b[31m name", "sp ace"])
        sub_folder.mkdir(parents=True, exist_ok=True)
        name = f"{number}.{rng.choice(['jpg', 'png', 'gif', 'webp', 'JPEG', ''])}"
        if rng.random() < 0.15:
            name = f"{rng.choice(_ODD_NAMES)}"[: 240 - len(name)] + name
        if rng.random() < 0.02:
            name = os.fsdecode(b"\xff\xfe" + os.fsencode(name)[:200])
        if rng.random() < 0.3:
            name = f"same{rng.randrange(5)}.jpg"
        path = sub_folder / name
        if os.path.lexists(path):
            path = sub_folder / f"{number}-{name}"
        _KINDS[kind][1](path, bytearray(rng.choice(images) + number.to_bytes(4, "big")), rng)
        kinds[kind] += 1
        if path.is_file() and not path.is_symlink():
            os.utime(path, ns=(10**18, rng.randrange(10**18, 17 * 10**17)))
    if with_special:
        os.mkfifo(folder / "pipe.jpg")
        (folder / "self").symlink_to(folder)
        (folder / "up").symlink_to("..")
        with (folder / "sparse.jpg").open("wb") as file:
            file.truncate(200_000_000)
        kinds["special"] = 4
    return kinds


def _image(rng: random.Random, image_format: str) -> bytes:
    tint = np.array([rng.randrange(20, 256) for _ in range(3)])
    noise = np.random.default_rng(rng.randrange(2**31)).integers(0, 2, (24, 32, 3))
    content = io.BytesIO()
    Image.fromarray((tint * (0.5 + noise / 2)).astype(np.uint8)).save(content, image_format)
    return content.getvalue()


def _whole(path: Path, content: bytearray, rng: random.Random) -> None:
    path.write_bytes(content)


def _truncated(path: Path, content: bytearray, rng: random.Random) -> None:
    path.write_bytes(content[: rng.randrange(1, len(content) - 4)] + content[-4:])


def _flipped(path: Path, content: bytearray, rng: random.Random) -> None:
    for _ in range(rng.choice([1, 3, 30])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _wrong_type(path: Path, content: bytearray, rng: random.Random) -> None:
    path.write_bytes(rng.choice(_WRONG) + content[-40:])


def _bomb(path: Path, content: bytearray, rng: random.Random) -> None:
    header = io.BytesIO()
    Image.new("L", (1, 1)).save(header, "PNG")
    bomb = bytearray(header.getvalue())
    bomb[16:24] = rng.randrange(20_000, 2**31).to_bytes(4, "big") * 2
    path.write_bytes(bytes(bomb) + content[-4:])


def _link(path: Path, content: bytearray, rng: random.Random) -> None:
    others = [other for other in sorted(path.parent.iterdir()) if other.is_file()][:50]
    target = (
        rng.choice(others).name if others and rng.random() < 0.7 else rng.choice(["nowhere", "/dev/null", path.name])
    )
    path.symlink_to(target)


def _hard_link(path: Path, content: bytearray, rng: random.Random) -> None:
    others = [other for other in sorted(path.parent.iterdir()) if other.is_file() and not other.is_symlink()][:50]
    os.link(rng.choice(others), path) if others else path.write_bytes(content)


def _duplicate(path: Path, content: bytearray, rng: random.Random) -> None:
    path.write_bytes(content[:-4])


def _read_only(path: Path, content: bytearray, rng: random.Random) -> None:
    path.write_bytes(content)
    path.chmod(rng.choice([0o444, 0o400, 0o000]))


def _large(path: Path, content: bytearray, rng: random.Random) -> None:
    path.write_bytes(content + rng.randbytes(1 << 18))


_KINDS: dict[str, tuple[float, Callable[[Path, bytearray, random.Random], None]]] = {
    "whole": (30, _whole),
    "truncated": (20, _truncated),
    "bits flipped": (20, _flipped),
    "wrong type": (8, _wrong_type),
    "empty": (2, lambda path, content, rng: path.touch()),
    "enormous dimensions": (3, _bomb),
    "symbolic link": (4, _link),
    "hard link": (3, _hard_link),
    "duplicate": (6, _duplicate),
    "read-only or unreadable": (3, _read_only),
    "256 kB": (1, _large),
}


def snapshot(folder: Path) -> dict[str, tuple]:
    """Kind, content, time of change and permissions of everything below `folder`."""
    found = {}
    for root, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(root, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                what: tuple = ("link", os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                what = ("file", _digest(path, status), status.st_mtime_ns, status.st_mode)
            else:
                what = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode))
            found[os.path.relpath(path, folder)] = what
    return found


def _digest(path: str, status: os.stat_result) -> str:
    if status.st_size >= 10**8:
        return str(status.st_size)
    with open(path, "rb") as file:
        return hashlib.blake2b(file.read(), digest_size=16).hexdigest()


def is_hidden(name: str) -> bool:
    """Whether a walk passes over a path."""
    return any(part.startswith(".") for part in Path(name).parts)


# ---- Runs in processes of their own ----


@dataclass
class Outcome:
    """How a run ended: exit code (negative for a signal), what it printed, and its traceback if it crashed."""

    code: int
    said: bytes
    crash: str


def in_process(work: Callable[[], None], *, user: int | None = None, kill_after_s: float | None = None) -> Outcome:
    """Run `work` in a fork of this process, as `user`, and kill it after a while."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as crash:
        pid = os.fork()
        if pid == 0:
            os._exit(_child(work, said.fileno(), crash.fileno(), user))
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        texts = []
        for file in (said, crash):
            file.seek(0)
            texts.append(file.read())
    return Outcome(os.waitstatus_to_exitcode(status), texts[0], texts[1].decode(errors="replace"))


def _child(work: Callable[[], None], said: int, crash: int, user: int | None) -> int:
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    sys.stdout = os.fdopen(1, "w", errors="backslashreplace", closefd=False)
    for handler in logging.getLogger().handlers:
        handler.setStream(sys.stderr)
    try:
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        work()
    except UserError as error:
        sys.stderr.write(f"error: {cli.escape.terminal(str(error))}\n")
        return 2
    except BaseException:
        os.write(crash, traceback.format_exc().encode(errors="replace"))
        return 1
    finally:
        sys.stderr.flush()
        sys.stdout.flush()
    return 0


def sort_work(
    inbox: Path, into: Path, action: str, rows: Path | None, vanishing: Iterable[Path] = ()
) -> Callable[[], None]:
    """A run of the command."""
    how = {} if action == "copy" else {action: True}
    options = command.Options(
        model=Path("model"), into=into, output=rows, format="jsonl", min_probability=0.4, num_proc=1, **how
    )
    return lambda: command.sort(options, [str(inbox)], lambda: ByColour(vanishing=vanishing))


def undo_all(into: Path) -> None:
    """Take all runs back, the last one first."""
    for log in reversed(journal.logs(into)) if into.is_dir() else ():
        command.undo(log)


# ---- Checks ----


class Failures(list):
    """What went wrong, in words."""

    def check(self, is_right: bool, what: str) -> None:
        """Note `what` unless `is_right`."""
        if not is_right:
            self.append(what)
            logger.info("WRONG: %s", what)


def check_run(
    failures: Failures, title: str, outcome: Outcome, before: dict, inbox: Path, rows_path: Path, action: str,
    vanished: set[str],
) -> Counter[str]:  # fmt: skip
    """Look up every input after a run, and return how many rows each label has."""
    failures.check(outcome.crash == "", f"{title}: crashed: {outcome.crash[-400:]}")
    failures.check(outcome.code in (0, 2), f"{title}: exit code {outcome.code}: {outcome.said[-300:]!r}")
    harmful = [byte for byte in outcome.said if byte < 32 and byte not in b"\r\n"]
    failures.check(not harmful and b"\xc2\x9b" not in outcome.said, f"{title}: control characters on the terminal")
    if not rows_path.exists():
        return Counter()
    text = rows_path.read_text(encoding="utf-8")
    failures.check("\x1b" not in text and "\x9b" not in text, f"{title}: control characters in rows")
    rows = [json.loads(line) for line in text.splitlines()]
    by_file = {os.path.relpath(row["file"], inbox): row for row in rows}
    inputs = {name for name, what in before.items() if what[0] != stat.S_IFDIR and not is_hidden(name)}
    failures.check(len(by_file) == len(rows), f"{title}: a file has two rows")
    failures.check(set(by_file) == inputs, f"{title}: {len(inputs - set(by_file))} inputs without a row, "
                   f"{len(set(by_file) - inputs)} rows without an input")  # fmt: skip
    after = snapshot(inbox)
    for name in inputs & set(by_file):
        check_file(failures, title, name, by_file[name], before[name], after.get(name), action, name in vanished)
    return Counter(row["label"] for row in rows)


def check_file(failures: Failures, title: str, name: str, row: dict, was: tuple, now: tuple | None, action: str,
               has_vanished: bool) -> None:  # fmt: skip
    """One input: unharmed where it was, or where its row says."""
    placed = row["placed"]
    if now != was and not has_vanished:
        failures.check(now is None and action == "move" and bool(placed), f"{title}: {name!r} harmed or lost: {row}")
    if placed and was[0] == "file":
        status = os.stat(placed)
        failures.check(_digest(placed, status) == was[1], f"{title}: {name!r} differs where it was filed")
    if not placed and was[0] == "file" and not has_vanished:
        failures.check(bool(row["reason"]), f"{title}: {name!r} was not filed, and nobody says why")


def large_runs(args: StressArguments, work_dir: Path, failures: Failures, user: int | None) -> dict[str, Any]:
    """All actions on one large inbox, with undo after each."""
    rng = random.Random(args.seed)
    inbox = work_dir / "inbox"
    kinds = write_inbox(inbox, args.n_files, rng)
    if user is not None:
        _give_away(work_dir, user)
        for name in ("b", "b/c"):
            (inbox / name).chmod(0o555)  # Nothing can be moved away from there.
    found: dict[str, Any] = {"kinds": dict(kinds), "runs": {}}
    for action in ACTIONS:
        before = snapshot(inbox)
        candidates = sorted(name for name, what in before.items() if what[0] == "file" and what[3] & 0o777 == 0o644)
        vanished = set(rng.sample([name for name in candidates if not name.startswith("b/")], args.n_files // 200))
        into, rows_path = work_dir / "sorted", work_dir / "rows.jsonl"
        vanishing = [inbox / name for name in vanished]
        start = time.perf_counter()
        outcome = in_process(sort_work(inbox, into, action, rows_path, vanishing), user=user)
        seconds = time.perf_counter() - start
        counts = check_run(failures, action, outcome, before, inbox, rows_path, action, vanished)
        undone = in_process(functools.partial(undo_all, into), user=user)
        failures.check(
            undone.code == 0 and not undone.crash, f"{action}: undo: {undone.said[-300:]!r} {undone.crash[-300:]}"
        )
        expected = {name: what for name, what in before.items() if name not in vanished}
        failures.check({k: v for k, v in snapshot(inbox).items() if k not in vanished} == expected,
                       f"{action}: undo did not restore the inbox")  # fmt: skip
        failures.check(not into.exists(), f"{action}: undo left {into}")
        found["runs"][action] = {"rows": counts.total(), "labels": dict(counts), "n_vanished": len(vanished),
                                 "seconds": round(seconds, 1)}  # fmt: skip
        logger.info("%s: %d rows in %.1f s", action, counts.total(), seconds)
        rows_path.unlink(missing_ok=True)
    return found


def _give_away(folder: Path, user: int) -> None:
    for root, folders, names in os.walk(folder):
        for name in [".", *folders, *names]:
            os.chown(os.path.join(root, name), user, user, follow_symlinks=False)


def killed_runs(args: StressArguments, work_dir: Path, failures: Failures, other: Path | None) -> dict[str, Any]:
    """Runs and undos that are killed; after each, undo or a second run must end right."""
    rng = random.Random(args.seed + 1)
    inbox = work_dir / "small"
    write_inbox(inbox, args.n_files_killed, rng, with_special=False)
    before = snapshot(inbox)
    contents = Counter(what[1] for name, what in before.items() if what[0] == "file" and not is_hidden(name))
    n_halfway: Counter[str] = Counter()
    start = time.perf_counter()
    in_process(sort_work(inbox, work_dir / "timed", "copy", None))
    typical_s = time.perf_counter() - start
    in_process(lambda: undo_all(work_dir / "timed"))
    number = -1
    while n_halfway.total() - n_halfway["had ended"] < args.n_kills:
        number += 1
        action = ACTIONS[number % 3]
        base = other if other is not None and number % 2 else work_dir
        into, title = base / f"killed-{number}", f"kill {number} ({action})"
        outcome = in_process(sort_work(inbox, into, action, None), kill_after_s=rng.uniform(0.01, typical_s))
        n_halfway[_moment(outcome, into)] += 1
        if rng.random() < 0.5:  # A second run completes what the first one began.
            again = in_process(sort_work(inbox, into, action, None))
            failures.check(
                again.code in (0, 2) and not again.crash,
                f"{title}: second run: {again.said[-300:]!r} {again.crash[-300:]}",
            )
            filed = Counter(what[1] for what in snapshot(into).values() if what[0] == "file")
            filed -= Counter(_digest(str(log), log.stat()) for log in journal.logs(into))
            failures.check(set(filed) >= set(contents), f"{title}: a second run lost {len(set(contents) - set(filed))}")
            failures.check(max(filed.values(), default=0) == 1, f"{title}: a second run filed something twice")
            failures.check(not list(into.rglob(".*")), f"{title}: half copies are left")
        if rng.random() < 0.5:  # The undo is killed, too.
            in_process(functools.partial(undo_all, into), kill_after_s=rng.uniform(0.001, 0.3 * typical_s))
        undone = in_process(functools.partial(undo_all, into))
        failures.check(
            undone.code == 0 and not undone.crash, f"{title}: undo: {undone.said[-300:]!r} {undone.crash[-300:]}"
        )
        failures.check(snapshot(inbox) == before, f"{title}: undo did not restore the inbox")
        left = [path for path in into.rglob("*") if path.is_file()] if into.exists() else []
        failures.check(not left, f"{title}: undo left {left[:3]}")
        shutil.rmtree(into, ignore_errors=True)
    return {
        "n_files": len(before),
        "n_kills": args.n_kills,
        "moments": dict(n_halfway),
        "typical_s": round(typical_s, 2),
    }


def _moment(outcome: Outcome, into: Path) -> str:
    if outcome.code != -signal.SIGKILL:
        return "had ended"
    return "killed while filing" if into.exists() and journal.logs(into) else "killed before the first action"


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path | None]:
    """A file system of its own of `size`, None where this process may not mount one."""
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def full_disk(args: StressArguments, work_dir: Path, failures: Failures) -> dict[str, Any]:
    """A disk that fills up in the middle, for each action; then there is room again."""
    rng = random.Random(args.seed + 2)
    inbox = work_dir / "full"
    write_inbox(inbox, 800, rng, with_special=False)
    before, found = snapshot(inbox), {}
    for action in ("copy", "move"):
        with small_disk(work_dir / f"disk-{action}", "3m") as disk:
            if disk is None:
                return {"skipped": "mounting needs root"}
            into = disk / "sorted"
            outcome = in_process(sort_work(inbox, into, action, None))
            failures.check(outcome.code == 2 and b"is full" in outcome.said, f"full disk: {outcome} ")
            n_filed = sum(len(names) for _, _, names in os.walk(into)) - 1
            undone = in_process(functools.partial(undo_all, into))
            failures.check(undone.code == 0, f"full disk: undo: {undone}")
            failures.check(snapshot(inbox) == before, "full disk: undo did not restore the inbox")
            in_process(sort_work(inbox, into, action, None))
            subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
            again = in_process(sort_work(inbox, into, action, None))
            failures.check(again.code in (0, 2) and not again.crash, f"full disk, then room: {again}")
            contents = {what[1] for name, what in before.items() if what[0] == "file" and not is_hidden(name)}
            filed = {what[1] for what in snapshot(into).values() if what[0] == "file"}
            failures.check(filed >= contents, "full disk, then room: something is lost")
            failures.check(in_process(functools.partial(undo_all, into)).code == 0, "full disk, then room: undo failed")
            failures.check(snapshot(inbox) == before, "full disk, then room: undo did not restore the inbox")
            found[action] = {"n_filed_before_full": n_filed}
    return found


def main(args: StressArguments) -> None:
    """Run all parts and write what was found."""
    is_root = os.geteuid() == 0 and sys.platform == "linux"
    failures = Failures()
    with contextlib.ExitStack() as stack:
        work_dir = args.work_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stress-")))
        work_dir.chmod(0o755)
        other = stack.enter_context(small_disk(work_dir / "other", "2g"))
        logger.info("Large runs")
        (work_dir / "large").mkdir()
        large = large_runs(args, work_dir / "large", failures, _NOBODY if is_root else None)
        logger.info("Killed runs")
        killed = killed_runs(args, work_dir, failures, other)
        logger.info("A full disk")
        full = full_disk(args, work_dir, failures)
    found = {
        "benchmark": "sorting_stress", "large": large, "killed": killed, "full_disk": full,
        "other_file_system": other is not None, "lacks_permissions": is_root, "n_failures": len(failures),
        "failures": failures[:20], **results.environment(),
    }  # fmt: skip
    files.write_text(args.output, json.dumps(found, indent=2) + "\n")
    if failures:
        raise UserError(f"{len(failures)} checks failed, see {args.output}. The first: {failures[0]}")
    logger.info("No failure; written to %s", args.output)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, StressArguments, doc=__doc__))
