"""Wall time from the command to the finished model, ours against the plain Trainer.

    python -m benchmarks.time_to_result
    python -m benchmarks.time_to_result --n_images 200 --epochs 2 --repeats 1

(a) finetune_vit.py on the folder that data_prep.py made of generated memes of 1920 x 1080; (b) the plain Trainer on the
full-size files of the same splits, with Pillow transforms in workers. Both evaluate after every epoch, keep the best
checkpoint, predict validation and test, and save. Prints seconds by stage and writes
benchmarks/results/time_to_result_DEVICE.json. Preparing is a stage of its own: (b) has no use for it.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import timing
from memevit import cli, cores, manifest

ROOT = Path(__file__).parents[1]
STAGES = ("start", "cache", "train", "evaluate", "save")
OURS, PLAIN = "(a) finetune_vit.py", "(b) plain Trainer"


@dataclass
class ResultBenchmarkArguments:
    """What is trained, and how long."""

    model: str = field(default="vit-tiny", metadata={"help": "vit-tiny, vit-s, vit-b or a model folder."})
    n_images: int = field(default=1597, metadata={"help": "Images, as many as the Kaggle data has."})
    epochs: int = field(default=5, metadata={"help": "Epochs."})
    repeats: int = field(default=3, metadata={"help": "Rounds; the median counts."})
    batch_size: int = field(default=32, metadata={"help": "Images per step."})
    bf16: bool = field(default=False, metadata={"help": "Mixed precision with bf16."})
    width_px: int = field(default=timing.FULL_HD[0], metadata={"help": "Of the images."})
    image_size: int = field(default=224, metadata={"help": "Side that the models named above see."})
    work_dir: Path = field(default=Path("runs/benchmarks"), metadata={"help": "For drawn images; kept."})
    output: Path | None = field(default=None, metadata={"help": "Another file for the numbers."})


def main(args: ResultBenchmarkArguments) -> None:
    """Prepare once, then let both sides train in turns."""
    size = (args.width_px, args.width_px * timing.FULL_HD[1] // timing.FULL_HD[0])
    source = args.work_dir / f"source-{args.width_px}-{args.n_images}"
    timing.draw_memes(source, args.n_images, size=size)
    backbone = timing.write_backbone(args.model, args.work_dir, image_size=args.image_size)
    dataset = args.work_dir / "prepared"
    start = time.perf_counter()
    _run("data_prep.py", "--source", source, "--output_dir", dataset, "--overwrite")
    prepare_s = time.perf_counter() - start
    found: dict[str, list[dict[str, float]]] = {OURS: [], PLAIN: []}
    for _ in range(args.repeats):
        for side, mode in ((OURS, "ours"), (PLAIN, "plain")):
            shutil.rmtree(args.work_dir / "prepared.cache", ignore_errors=True)
            shutil.rmtree(args.work_dir / "model", ignore_errors=True)
            found[side].append(_one(mode, source, dataset, backbone, args))
    totals = {side: [sum(one.values()) for one in runs] for side, runs in found.items()}
    table = [["side", "total s", *(f"{stage} s" for stage in STAGES)]]
    for side, runs in found.items():
        medians = [statistics.median(run.get(stage, 0.0) for run in runs) for stage in STAGES]
        table.append([side, *(f"{one:.1f}" for one in (statistics.median(totals[side]), *medians))])
    times_plain = timing.ratio(totals, PLAIN, OURS)
    table += [["data_prep.py, once", f"{prepare_s:.1f}", *[""] * len(STAGES)]]
    table += [["(b) / (a)", f"{times_plain:.2f}", *[""] * len(STAGES)]]
    numbers = {"prepare_s": round(prepare_s, 1), "runs": found, "times_as_fast": times_plain}
    timing.publish("time_to_result", args, numbers, table)


def _run(*command: object, **more: object) -> None:
    subprocess.run([sys.executable, *map(str, command)], cwd=Path.cwd(), check=True, **more)


def _one(mode: str, source: Path, dataset: Path, backbone: Path, args: ResultBenchmarkArguments) -> dict[str, float]:
    stages_path = args.work_dir / "stages.json"
    given = [mode, stages_path, source, dataset, backbone, args.work_dir / "model"]
    numbers = [args.epochs, args.batch_size, int(args.bf16)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    start = time.perf_counter()
    _run("-m", "benchmarks.time_to_result", "--side", *given, *numbers, env=environment)
    total = time.perf_counter() - start
    stages = json.loads(stages_path.read_text(encoding="utf-8"))
    return {"start": total - sum(stages.values()), **stages}


class Stages:
    """Seconds by stage; a stage within another is not counted twice."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def watch(self, owner: object, name: str, stage: str) -> None:
        """Count the time within `owner.name` as `stage`."""
        function = getattr(owner, name)

        def watched(*args: object, **kwargs: object) -> object:
            self._switch()
            self._open.append(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._open.pop()

        setattr(owner, name, watched)

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0.0) + now - self._since
        self._since = now


