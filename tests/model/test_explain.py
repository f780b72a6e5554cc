"""Heat maps find what was planted, add up, and depend on the weights."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageClassification

from memevit.model import explain
from memevit.model.inspection import Inspection
from tests.conftest import draw_image


class SeesOneCell(torch.nn.Module):
    """Its logit of class 1 is the brightness of the cell in row 2 and column 5 of 8."""

    dtype = torch.float32

    def forward(self, pixel_values):
        bright = pixel_values[:, :, 8:12, 20:24].mean(dim=(1, 2, 3))
        return SimpleNamespace(logits=torch.stack([torch.zeros_like(bright), 5 * bright], dim=1))


@pytest.mark.parametrize("method", [explain.occlusion, explain.integrated_gradients])
def test_the_evidence_is_found_where_it_was_planted(method):
    values = torch.zeros(3, 32, 32)
    values[:, 8:12, 20:24] = 1.0
    heat = method(SeesOneCell(), values, 1)
    assert heat.shape == (8, 8)
    assert np.unravel_index(heat.argmax(), heat.shape) == (2, 5)
    assert heat.max() > 0
    assert np.allclose(method(SeesOneCell(), values, 0), -heat, atol=1e-5)


def test_gradients_add_up_to_the_difference_from_a_plain_image():
    model = SeesOneCell()
    values = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain = values.mean(dim=(1, 2), keepdim=True).expand_as(values)
    scores = explain.log_odds(model(torch.stack([values, plain])).logits, 1)
    assert explain.integrated_gradients(model, values, 1).sum() == pytest.approx(float(scores[0] - scores[1]), abs=1e-4)


@pytest.mark.parametrize("method", ["occlusion", "gradients"])
def test_random_weights_give_another_heat_map(trained, method):
    inspection = Inspection.load(trained)
    image = draw_image(5)
    learned = inspection.heat_map(image, 0, method=method)
    again = inspection.heat_map(image, 0, method=method)
    assert np.array_equal(learned, again)
    torch.manual_seed(1)
    for parameter in inspection._model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    random = inspection.heat_map(image, 0, method=method)
    assert abs(np.corrcoef(learned.ravel(), random.ravel())[0, 1]) < 0.7


def test_the_visible_part_is_all_unless_the_processor_crops():
    def squash(image):
        return np.asarray(image.resize((32, 32))).transpose(2, 0, 1)

    def crop(image):
        return squash(image.crop((image.width // 4, 0, image.width - image.width // 4, image.height)))

    assert explain.visible_box(squash)((640, 480)) == (0, 0, 1, 1)
    left, top, right, bottom = explain.visible_box(crop)((640, 480))
    assert (round(left, 1), top, round(right, 1), bottom) == (0.3, 0, 0.7, 1) or abs(left - 0.25) < 0.05
    assert abs(right - 0.75) < 0.05


def test_an_inspection_sees_what_the_plain_pipeline_sees(trained, prepared):
    from transformers import pipeline

    path = sorted((prepared / "test").rglob("*.png"))[0]
    inspection = Inspection.load(trained)
    logits, features = inspection.observe([path], title="")
    shares = torch.softmax(torch.from_numpy(logits)[0].double(), 0)
    plain = {one["label"]: one["score"] for one in pipeline("image-classification", model=str(trained))(str(path))}
    for name, share in zip(inspection.class_names, shares.tolist(), strict=True):
        assert share == pytest.approx(plain[name], abs=1e-4)
    assert np.allclose(inspection.logits([Image.open(path).convert("RGB")]), logits, atol=1e-5)
    width = AutoModelForImageClassification.from_pretrained(trained).config.hidden_size
    assert features.shape == (1, width)
