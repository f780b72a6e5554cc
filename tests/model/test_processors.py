"""The saved image processor, taken apart: the same pixels, whatever it is."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification
from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.mobilevit.image_processing_pil_mobilevit import MobileViTImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from memevit.errors import UserError
from memevit.model.classifier import Classifier
from memevit.model.geometry import Geometry
from memevit.model.image_dataset import AugmentAndNormalise, Augmentation, ImageDataset, keep_decoded
from memevit.model.processor import ByProcessor, Processor, pixel_values
from memevit.model.tensor_geometry import TensorGeometry
from tests.conftest import draw_image, write_classes


class TensorViTImageProcessor(ViTImageProcessorPil):
    """Resizes as the processors of torchvision do, which can't be installed here."""

    def resize(self, image, size, resample=None, **kwargs):
        mode = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}[resample]
        shape = (size.height, size.width)
        return torch.nn.functional.interpolate(torch.tensor(image)[None], shape, mode=mode, antialias=True)[0].numpy()


SQUARE = {"height": 32, "width": 32}
PROCESSORS = {
    "vit": ViTImageProcessorPil(size=SQUARE),
    "convnext, crop_pct": ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.8),
    "siglip": SiglipImageProcessorPil(size=SQUARE),
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE),
    "beit": BeitImageProcessorPil(size=SQUARE, do_center_crop=False),
    "vit, tensors": TensorViTImageProcessor(size=SQUARE, resample=Image.Resampling.BICUBIC),
    "beit, crop": BeitImageProcessorPil(size={"height": 40, "width": 40}, do_center_crop=True, crop_size=SQUARE),
}
CROPPING = {"convnext, crop_pct", "clip", "beit, crop"}  # The processor itself is asked; training turns cropping off.
SIZES = ((96, 72), (40, 130), (31, 33), (32, 32), (1, 1))


@pytest.mark.parametrize("kind", PROCESSORS)
def test_every_processor_gives_the_same_probabilities_as_its_parts(kind):
    processor = PROCESSORS[kind]
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=3, **small)).eval()
    images = [draw_image(seed, size=size) for seed, size in enumerate(SIZES[:-1])]
    found = Classifier(model, processor).probabilities(images)
    with torch.inference_mode():
        logits = model(**processor(images=images, return_tensors="pt")).logits
    assert np.allclose(found, torch.softmax(logits, dim=-1).numpy(), atol=1e-5)


@pytest.mark.parametrize("kind", PROCESSORS)
def test_every_processor_shows_the_same_pixels_as_its_parts(kind):
    processor = PROCESSORS[kind]
    shown = Processor.of(processor)
    assert (shown.geometry is None) == (kind in CROPPING)
    assert isinstance(shown.render, ByProcessor) == (kind in CROPPING)
    for seed, size in enumerate(SIZES):
        image = draw_image(seed, size=size) if min(size) > 20 else draw_image(seed).resize(size)
        levels = torch.from_numpy(shown.render(image))[None]
        expected = pixel_values([image], processor)
        assert levels.dtype == torch.uint8
        assert torch.allclose(shown.normalise(levels), expected, atol=1e-5)


def test_a_saved_processor_comes_back_as_the_same_pixels(tmp_path):
    PROCESSORS["siglip"].save_pretrained(tmp_path)
    again = Processor.of(AutoImageProcessor.from_pretrained(tmp_path))
    assert again.geometry == Processor.of(PROCESSORS["siglip"]).geometry == Geometry(resample=3, size=(32, 32))


def test_images_for_a_processor_of_tensors_are_decoded_without_it_and_cached():
    size = {"height": 224, "width": 224}
    shown = Processor.of(TensorViTImageProcessor(size=size, resample=Image.Resampling.BILINEAR))
    assert isinstance(shown.render, TensorGeometry)
    assert shown.geometry is not None


def test_a_processor_that_swaps_channels_is_asked_itself():
    processor = MobileViTImageProcessorPil(size={"shortest_edge": 40}, crop_size=SQUARE)  # It swaps red and blue.
    shown, image = Processor.of(processor), draw_image(1)
    assert shown.geometry is None
    values = shown.normalise(torch.from_numpy(shown.render(image))[None])
    assert torch.allclose(values, pixel_values([image], processor), atol=1e-5)


def test_a_processor_that_pads_to_no_one_size_is_refused():
    with pytest.raises(UserError, match="ViltImageProcessorPil does more than"):
        Processor.of(ViltImageProcessorPil())


def test_an_image_that_the_processor_enlarges_can_be_cached_too():
    usual = ViTImageProcessorPil(size={"height": 224, "width": 224}, resample=Image.Resampling.BILINEAR)
    assert Processor.of(usual).geometry is not None


def test_what_is_cached_is_trained_on_as_sharp_as_what_is_decoded_every_time(tmp_path):
    write_classes(tmp_path / "images", n=8)
    paths = sorted((tmp_path / "images").rglob("*.png"))
    shown, augmentation = Processor.of(PROCESSORS["vit"]), Augmentation(colour=0.0)
    decoded, cached = (ImageDataset(paths, [0] * len(paths), shown, augmentation) for _ in range(2))
    keep_decoded([cached], "train", tmp_path / "cache")
    finish = AugmentAndNormalise(shown, augmentation)
    expected, found = (finish(one.__getitems__(list(range(len(paths)))))["pixel_values"] for one in (decoded, cached))
    contrast, expected_contrast = (
        one.diff(dim=2).abs().mean() + one.diff(dim=3).abs().mean() for one in (found, expected)
    )
    assert contrast / expected_contrast == pytest.approx(1.0, abs=0.04)
    assert (found - expected).abs().mean() < 0.02 * (expected.max() - expected.min())
