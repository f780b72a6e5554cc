"""Models as ONNX graphs."""

import numpy as np
import pytest
import torch

from memevit.errors import UserError
from memevit.model import backbone, onnx_export, open_set
from memevit.model.forward import forward
from tests.model import tiny

pytest.importorskip("onnxscript")


def loaded(kind, tmp_path):
    path = tiny.save(kind, tmp_path / kind)
    model, image_processor = backbone.load_for_training(str(path), ["a", "b", "c"], from_scratch=False)
    return model.eval(), image_processor


@pytest.mark.parametrize("kind", ["vit"])
def test_the_graph_says_what_the_model_says(tmp_path, kind):
    check(kind, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(set(tiny.KINDS) - {"vit"}))
def test_graphs_of_other_kinds_do_too(tmp_path, kind):
    check(kind, tmp_path)


def check(kind, tmp_path):
    model, image_processor = loaded(kind, tmp_path)
    attention = model.config._attn_implementation
    height, width = onnx_export.processor_json(image_processor)["size"]
    onnx_export.export(model, tmp_path / "model.onnx", image_size=(height, width))
    values = torch.randn(5, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(pixel_values=values).logits.softmax(-1).numpy()
    logits = onnx_export.run(tmp_path / "model.onnx", values.numpy(), batch_size=2)["logits"]
    found = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert onnx_export.require_equal(expected, found)["n_same"] == 5
    onnx_export.write_half(tmp_path / "model.onnx", tmp_path / "half.onnx")
    half = onnx_export.run(tmp_path / "half.onnx", values.numpy())["logits"]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, logits, atol=5e-3)
    assert model.config._attn_implementation == attention
    assert {file.name for file in tmp_path.glob("*onnx*")} == {"model.onnx", "half.onnx"}
    assert b".py" not in (tmp_path / "model.onnx").read_bytes()  # The exporter notes its source files, with folders.


def test_the_graph_gives_the_known_score_of_the_other_tools(tmp_path):
    model, image_processor = loaded("vit", tmp_path)
    random = torch.Generator().manual_seed(0)
    values = torch.randn(90, 3, tiny.SIDE, tiny.SIDE, generator=random)
    found = forward(model, [values], layers=("final", "block_1"))
    seen = open_set.Seen(found.logits, found.features, np.arange(90) % 3)
    known = open_set.fit(seen, seen, class_names=["a", "b", "c"])
    onnx_export.export(model, tmp_path / "model.onnx", image_size=(tiny.SIDE, tiny.SIDE), known=known)
    score = onnx_export.run(tmp_path / "model.onnx", values.numpy())["known_score"]
    np.testing.assert_allclose(score, known.known_scores(found.logits, found.features), atol=2e-3)
    onnx_export.write_half(tmp_path / "model.onnx", tmp_path / "half.onnx")
    assert list(onnx_export.run(tmp_path / "half.onnx", values.numpy())) == ["logits"]
    described = onnx_export.open_set_json(known)
    assert described["thresholds"] == known.thresholds().tolist()
    assert len(described["references"][0]["scores"]) == 90


def test_a_graph_that_says_something_else_is_refused():
    with pytest.raises(UserError, match=r"differs from the model by 1\.0e-01"):
        onnx_export.require_equal(np.array([[0.6, 0.4]]), np.array([[0.5, 0.5]]))
    with pytest.raises(UserError, match="differs from the model by nan"):
        onnx_export.require_equal(np.array([[0.6, 0.4]]), np.array([[np.nan, np.nan]]))


def test_a_filter_that_no_browser_repeats_is_refused(tmp_path):
    _, image_processor = loaded("vit", tmp_path)
    image_processor.resample = 0  # Nearest neighbour.
    with pytest.raises(UserError, match="can't be repeated in a browser"):
        onnx_export.processor_json(image_processor)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(UserError, match=r"needs onnxscript. Run: pip install -r requirements-web\.txt"):
        onnx_export.require_packages()
