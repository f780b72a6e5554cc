import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

import memevit.pixels
from memevit import portable
from memevit.model import open_set as fitting
from memevit.portable.features import FeatureTap
from memevit.portable.open_set import CUSTOM_PIPELINES, PIPELINE_TASK
from tests.conftest import write_classes

LAYERS = ["final", "block_1"]
NAMES = ["coral", "moss", "slate"]


def seen(model, image_processor, paths):
    """What the model computes for images whose folder is their class."""
    images = [Image.open(path).convert("RGB") for path in paths]
    values = image_processor(images=images, return_tensors="pt")["pixel_values"]
    with FeatureTap(model, LAYERS) as tap, torch.inference_mode():
        logits = model(pixel_values=values).logits.numpy()
        features = {layer: own.numpy() for layer, own in tap.take().items()}
    return fitting.Seen(logits, features, np.array([NAMES.index(path.parent.name) for path in paths]))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return sorted(write_classes(tmp_path_factory.mktemp("images"), n=16).glob("*/*.png"))


@pytest.fixture(scope="module")
def published(tmp_path_factory, tiny_backbone, images):
    """A model folder with statistics and the code of the pipeline, as it is on the Hub."""
    folder = tmp_path_factory.mktemp("published") / "model"
    model = AutoModelForImageClassification.from_pretrained(
        tiny_backbone, id2label=dict(enumerate(NAMES)), ignore_mismatched_sizes=True
    ).eval()
    image_processor = AutoImageProcessor.from_pretrained(tiny_backbone)
    model.save_pretrained(folder)
    image_processor.save_pretrained(folder)
    train, validation = (seen(model, image_processor, part) for part in (images[::2], images[1::2]))
    fitted = fitting.fit(train, validation, class_names=NAMES, false_rejection=0.2)
    fitting.write(folder, fitted, model, image_processor, temperature=1.0)
    fitting.set_in_config(folder, "custom_pipelines", CUSTOM_PIPELINES)
    for name in ("pipeline.py", "open_set.py", "features.py"):
        shutil.copy(Path(portable.__file__).parent / name, folder)
    shutil.copy(memevit.pixels.__file__, folder)
    return folder


def ask(folder, inputs, **options):
    return pipeline(PIPELINE_TASK, model=str(folder), trust_remote_code=True, device="cpu", **options)(inputs)


def test_the_published_pipeline_decides_as_the_statistics_do(published, images):
    model = AutoModelForImageClassification.from_pretrained(published).eval()
    own = seen(model, AutoImageProcessor.from_pretrained(published), images)
    from memevit.portable.open_set import OpenSet

    expected = OpenSet.load(published).decide(own.logits, own.features)
    found = ask(published, [str(path) for path in images], batch_size=5)
    assert [one["label"] for one in found] == [one.label for one in expected]
    np.testing.assert_allclose(
        [one["known_score"] for one in found], [one.known_score for one in expected], rtol=1e-5, atol=1e-5
    )
    assert {"label", "accepted", "known_score", "threshold", "p_value", "reason", "scores"} <= set(found[0])


def test_noise_is_unknown_and_says_why(published):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    (found,) = ask(published, [noise])
    assert (found["label"], found["accepted"]) == ("unknown", False)
    assert found["reason"] == "less like the training images than all 24 validation images"


def test_the_plain_pipeline_needs_no_trust(published, images):
    plain = pipeline("image-classification", model=str(published), device="cpu")(str(images[0]))
    open_set = ask(published, str(images[0]))
    assert plain == open_set["scores"]


def test_a_transparent_file_looks_as_on_white(published, images, tmp_path):
    clear = Image.open(images[0]).convert("RGBA")
    clear.putalpha(Image.radial_gradient("L").resize(clear.size))
    clear.save(tmp_path / "clear.png")
    white = Image.new("RGBA", clear.size, "white")
    Image.alpha_composite(white, clear).convert("RGB").save(tmp_path / "white.png")
    found = ask(published, [str(tmp_path / "clear.png"), clear, str(tmp_path / "white.png")])
    assert found[0] == found[1] == found[2]


def test_statistics_of_other_weights_are_refused_when_the_pipeline_is_made(published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "changed")
    model = AutoModelForImageClassification.from_pretrained(folder)
    fitting.fold_temperature(model, 1.5)
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"stale.*finetune_vit\.py --calibrate_only"):
        ask(folder, Image.new("RGB", (8, 8)))
