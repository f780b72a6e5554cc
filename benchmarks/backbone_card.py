"""Write the card of the shipped backbone from what was measured.

    python -m benchmarks.backbone_card --backbone backbones/vit-micro-patch12-96

Reads of benchmarks/results/, for the backbone called NAME: distillation_NAME.json (pretraining.json of
distil_backbone.py), distillation_images.json (index.json of debian_images.py, and how many crops were made of it), and
backbone_transfer_NAME.json and backbone_transfer_NAME_photographs.json of backbone_transfer.py, these two also for the
network that it began as. Writes README.md and SOURCES.md into the folder.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
SETS = ("", "_photographs")  # Ends of names of result files: open-games, and photographs.
KINDS = {"photographs": "photographs", "art": "images from games", "clip_art": "pieces of clip art"}
TARGETS = {
    "features": "features of the EfficientNet",
    "logits": "its 1,000 logits",
    "transformer_cls": "class token of the DINOv2",
    "transformer_patches": "its patch tokens",
    "start_cls": "class token of the formula network",
    "start_patches": "its patch tokens",
}

TEMPLATE = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-feature-extraction
tags:
- vit
- distillation
---

# {name}

A Vision Transformer of {million_parameters:.2f} million parameters ({layers} layers, width {width}, {heads} heads,
{size} x {size} pixels, patches of {patch}). It was taught by two larger networks and by a network pretrained on
formulas, on free images. It is meant for demonstrations, tests and laptops without a network; for real work take a
larger one, such as `google/vit-base-patch16-224-in21k`.

```python
from transformers import AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("backbones/{name}", num_labels=2)
```

## Teachers

| teacher | what it says of an image | licence |
|---|---|---|
| EfficientNet-Lite0, trained on ImageNet-1k, at {crop_size} px | features before its head, 1,000 logits | Apache-2.0 |
| the first 8 of 12 blocks of a DINOv2 ViT-S/14, at {transformer_size} px | class token, patch tokens | Apache-2.0 |
| the network that this one began as, pretrained on drawn formulas | class token, patch tokens | Apache-2.0 |

The last keeps what formulas teach about textures and contours, which serves game art. `benchmarks.pretrain_backbone`
makes it, with the settings `vit-micro-patch8-64`; its embedding of patches of 8 pixels was resized to 12.

## Images

{n_crops:,} crops of {n_images:,} images of {n_packages} packages of Debian's main archive, which is free by policy:
{kinds}. {captioned:.0%} of the crops got a caption or the frame of a meme. None of the images is in this repository.
They have licences of their own, which [SOURCES.md](SOURCES.md) lists with the versions of the packages. Whether weights
that were learned from an image are a work derived from it is not settled; if that matters to you, read the list.

The open-source games on which this network is measured are not among the packages. Our own search for duplicates
compared all images with the {n_never:,} images of those games, and deleted {n_deleted} that were of one template with
one of them (a frame, a texture, a common background); none was the same image. The photographs on which it is measured
come from two packages that are not among those either.

## Recipe

A linear head for each target; for features and tokens the loss is the cosine distance, for logits the divergence at
temperature 2. Weights: {weights}. Each teacher saw every crop once, and the student sees the same pixels, half of the
time mirrored. Until the learning rate falls, it sees a random {kept:.0%} of the patches.

AdamW, learning rate {learning_rate}, weight decay {weight_decay}, batches of {batch_size}, {steps:,} steps, cooldown
over the last {cooldown:.0%}; {views:,} views in {seconds:,.0f} s on {hardware}, which had other work at the same time.
The run was lengthened twice, from 11,000 steps to 20,000 and then to {steps:,}, so that the learning rate fell early
and rose again. Settings `{config}` in `benchmarks/distil_backbone.json`; seed {seed}. To repeat it, with the teachers
in local folders:

    python -m benchmarks.pretrain_backbone --config vit-micro-patch8-64 --work_dir runs/formulas
    python -m benchmarks.debian_images --output images/ --never games/
    python -m benchmarks.distil_backbone --config {config} --images images/ --work_dir runs/distilled \\
        --start runs/formulas/backbone --convolutional_teacher efficientnet-lite0/ \\
        --transformer_teacher dinov2-small-8-layers/

The loss of each target, 1 being that of guessing but for the logits:

{loss_table}

## Evaluation

Macro accuracy on test splits whose groups of related images stay on one side; mean, lowest and highest of
{n_seeds} seeds, each with a split of its own (70 % train, 15 % validation, 15 % test). {epochs} epochs in {precision}
for every network; learning rate chosen among {rates} for each network alike, on a split that is not among those
reported.

{transfer_tables}

## What failed

- The features and logits of the EfficientNet alone, without the other two teachers: after 97,000 views the network was
  worse than it began on photographs and on game art.
- More photographs and less game art among the crops: better on photographs, worse on game art.
- With 10 or 30 images per class of game art the probe of the network that this one began as is still better by 2 to 5
  points (docs/choices.md, few images).

## Limits

- It is small: on photographs, with 30 images per class, the probe of the DINOv2 teacher is six points better.
- It sees {size} x {size} pixels: captions can't be read.
- It was measured by those who chose its recipe; the recipe was tried on splits of the same images, so that the numbers
  are a little too good.
- The properties of a file (size, format) tell much about the class of open-games; see the table.
"""

SOURCES = """# Images that {name} has seen

Packages of Debian, with the names that their copyright files give to licences (of everything in the package, not only
of its images). An empty list means that the file has no such names.

| package | version | kind | images | licences |
|---|---|---|---|---|
{rows}
"""


@dataclass
class CardArguments:
    """Whose card."""

    backbone: Path = field(metadata={"help": "Folder under backbones/."})
    start: str = field(default="vit-micro-patch8-64", metadata={"help": "Name of the network that it began as."})