def side(mode: str, stages_path: str, *given: str) -> None:
    """One side in a process of its own; writes its stages."""
    stages = Stages()
    paths, (epochs, batch_size, bf16) = [Path(one) for one in given[:4]], map(int, given[4:])
    options = {"num_train_epochs": epochs, "per_device_train_batch_size": batch_size, "bf16": bool(bf16)}
    run: Callable = _ours if mode == "ours" else _plain
    run(stages, *paths, options)
    if os.environ.get("RANK", "0") == "0":
        Path(stages_path).write_text(json.dumps(stages.seconds), encoding="utf-8")


def _ours(stages: Stages, source: Path, dataset: Path, backbone: Path, model_dir: Path, options: dict) -> None:
    import torch
    from transformers import Trainer

    import finetune_vit
    from memevit.arguments import ModelArguments, RecipeArguments, RunArguments
    from memevit.evaluation import measure
    from memevit.model import pixel_cache, runs, training
    from memevit.model.recipe import FineTuningArguments

    watched = [
        (pixel_cache, "open_or_build_all", "cache"), (training, "train", "train"), (Trainer, "evaluate", "evaluate"),
        (runs, "_logits", "evaluate"), (training, "save", "save"), (measure, "record", "save"),
    ]  # fmt: skip
    for one in watched:
        stages.watch(*one)
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    flags += ["--precision", "bf16" if options["bf16"] else "fp32"]  # That of the other side.
    if not torch.accelerator.is_available():
        flags.append("--use_cpu")  # What several processes on a processor must be told.
    argv = ["--dataset", dataset, "--model_name_or_path", backbone, "--output_dir", model_dir, "--overwrite", *flags]
    groups = (ModelArguments, RecipeArguments, RunArguments, FineTuningArguments)
    if cli.run(finetune_vit.main, *groups, doc="", argv=[*map(str, argv)]):
        raise SystemExit("finetune_vit.py failed")


def _plain(stages: Stages, source: Path, dataset: Path, backbone: Path, model_dir: Path, options: dict) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification, Trainer, TrainingArguments

    from benchmarks.plain_trainer import PlainDataset

    watched = [("train", "train"), ("evaluate", "evaluate"), ("predict", "evaluate"), ("save_model", "save")]
    for name, stage in watched:
        stages.watch(Trainer, name, stage)
    rows = manifest.read(dataset)
    names, processor = manifest.class_names(rows), AutoImageProcessor.from_pretrained(backbone)
    sets = {}
    for split in manifest.SPLITS:
        kept = manifest.kept(rows, split)
        paths, labels = [source / row.source for row in kept], [names.index(row.class_name) for row in kept]
        sets[split] = PlainDataset(paths, labels, processor, is_train=split == "train")
    model = AutoModelForImageClassification.from_pretrained(
        backbone, num_labels=len(names), ignore_mismatched_sizes=True, problem_type="single_label_classification"
    )
    args = TrainingArguments(
        output_dir=str(model_dir), eval_strategy="epoch", save_strategy="epoch", load_best_model_at_end=True,
        save_total_limit=2, per_device_eval_batch_size=64, remove_unused_columns=False, report_to="none",
        dataloader_num_workers=cores.n_cores(), **options,
    )  # fmt: skip
    trainer = Trainer(model, args, train_dataset=sets["train"], eval_dataset=sets["validation"])
    trainer.train()
    for split in ("validation", "test"):
        trainer.predict(sets[split])
    trainer.save_model()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        side(*sys.argv[2:])
        raise SystemExit(0)
    raise SystemExit(cli.run(main, ResultBenchmarkArguments, doc=__doc__))
