"""Write the card of a shipped backbone from what was measured.

    python -m benchmarks.backbone_card --backbone backbones/vit-micro-patch8-64

Reads benchmarks/results/backbone_pretraining_NAME.json, which pretrain_backbone.py wrote as pretraining.json, and
benchmarks/results/backbone_transfer_NAME.json of backbone_transfer.py; writes README.md into the folder.
"""

import json
import logging
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.numpy import load_file

from memevit import cli
from memevit.errors import UserError

logger = logging.getLogger(__name__)

RESULTS_DIR = Path(__file__).parent / "results"
N_LOSS_ROWS = 12
METHODS = {
    "fine_tuned": "fine-tuned from these weights",
    "from_scratch": "the same network from random weights",
    "linear_probe": "logistic regression on frozen features",
    "colour_histogram": "logistic regression on colours, no shapes",
    "file_properties": "trees on width, height, bytes and format, no pixels",
}

TEMPLATE = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-feature-extraction
tags:
- vit
- formula-driven-supervised-learning
---

# {name}

A Vision Transformer of {million_parameters:.2f} million parameters ({layers} layers, width {width}, {heads} heads,
{size} x {size} pixels, patches of {patch}), pretrained on images that are drawn from mathematical formulas. It has
seen no photograph, no game and no work of anyone else, so its licence is this project's: Apache-2.0. It is meant for
demonstrations, tests and laptops without a network; for real work take a backbone that was pretrained on photographs.

```python
from transformers import AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("backbones/{name}", num_labels=2)
```

## Data

`benchmarks/formula_images.py` draws scenes: a background and up to seven objects that cover one another. Palette
({palette} of them), texture ({texture}: superposed waves and noise with a power-law spectrum), contour ({contour}:
waves around a circle), style ({style}: outlines, pixel size, blur, grain, shading) and fractal ({fractal} iterated
function systems) are drawn independently, and each parameter is changed by a few percent every time. No image is
drawn twice.

## Recipe

The CLS token tells which palette, texture, contour, style and fractal an image was drawn with, the colours in it, and
how much edge there is in each direction; every patch tells the latter for itself and its neighbourhood. Until the
learning rate falls, the network sees a random {kept:.0%} of the patches.

AdamW, learning rate {learning_rate}, weight decay {weight_decay}, batches of {batch_size}, {steps:,} steps, cooldown
over the last {cooldown:.0%}. {views:,} images in {seconds:,.0f} s on {hardware}, which had other work at the
same time. Settings `{config}` in `benchmarks/pretrain_backbone.json`; seed {seed}. To repeat it:

    python -m benchmarks.pretrain_backbone --config {config} --work_dir runs/micro --workers 1 --threads 1