def main(args: CardArguments) -> None:
    """Write README.md and SOURCES.md of the backbone."""
    name = args.backbone.name
    n_parameters = sum(value.size for value in load_file(args.backbone / "model.safetensors").values())
    images = _read("distillation_images.json")
    text = render(name, n_parameters, _read(f"distillation_{name}.json"), images, read_transfers(name, args.start))
    (args.backbone / "README.md").write_text(text, encoding="utf-8")
    (args.backbone / "SOURCES.md").write_text(sources(name, images), encoding="utf-8")
    logger.info("Written to %s", args.backbone / "README.md")


def read_transfers(*names: str) -> list[list[tuple[str, dict[str, Any]]]]:
    """For each set of images the results of backbone_transfer.py by name of the network, in the order of `names`."""
    return [[(name, _read(f"backbone_transfer_{name}{suffix}.json")) for name in names] for suffix in SETS]


def _read(name: str) -> dict:
    path = RESULTS_DIR / name
    if not path.exists():
        raise UserError(f"{path} does not exist. The docstring of this script says what writes it.")
    return json.loads(path.read_text(encoding="utf-8"))


def render(
    name: str, n_parameters: int, distillation: Mapping[str, Any], images: Mapping[str, Any],
    transfers: Sequence[Sequence[tuple[str, Mapping[str, Any]]]],
) -> str:  # fmt: skip
    """The text of the card of the backbone called `name`.

    Args:
        name: of its folder.
        n_parameters: without a head.
        distillation: what distil_backbone.py measured.
        images: index of debian_images.py.
        transfers: see `read_transfers`, this network first.
    """
    settings = distillation["settings"]
    architecture, crops = settings["architecture"], settings["crops"]
    n_by_kind = Counter()
    for row in images["packages"]:
        n_by_kind[row["kind"]] += row["n_images"]
    first = transfers[0][0][1]
    return TEMPLATE.format(
        name=name,
        million_parameters=n_parameters / 1e6,
        layers=architecture["num_hidden_layers"],
        width=architecture["hidden_size"],
        heads=architecture["num_attention_heads"],
        size=architecture["image_size"],
        patch=architecture["patch_size"],
        crop_size=crops["size_px"],
        transformer_size=crops["transformer_px"],
        n_crops=images["n_crops"],
        captioned=crops["captioned"],
        n_images=n_by_kind.total(),
        n_packages=len(images["packages"]),
        kinds=", ".join(f"{n_by_kind[kind]:,} {words}" for kind, words in KINDS.items()),
        n_never=images["search"]["n_never"],
        n_deleted=len(images["search"]["deleted"]),
        weights=", ".join(f"{TARGETS[target]} {weight:g}" for target, weight in settings["weights"].items()),
        kept=settings["kept_patches"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        batch_size=settings["batch_size"],
        steps=distillation["step"],
        cooldown=settings["cooldown_fraction"],
        views=distillation["step"] * settings["batch_size"],
        seconds=distillation["seconds"],
        hardware=distillation["hardware"],
        config=distillation["config"],
        seed=distillation["seed"],
        loss_table=_loss_table(distillation["losses"]),
        n_seeds=len(first["methods"]["linear_probe"]["by_seed"]),
        epochs=first["budget"]["epochs"],
        precision=first["budget"]["precision"],
        rates=", ".join(f"{rate:g}" for rate in first["budget"]["learning_rates"]),
        transfer_tables=transfer_tables(transfers),
    )


def sources(name: str, images: Mapping[str, Any]) -> str:
    """The list of packages, with versions and licences."""
    rows = [
        f"| {row['name']} | {row['version']} | {KINDS[row['kind']]} | {row['n_images']:,} | "
        f"{', '.join(row['licences']).replace('|', '/')} |"
        for row in sorted(images["packages"], key=lambda row: row["name"])
    ]
    return SOURCES.format(name=name, rows="\n".join(rows))


def _loss_table(losses: list[dict[str, float]]) -> str:
    """Means of the targets over `N_LOSS_ROWS` pieces of the run."""
    names = [name for name in losses[0] if name not in ("step", "loss")]
    lines = [f"| up to step | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    ends = [len(losses) * (number + 1) // N_LOSS_ROWS for number in range(N_LOSS_ROWS)]
    for first, end in zip([0, *ends], ends, strict=False):
        piece = losses[first:end]
        if piece:
            means = [sum(row[name] for row in piece) / len(piece) for name in names]
            lines.append(f"| {piece[-1]['step']:,} | {' | '.join(f'{mean:.3f}' for mean in means)} |")
    return "\n".join(lines)


def transfer_tables(transfers: Sequence[Sequence[tuple[str, Mapping[str, Any]]]]) -> str:
    """A table for each set of images: what each network reaches there."""
    return "\n\n".join(map(_transfer_table, transfers))


def _transfer_table(networks: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    dataset = networks[0][1]["dataset"]
    lines = [
        f"{dataset['name']}, {dataset['n']:,} images of {len(dataset['classes'])} classes in {dataset['n_groups']:,} "
        "groups:\n",
        "| network | how | mean | lowest | highest | learning rate |",
        "|---|---|---|---|---|---|",
    ]
    for name, transfer in networks:
        for key, text in METHODS.items():
            if row := transfer["methods"].get(key):
                rate = f"{row['learning_rate']:g}" if "learning_rate" in row else ""
                own = name if key in ("fine_tuned", "from_scratch", "linear_probe") else ""
                lines.append(f"| {own} | {text} | {row['mean']:.3f} | {row['low']:.3f} | {row['high']:.3f} | {rate} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, CardArguments, doc=__doc__))
