"""Reading and writing weights draws no bars; downloads keep theirs."""

from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging

from memevit.model import backbone


def test_no_bar_for_weights_is_drawn_and_the_settings_stay_as_they_were(tmp_path, tiny_backbone, capfd):
    logging.enable_progress_bar()
    level = logging.get_verbosity()
    model, processor = backbone.load_for_training(str(tiny_backbone), ["a", "b"], from_scratch=False)
    backbone.save_checkpoint(model, processor, tmp_path / "model")
    backbone.load_trained(tmp_path / "model")
    shown = capfd.readouterr()
    assert "Loading weights" not in shown.err + shown.out
    assert "Writing model" not in shown.err + shown.out
    assert not are_progress_bars_disabled()
    assert logging.get_verbosity() == level
    list(logging.tqdm(range(2), desc="another"))
    assert "another" in capfd.readouterr().err