The loss of each task, 1 being that of guessing (labels are smoothed, so that 0 can't be reached):

{loss_table}

A task that stays at 1 was not learned in this time.

## Evaluation

Macro accuracy on the test split of {dataset} ({n:,} images of {n_classes} open-source games, {n_groups:,} groups that
stay on one side of the split; 70 % train, 15 % validation, 15 % test), {n_seeds} seeds, each with a split of its own.
{epochs} epochs in {precision} for every network; learning rate chosen among {rates} for each network alike, on a split
that is not among those reported.

{transfer_table}

Fine-tuning from these weights is {gain:+.1f} points above the same network from scratch (aim: at least +10), and ahead
on {n_ahead} of {n_seeds} seeds. The linear probe is {probe_gain:+.1f} points above the colour histogram.

## Limits

{limits}
"""

LIMITS = """- It knows colours, textures and edges, not things: it is small, and was trained for {minutes:.0f} minutes.
- It sees {size} x {size} pixels: captions can't be read, small sprites are blurs.
- It was measured on sprites, textures and screenshots of open-source games only, by those who chose its recipe; the
  recipe was tried on splits of the same images, so that the numbers are a little too good.
- The properties of a file (size, format) tell much about the class of these images; see the table."""


@dataclass
class CardArguments:
    """Whose card."""

    backbone: Path = field(metadata={"help": "Folder under backbones/."})


def main(args: CardArguments) -> None:
    """Write README.md of the backbone."""
    pretraining = _read(f"backbone_pretraining_{args.backbone.name}.json")
    transfer = _read(f"backbone_transfer_{args.backbone.name}.json")
    n_parameters = sum(value.size for value in load_file(args.backbone / "model.safetensors").values())
    text = render(args.backbone.name, n_parameters, pretraining, transfer)
    (args.backbone / "README.md").write_text(text, encoding="utf-8")
    logger.info("Written to %s", args.backbone / "README.md")


def _read(name: str) -> dict:
    path = RESULTS_DIR / name
    if not path.exists():
        raise UserError(f"{path} does not exist. pretrain_backbone.py or backbone_transfer.py writes it.")
    return json.loads(path.read_text(encoding="utf-8"))


def render(name: str, n_parameters: int, pretraining: dict, transfer: dict) -> str:
    """The text of the card of the backbone called `name`."""
    settings, methods = pretraining["settings"], transfer["methods"]
    architecture = settings["architecture"]
    tuned, scratch = methods["fine_tuned"], methods["from_scratch"]
    return TEMPLATE.format(
        name=name,
        million_parameters=n_parameters / 1e6,
        layers=architecture["num_hidden_layers"],
        width=architecture["hidden_size"],
        heads=architecture["num_attention_heads"],
        size=architecture["image_size"],
        patch=architecture["patch_size"],
        **settings["banks"],
        kept=settings["kept_patches"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        batch_size=settings["batch_size"],
        steps=pretraining["step"],
        cooldown=settings["cooldown_fraction"],
        views=pretraining["step"] * settings["batch_size"],
        seconds=pretraining["seconds"],
        hardware=pretraining["hardware"],
        config=pretraining["config"],
        seed=pretraining["seed"],
        loss_table=_loss_table(pretraining["losses"]),
        dataset=transfer["dataset"]["name"],
        n=transfer["dataset"]["n"],
        n_classes=len(transfer["dataset"]["classes"]),
        n_groups=transfer["dataset"]["n_groups"],
        n_seeds=len(tuned["by_seed"]),
        epochs=transfer["budget"]["epochs"],
        precision=transfer["budget"]["precision"],
        rates=", ".join(f"{rate:g}" for rate in transfer["budget"]["learning_rates"]),
        transfer_table=_transfer_table(methods),
        gain=100 * (tuned["mean"] - scratch["mean"]),
        n_ahead=sum(score > scratch["by_seed"][seed] for seed, score in tuned["by_seed"].items()),
        probe_gain=100 * (methods["linear_probe"]["mean"] - methods["colour_histogram"]["mean"]),
        limits=LIMITS.format(size=architecture["image_size"], minutes=pretraining["seconds"] / 60),
    )


def _loss_table(losses: list[dict[str, float]]) -> str:
    """Means of the tasks over `N_LOSS_ROWS` pieces of the run."""
    names = [name for name in losses[0] if name not in ("step", "loss")]
    lines = [f"| up to step | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    ends = [len(losses) * (number + 1) // N_LOSS_ROWS for number in range(N_LOSS_ROWS)]
    for first, end in zip([0, *ends], ends, strict=False):
        piece = losses[first:end]
        if piece:
            means = [sum(row[name] for row in piece) / len(piece) for name in names]
            lines.append(f"| {piece[-1]['step']:,} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    return "\n".join(lines)


def _transfer_table(methods: dict[str, dict]) -> str:
    lines = ["| what | mean | lowest | highest | learning rate |", "|---|---|---|---|---|"]
    for key, text in METHODS.items():
        row = methods[key]
        rate = f"{row['learning_rate']:g}" if "learning_rate" in row else ""
        lines.append(f"| {text} | {row['mean']:.3f} | {row['low']:.3f} | {row['high']:.3f} | {rate} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, CardArguments, doc=__doc__))
