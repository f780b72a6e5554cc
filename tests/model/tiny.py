"""Checkpoints with random weights of every kind of backbone, as small as the kind allows, as the Hub has them."""

import torch
from transformers import (
    BeitConfig,
    BeitForMaskedImageModeling,
    CLIPConfig,
    CLIPModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    Dinov2Config,
    Dinov2Model,
    SiglipConfig,
    SiglipModel,
    SwinConfig,
    SwinForImageClassification,
    ViTConfig,
    ViTModel,
)
from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SIDE = 32
_SQUARE = {"height": SIDE, "width": SIDE}
_CROPPING = {"size": {"shortest_edge": 40}, "crop_size": _SQUARE, "do_center_crop": True}
_BLOCKS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
_PATCHES = {"image_size": SIDE, "patch_size": 8}
_TEXT = {**_BLOCKS, "num_hidden_layers": 1, "vocab_size": 20}


def _vit():
    return ViTModel(ViTConfig(**_BLOCKS, **_PATCHES)), ViTImageProcessorPil(size=_SQUARE)


def _deit():
    config = DeiTConfig(**_BLOCKS, **_PATCHES)
    processor = DeiTImageProcessorPil(size={"height": 40, "width": 40}, crop_size=_SQUARE, do_center_crop=True)
    return DeiTForImageClassificationWithTeacher(config), processor


def _beit():
    config = BeitConfig(**_BLOCKS, **_PATCHES, vocab_size=20, use_relative_position_bias=True, use_mask_token=True)
    processor = BeitImageProcessorPil(size={"height": 40, "width": 40}, crop_size=_SQUARE, do_center_crop=True)
    return BeitForMaskedImageModeling(config), processor


def _swin():
    config = SwinConfig(embed_dim=8, depths=[1, 2], num_heads=[2, 2], window_size=4, image_size=SIDE, patch_size=4)
    return SwinForImageClassification(config), ViTImageProcessorPil(size=_SQUARE)


def _convnext():
    config = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 2], num_stages=2, image_size=SIDE, num_labels=5)
    return ConvNextForImageClassification(config), ConvNextImageProcessorPil(size={"shortest_edge": SIDE})


def _dinov2():
    config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=56,
                          patch_size=8)  # fmt: skip
    return Dinov2Model(config), BitImageProcessorPil(**_CROPPING)


def _siglip():
    vision = {**_BLOCKS, **_PATCHES}
    return SiglipModel(SiglipConfig(vision_config=vision, text_config=_TEXT)), SiglipImageProcessorPil(size=_SQUARE)


def _clip():
    vision = {**_BLOCKS, **_PATCHES, "projection_dim": 8}
    config = CLIPConfig(vision_config=vision, text_config=_TEXT, projection_dim=8)
    return CLIPModel(config), CLIPImageProcessorPil(**_CROPPING)


KINDS = {
    "vit": _vit, "deit": _deit, "beit": _beit, "swin": _swin, "convnext": _convnext, "dinov2": _dinov2,
    "siglip": _siglip, "clip": _clip,
}  # fmt: skip


def save(kind, path):
    """Write a checkpoint of `kind` and its image processor to `path`."""
    torch.manual_seed(0)
    model, image_processor = KINDS[kind]()
    model.save_pretrained(path)
    image_processor.save_pretrained(path)
    return path
