"""Load a backbone with a new classification head, and the image processor that goes with it."""

import logging
from pathlib import Path

from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from memevit.errors import UserError
from memevit.labels import label_maps

logger = logging.getLogger(__name__)

DEFAULT_BACKBONE = "google/vit-base-patch16-224-in21k"
BACKBONES_DIR = Path(__file__).parents[2] / "backbones"
SCRATCH_BACKBONE = BACKBONES_DIR / "vit-micro-patch16-128"


def resolve(name_or_path: str | None, *, from_scratch: bool) -> str:
    """The backbone to use where none is named."""
    return name_or_path or (str(SCRATCH_BACKBONE) if from_scratch else DEFAULT_BACKBONE)


def load_for_training(
    name_or_path: str, class_names: list[str], *, from_scratch: bool, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """A model with one logit per class, and its image processor without a centre crop.

    Args:
        name_or_path: a Hub id or a local folder.
        class_names: position is the label.
        from_scratch: random weights; only the configuration is read.
        trust_remote_code: run the code that comes with the checkpoint.

    Raises:
        UserError: there is no such backbone, or it can't be fetched.
    """
    id2label, label2id = label_maps(class_names)
    try:
        image_processor = AutoImageProcessor.from_pretrained(name_or_path, trust_remote_code=trust_remote_code)
        config = AutoConfig.from_pretrained(
            name_or_path,
            num_labels=len(class_names),
            id2label=id2label,
            label2id=label2id,
            problem_type="single_label_classification",
            trust_remote_code=trust_remote_code,
        )
        if from_scratch:
            model = AutoModelForImageClassification.from_config(config, trust_remote_code=trust_remote_code)
        else:
            model = AutoModelForImageClassification.from_pretrained(
                name_or_path, config=config, ignore_mismatched_sizes=True, trust_remote_code=trust_remote_code
            )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(_explain(name_or_path, error)) from error
    return model, without_crop(image_processor)


def _explain(name_or_path: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0]
    if Path(name_or_path).is_dir():
        return (
            f"{name_or_path} is not a backbone that can be trained ({reason}). It needs config.json, "
            "preprocessor_config.json and model.safetensors, of an image classification architecture."
        )
    return (
        f"The backbone {name_or_path} can't be had ({reason}). Without a network, name a local folder with "
        f"--model_name_or_path, or train a small network from random weights with --from_scratch."
    )


def without_crop(image_processor: BaseImageProcessor) -> BaseImageProcessor:
    """The processor with its centre crop off: memes carry text to the edges, so the whole picture is squeezed in."""
    if getattr(image_processor, "do_center_crop", False):
        image_processor.size = image_processor.crop_size
        image_processor.do_center_crop = False
    image_processor.do_convert_rgb = True
    return image_processor


def n_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """Number of parameters, and of those that training changes."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)
