"""Write the card of a distilled backbone from what was measured.

    python -m benchmarks.distilled_card --backbone backbones/vit-micro-patch12-96

Reads, from benchmarks/results/, distillation_NAME.json, which distil_backbone.py wrote as pretraining.json,
distillation_images.json, which debian_images.py wrote as index.json, and what backbone_transfer.py measured of this
backbone and of the one it began as: backbone_transfer_NAME.json, and the same with _photographs. Writes README.md.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.numpy import load_file

from benchmarks.backbone_card import RESULTS_DIR, loss_table, read_result
from memevit import cli

logger = logging.getLogger(__name__)

START = "vit-micro-patch8-64"
SETS = {"": "open-games", "_photographs": "photographs"}

TEMPLATE = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-feature-extraction
tags:
- vit
- knowledge-distillation
---

# {name}

A Vision Transformer of {million_parameters:.2f} million parameters ({layers} layers, width {width}, {heads} heads,
{size} x {size} pixels, patches of {patch}). It began as `{start}`, which has seen formulas only, and was taught by
two larger networks, and by what it was, to see real images: free art and photographs from Debian. Its weights are
this project's: Apache-2.0. It is meant for demonstrations, tests and laptops without a network; for real work take a
larger backbone that was pretrained on photographs.

```python
from transformers import AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("backbones/{name}", num_labels=2)
```

## Teachers

| teacher | pixels | what the student says of it | licence |
|---|---|---|---|
| EfficientNet-Lite0, trained on ImageNet-1k | {convolutional_px} | pooled features and logits, from CLS | Apache-2.0 |
| DINOv2 ViT-S/14, the first 8 of 12 blocks | {transformer_px} | CLS from CLS, each patch from its patch | Apache-2.0 |
| `{start}` | 64 | CLS from CLS, each patch from its patch | Apache-2.0 |

Neither of the first two is part of this project or needed to use this network.

## Data

{n_images:,} images of {n_packages} packages of Debian's main archive, fetched by `benchmarks/debian_images.py`; none
of them is kept here. Before that, our own duplicate search compared them with the {n_never:,} images of the set below
that is called open-games, and the {n_deleted} that showed one of those again or shared a template with it were deleted.
The packages that the photographs of the evaluation come from were not used. Of the crops, {captioned:.0%} have words
on them as memes have.

{package_table}

## Recipe

Linear heads on the tokens give what the teachers say of the same crop: cosine distance to their standardised outputs,
and the divergence of the logits at temperature 2, weighted {weights}. Until the learning rate falls, the student sees
a random {kept:.0%} of the patches. Half of the crops are mirrored.

AdamW, learning rate {learning_rate}, weight decay {weight_decay}, batches of {batch_size}, {steps:,} steps, cooldown
over the last {cooldown:.0%}: {views:,} views in {seconds:,.0f} s on {hardware}, one thread and other work at the
same time. Settings `{config}` in `benchmarks/distil_backbone.json`; seed {seed}. The length was changed under way
(`--steps`): the rate was full up to about step 1,690, fell to nothing at step 1,830, and once more, from three
quarters of it, at the end.

The losses; a cosine distance of 1 is that of guessing:

{loss_table}

## Evaluation

Macro accuracy of a logistic regression on frozen features (`benchmarks/backbone_transfer.py`), five seeds, each with a
split of its own that keeps groups on one side. *open-games*: {n_games:,} images of 7 open-source games, none of which
is in the packages. *photographs*: {n_photographs} photographs of 5 kinds of things
(`benchmarks/debian_photographs.py`).

{probe_table}

## Limits

- It is small, and was taught for {minutes:.0f} minutes with few photographs: its teachers are better at those.
- It sees {size} x {size} pixels: captions can't be read, small sprites are blurs.
"""


@dataclass
class CardArguments:
    """Whose card."""

    backbone: Path = field(metadata={"help": "Folder under backbones/."})


def main(args: CardArguments) -> None:
    """Write README.md of the backbone."""
    n_parameters = sum(value.size for value in load_file(args.backbone / "model.safetensors").values())
    name = args.backbone.name
    images = read_result("distillation_images.json")
    probes = {
        (whose, what): read_result(f"backbone_transfer_{whose}{suffix}.json")
        for whose in (START, name)
        for suffix, what in SETS.items()
        if (RESULTS_DIR / f"backbone_transfer_{whose}{suffix}.json").exists()
    }
    text = render(name, n_parameters, read_result(f"distillation_{name}.json"), images, probes)
    (args.backbone / "README.md").write_text(text, encoding="utf-8")
    logger.info("Written to %s", args.backbone / "README.md")


def render(name: str, n_parameters: int, run: dict, images: dict, probes: dict[tuple[str, str], dict]) -> str:
    """The text of the card of the backbone called `name`."""
    settings = run["settings"]
    architecture, crops = settings["architecture"], settings["crops"]
    return TEMPLATE.format(
        name=name,
        start=START,
        million_parameters=n_parameters / 1e6,
        layers=architecture["num_hidden_layers"],
        width=architecture["hidden_size"],
        heads=architecture["num_attention_heads"],
        size=architecture["image_size"],
        patch=architecture["patch_size"],
        convolutional_px=crops["size_px"],
        transformer_px=crops["transformer_px"],
        captioned=crops["captioned"],
        n_images=sum(row["n_images"] for row in images["packages"]),
        n_packages=len(images["packages"]),
        n_never=images["search"]["n_never"],
        n_deleted=len(images["search"]["deleted"]),
        package_table=_package_table(images["packages"]),
        weights=", ".join(f"{target} {weight:g}" for target, weight in settings["weights"].items()),
        kept=settings["kept_patches"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        batch_size=settings["batch_size"],
        steps=run["step"],
        cooldown=settings["cooldown_fraction"],
        views=run["step"] * settings["batch_size"],
        seconds=run["seconds"],
        minutes=run["seconds"] / 60,
        hardware=run["hardware"],
        config=run["config"],
        seed=run["seed"],
        loss_table=loss_table(run["losses"]),
        n_games=probes[START, "open-games"]["dataset"]["n"],
        n_photographs=probes[START, "photographs"]["dataset"]["n"],
        probe_table=_probe_table(probes),
    )


def _package_table(packages: list[dict]) -> str:
    lines = ["| package | version | kind | images | licences named in it |", "|---|---|---|---|---|"]
    for row in packages:
        cells = (row["name"], row["version"], row["kind"], str(row["n_images"]), ", ".join(row["licences"]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _probe_table(probes: dict[tuple[str, str], dict]) -> str:
    lines = ["| images | backbone | mean | lowest | highest |", "|---|---|---|---|---|"]
    for (whose, what), result in sorted(probes.items(), key=lambda item: item[0][1]):
        row = result["methods"]["linear_probe"]
        lines.append(f"| {what} | {whose} | {row['mean']:.3f} | {row['low']:.3f} | {row['high']:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, CardArguments, doc=__doc__))
