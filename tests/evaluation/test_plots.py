"""The image of the learning curves."""

import io

import numpy as np
from PIL import Image

from memevit.evaluation.plots import curves_png

HISTORY = [
    {"step": 10, "train_loss": 1.1, "learning_rate": 1e-4},
    {"step": 12, "eval_loss": 1.0, "eval_accuracy": 0.5, "eval_macro_f1": 0.4},
    {"step": 20, "train_loss": 0.6, "learning_rate": 5e-5},
    {"step": 24, "eval_loss": 0.7, "eval_accuracy": 0.8, "eval_macro_f1": 0.7},
]


def test_the_same_history_gives_the_same_bytes_and_another_one_others():
    content = curves_png(HISTORY, best_step=24)
    assert content == curves_png(HISTORY, best_step=24)
    assert content != curves_png(HISTORY, best_step=12)
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(content)).convert("L")))) > 50


def test_a_run_too_short_for_a_line_of_the_log_has_an_image_too():
    assert Image.open(io.BytesIO(curves_png([{"step": 1, "eval_loss": 0.5}], best_step=1))).size == (1100, 440)
