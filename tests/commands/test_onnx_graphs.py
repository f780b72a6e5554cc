"""Graphs that leave this machine."""

import numpy as np
import pytest
import torch

from memevit.commands import onnx_graphs
from memevit.errors import UserError
from memevit.hub import checks
from memevit.model import backbone, onnx_export
from tests.model import tiny

pytest.importorskip("onnxscript")


def test_a_model_whose_values_overflow_in_half_precision_is_not_published(tmp_path):
    names = ["a", "b"]
    model, processor = backbone.load_for_training(str(tiny.save("vit", tmp_path)), names, from_scratch=False)
    with torch.no_grad():
        model.classifier.weight.copy_(9000.0 * torch.tensor([[1.0, -1.0]]).T * model.vit.layernorm.weight.sign())
        model.vit.layernorm.bias.fill_(10.0)  # Each logit is the sum of 16 values of about 90,000: fp16 ends at 65,504.
    path = tmp_path / "model.onnx"
    onnx_export.export(model.eval(), path, image_size=(tiny.SIDE, tiny.SIDE))
    inputs = np.zeros((2, 3, tiny.SIDE, tiny.SIDE), dtype=np.float32)
    shares = np.array([[1.0, 0.0], [1.0, 0.0]])
    reference = checks.Reference([tmp_path / "x.png"] * 2, names, shares)
    described = onnx_export.processor_json(processor)
    graph = onnx_graphs.Graph(path, model, names, described, None, reference, inputs)
    with pytest.raises(UserError, match="In half precision the values of this model overflow"):
        onnx_graphs.for_transformers_js(graph, images="black ones")
