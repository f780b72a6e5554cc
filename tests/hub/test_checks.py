"""What must hold of the assembled folder: each fault by itself, and the check against the local model."""

import json
import shutil

import numpy as np
import pytest

from memevit.errors import UserError
from memevit.hub import checks, description, model_page, model_repo
from memevit.model.classifier import Classifier


@pytest.fixture(scope="module")
def reference(model_dir, tmp_path_factory):
    paths = checks.drawn_images(tmp_path_factory.mktemp("drawn"), n=4)
    classifier = Classifier.load(model_dir)
    return checks.Reference.of(classifier.class_names, list(classifier.classify(paths)))


def assemble(source, target):
    words = description.Description("Games", "Tells games apart.", [], ["coral", "moss", "slate"], None)
    model_repo.assemble(source, target, description=words, links=model_page.Links(repo_id="me/games"))


@pytest.fixture
def folder(model_dir, tmp_path):
    (tmp_path / "page").mkdir()
    assemble(model_dir, tmp_path / "page")
    return tmp_path / "page"


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def names(*values):
    return {str(label): name for label, name in enumerate(values)}


SPOILT = [
    (lambda f: (f / "preprocessor_config.json").unlink(), "the image processor"),
    (lambda f: (f / "model.safetensors").unlink(), "the weights"),
    (lambda f: change(f / "config.json", architectures=["ViTModel"]), "no image classification model"),
    (lambda f: change(f / "config.json", auto_map={"AutoModel": "x.Y"}), "code of its own"),
    (lambda f: change(f / "config.json", id2label=names("LABEL_0", "LABEL_1", "LABEL_2")), "'LABEL_0'"),
    (lambda f: change(f / "config.json", id2label=names("a", "a", "b")), "no proper id2label"),
    (lambda f: change(f / "config.json", label2id={"coral": 1}), "not the inverse"),
    (lambda f: change(f / "results.json", confusion_matrix={"class_names": ["x", "y"]}), "is about the classes"),
    (lambda f: (f / "README.md").write_text("no front matter"), "pipeline_tag in README.md is None"),
    (lambda f: (f / "README.md").write_text("---\na: [\n---\n"), "can't be read"),
    (lambda f: (f / "config.json").write_text("{"), "config.json is damaged"),
    (lambda f: (f / "weights.pt").write_text("x"), "which pickles have"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_faulty_page_is_refused_with_its_fault(folder, reference, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match="(Nothing was published|damaged)") as refused:
        checks.check(folder, reference)
    assert message in str(refused.value)


def test_a_sound_page_passes_and_another_model_behind_it_does_not(folder, reference):
    checks.check(folder, reference)
    other = checks.Reference(reference.paths, reference.class_names, np.roll(reference.probabilities, 1, axis=1))
    with pytest.raises(UserError, match="other probabilities than the local model"):
        checks.check(folder, other)
    nothing = checks.Reference(reference.paths, reference.class_names, reference.probabilities * np.nan)
    with pytest.raises(UserError, match="other probabilities"):
        checks.check(folder, nothing)
    renamed = checks.Reference(reference.paths, ["a", "b", "c"], reference.probabilities)
    with pytest.raises(UserError, match="answers with"):
        checks.check(folder, renamed)


def test_only_the_page_is_assembled_and_no_folder_of_this_machine_is_named(model_dir, tmp_path, caplog):
    source = shutil.copytree(model_dir, tmp_path / "model")
    (source / "checkpoint-9").mkdir()
    (source / "training_args.bin").write_bytes(b"\x80\x02")
    (source / "notes.txt").write_text("mine")
    change(source / "run.json", arguments={"dataset": "/home/jane/memes/", "list": ["C:\\data\\x", "~/a/b", "/"]})
    (tmp_path / "page").mkdir()
    caplog.set_level("INFO")
    assemble(source, tmp_path / "page")
    assert all(model_repo.is_ours(path.name) for path in (tmp_path / "page").iterdir())
    arguments = json.loads((tmp_path / "page" / "run.json").read_text())["arguments"]
    assert arguments == {"dataset": "memes", "list": ["x", "b", "/"]}
    assert "checkpoint-9, notes.txt, training_args.bin" in caplog.text


def test_a_folder_without_a_model_is_no_page(tmp_path):
    with pytest.raises(UserError, match="holds no model"):
        assemble(tmp_path, tmp_path)


def test_drawn_images_are_always_the_same_and_differ_from_each_other(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = (checks.drawn_images(tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len({path.read_bytes() for path in first}) == checks.N_DRAWN_IMAGES
