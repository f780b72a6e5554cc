"""The model folder while it is being made: `model.partial`, where a second run of the same command continues."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from memevit import files, results
from memevit.errors import UserError
from memevit.model import runs

# Where files go, what is printed and how batches are loaded do not change what is learned.
_NOT_COMPARED = {
    "output_dir", "logging_dir", "run_name", "resume_from_checkpoint", "local_rank", "ddp_backend", "overwrite",
    "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_prefetch_factor", "dataloader_pin_memory",
    "disable_tqdm", "log_level", "log_level_replica", "report_to",
}  # fmt: skip


@contextlib.contextmanager
def begun(model_dir: Path, run: dict[str, Any], args: TrainingArguments, *, overwrite: bool) -> Iterator[Path]:
    """Work in the partial neighbour of `model_dir`, and give it its name when the work is done.

    Args:
        model_dir: the folder to be.
        run: content of run.json; its `digest` tells whether an unfinished run was the same.
        args: of the Trainer, in every process.
        overwrite: replace what other arguments have left.

    Raises:
        UserError: `model_dir` is taken, or an unfinished run with other arguments lies beside it.
    """
    work_dir = files.partial_of(model_dir)
    is_main = args.process_index == 0
    with contextlib.ExitStack() as stack:
        with args.main_process_first(local=False):
            if is_main:
                stack.enter_context(files.locked(model_dir))
                _begin(model_dir, work_dir, run, overwrite=overwrite)
        with files.explained_disk_errors(model_dir):
            yield work_dir
        if is_main:
            shutil.rmtree(work_dir / runs.PARTS, ignore_errors=True)
            files.publish(work_dir, model_dir)


def unfinished(model_dir: Path, run: dict[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """run.json of an interrupted run that this command continues, None if this is a new one.

    Raises:
        UserError: `model_dir` is taken, or an unfinished run with other arguments lies beside it.
    """
    work_dir = files.partial_of(model_dir)
    if model_dir.exists() and not overwrite and (not model_dir.is_dir() or any(model_dir.iterdir())):
        if (model_dir / results.RUN_FILE).is_file():
            raise UserError(
                f"{model_dir} already holds a finished model. Choose another --output_dir, or replace it with "
                "--overwrite."
            )
        raise UserError(
            f"{model_dir} is not empty and was not made by finetune_vit.py. Choose another --output_dir; --overwrite "
            "deletes all that is in it."
        )
    if not (work_dir / results.RUN_FILE).is_file():
        return None
    found = results.read_run(work_dir)
    if found["digest"] != run["digest"]:
        if overwrite:
            return None
        raise UserError(
            f"{work_dir} holds an unfinished run with other arguments or other data. Repeat that command to finish "
            "it, or start anew with --overwrite."
        )
    return found


def _begin(model_dir: Path, work_dir: Path, run: dict[str, Any], *, overwrite: bool) -> None:
    if unfinished(model_dir, run, overwrite=overwrite) is not None:
        return
    if work_dir.exists():
        shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True)
    results.write_run(work_dir, run)


def describe_run(own: dict[str, Any], args: TrainingArguments, *, fingerprint: str) -> dict[str, Any]:
    """The content of run.json.

    Args:
        own: our own arguments by name.
        args: the Trainer's; only those that differ from the defaults are listed.
        fingerprint: of the dataset.
    """
    given = args.to_dict()
    # With this setting a second set of arguments leaves the processes as the first one has found them.
    usual = type(args)(output_dir="unused", accelerator_config={"use_configured_state": True}).to_dict()
    changed = {key: value for key, value in given.items() if key not in _NOT_COMPARED and value != usual.get(key)}
    compared = {key: value for key, value in (given | own).items() if key not in _NOT_COMPARED}
    content = json.dumps([compared, args.world_size, fingerprint], sort_keys=True, default=str)
    return {
        "arguments": {key: _shareable(value) for key, value in (own | changed).items()},
        "environment": results.environment(),
        "seed": args.seed,
        "data_fingerprint": fingerprint,
        "digest": hashlib.sha256(content.encode()).hexdigest(),
    }


def _shareable(value: Any) -> Any:
    """A path on this machine without its parents: run.json may be published."""
    if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_absolute()):
        return Path(value).name
    return value
