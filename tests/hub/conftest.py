"""A model folder as finetune_vit.py writes it, without the training."""

import numpy as np
import pytest

from memevit import results


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory, prepared, tiny_backbone):
    """A tiny model with random weights, measured on `prepared`, with everything that a model folder holds."""
    from memevit.data import prepared as prepared_data
    from memevit.evaluation import measure
    from memevit.hub import card
    from memevit.model import backbone, inference
    from memevit.pixels import load_image

    path = tmp_path_factory.mktemp("models") / "tiny-model"
    dataset = prepared_data.load(prepared)
    model, image_processor = backbone.load_for_training(str(tiny_backbone), dataset.class_names, from_scratch=False)
    model.save_pretrained(path)
    image_processor.save_pretrained(path)
    classifier = inference.Classifier.load(path)
    logits = {
        name: np.log(classifier.probabilities([load_image(one) for one in dataset.by_name[name].paths]))
        for name in ("validation", "test")
    }
    sections = measure.record(path, dataset.class_names, dataset.by_name, logits, seed=0)
    training = {
        "seconds": 12.3, "hardware": "AMD EPYC, 2 cores", "n_steps": 90, "n_epochs": 15.0, "best_step": 84,
        "n_parameters": 16931, "n_trainable_parameters": 16931, "learning_rate": 3e-4, "batch_size": 16,
        "precision": "fp32", "seed": 0, "from_scratch": False, "base_model": str(tiny_backbone), "image_size": 32,
    }  # fmt: skip
    results.update(path, **sections, training=training, history=[], data=prepared_data.describe(prepared))
    results.write_run(
        path, {"arguments": {"dataset": prepared.name, "seed": 0}, "environment": results.environment(), "seed": 0}
    )
    card.write(path)
    return path
