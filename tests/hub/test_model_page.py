"""The model card: true, complete, and nothing on it that is not in the files beside it."""

import json
import re
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard

from memevit import results
from memevit.evaluation import plots
from memevit.hub import description, model_page

LINKS = model_page.Links(repo_id="me/games")
NUMBER = re.compile(r"(?<![\w.,-])\d+(?:\.\d+)?(?:e-?\d+)?(?!\w|[.,]\d)")
# Numbers of a name: of the Transformer's paper, of the F1 measure, of a license, of a backbone.
NAMES = re.compile(r"https?://\S+|`[^`]*`|\bF1\b|apache-2\.0|cc-by-4\.0|95 %|16-bit|et al\., \d+")


def numbers_in(value):
    """Every number in a results.json, as the card may write it."""
    if isinstance(value, dict):
        return set().union(set(), *(numbers_in(own) for own in value.values()))
    if isinstance(value, list):
        return set().union(set(), *(numbers_in(own) for own in value))
    if isinstance(value, bool) or value is None:
        return set()
    if isinstance(value, str):
        return set(NUMBER.findall(value))
    return {
        json.dumps(value),
        f"{value:.3f}",
        f"{value:.0f}",
        f"{value:g}",
        f"{value:.2g}",
        f"{value / 1000:.0f}",
    }  # Also 17 k.


def front_of(text):
    return yaml.safe_load(text.split("---\n")[1])


@pytest.fixture
def folder(model_dir, tmp_path):
    return shutil.copytree(model_dir, tmp_path / "games")


def test_every_number_on_the_card_is_in_results_json(model_dir):
    text = model_page.render(model_dir, links=LINKS)
    found = results.read(model_dir)
    body = NAMES.sub("", text.split("---\n", 2)[2])
    shown = NUMBER.findall(body)
    assert len(shown) > 50
    assert set(shown) - numbers_in(found) == set()
    in_front = [json.dumps(one) for one in _numbers(front_of(text)["model-index"])]
    assert len(in_front) > 20
    assert set(in_front) <= numbers_in(found)


def _numbers(value):
    if isinstance(value, dict):
        return [number for own in value.values() for number in _numbers(own)]
    if isinstance(value, list):
        return [number for own in value for number in _numbers(own)]
    return [value] if isinstance(value, (int, float)) else []


def test_a_number_from_nowhere_would_be_noticed(model_dir):
    assert "0.123" not in numbers_in(results.read(model_dir))
    assert NUMBER.findall(NAMES.sub("", "accuracy 0.123, 7 images (95 %), `vit-16`")) == ["0.123", "7"]


@pytest.mark.parametrize(("model_type", "is_known"), [("vit", True), ("siglip", False)])
def test_transformers_js_is_named_only_where_it_knows_the_architecture(folder, model_type, is_known):
    file = {"name": "onnx/model.onnx", "dtype": "fp32", "bytes": 11_300_000, "n_same": 9, "ci_low": 0.6,
            "ci_high": 1.0, "largest_difference": 3e-6}  # fmt: skip
    section = {"images": "test images", "n": 10, "files": [file], "processor": {"size": [8, 8]},
               "gives_known_score": False}  # fmt: skip
    results.update(folder, onnx=section)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    text = model_page.render(folder, links=LINKS)
    assert ("transformers.js" in front_of(text)["tags"]) is is_known
    assert ("```js" in text) is is_known
    assert ("does not know this architecture" in text) is not is_known
    assert (
        f"| `onnx/model.onnx` | {'`fp32` | ' if is_known else ''}11.3 MB | 9 of 10 | 0.600 to 1.000 | 3e-06 |" in text
    )


def test_the_model_index_holds_every_number_about_the_model(model_dir):
    found, (index,) = results.read(model_dir), front_of(model_page.render(model_dir))["model-index"]
    listed = [
        (result["dataset"]["split"], metric["value"]) for result in index["results"] for metric in result["metrics"]
    ]
    own = [(m["split"], m["value"]) for m in found["measurements"] if m["subject"] == results.MODEL]
    own += [(row["split"], row[name]) for row in found["per_class"] for name in ("precision", "recall", "f1")]
    assert sorted(listed) == sorted(own)
    assert len(own) == 6 + 9
    accuracy = index["results"][0]["metrics"][0]
    assert accuracy["args"].keys() == {"n", "ci_low", "ci_high", "ci_method"}


def test_the_front_matter_is_what_the_hub_reads(model_dir):
    data = ModelCard(model_page.render(model_dir, links=LINKS, license_id="mit")).data
    assert (data.license, data.pipeline_tag, data.library_name) == ("mit", "image-classification", "transformers")
    assert data.metrics == ["accuracy", "f1", "precision", "recall"]
    assert data.tags == ["image-classification", "vision", "coral", "moss", "slate"]
    assert (data.base_model, data.datasets) == (None, None)


@pytest.mark.parametrize(
    ("training", "license_id", "base"),
    [
        ({"base_model": "google/vit-base-patch16-224-in21k"}, "apache-2.0", "google/vit-base-patch16-224-in21k"),
        ({"base_model": "somebody/swin"}, "unknown", "somebody/swin"),
        ({"base_model": "/home/jane/backbone"}, "unknown", None),
        ({"base_model": "google/vit-base-patch16-224", "from_scratch": True}, "apache-2.0", None),
        ({"base_model": "/srv/project/backbones/vit-micro"}, "apache-2.0", None),
    ],
)
def test_licence_and_base_model_are_those_of_the_backbone(folder, training, license_id, base):
    results.update(folder, training=results.read(folder)["training"] | training)
    text = model_page.render(folder)
    front = front_of(text)
    assert front["license"] == license_id
    assert front.get("base_model") == base
    assert front.get("base_model_relation") == ("finetune" if base else None)
    assert "/home/jane" not in text
    assert "/srv/project" not in text


def test_it_says_in_words_what_there_is(folder):
    text = model_page.render(folder, links=LINKS)
    for heading in (
        "## Use",
        "## Classes",
        "## Results",
        "## Training data",
        "## Training",
        "## Limits",
    ):
        assert heading in text, heading
    assert "**coral**, **moss**, **slate**" in text
    assert "not stated. The images belong to the people who made them" in text
    assert "AMD EPYC, 2 cores" in text
    assert "confusion_matrix.png" in text


def test_a_baseline_that_is_not_beaten_is_named(folder):
    found = results.read(folder)
    for m in found["measurements"]:
        if m["name"] == "accuracy" and m["split"] == "test":
            m["value"] = {"fine-tuned model": 0.5, "majority class": 0.4, "colour histogram": 0.5}[m["subject"]]
    results.update(folder, measurements=found["measurements"], comparisons=[])
    assert "**This model does not beat the colour histogram on the test split.**" in model_page.render(folder)
    assert "does not beat the majority" not in model_page.render(folder)
    paired = [
        {"baseline": name, "split": "test", "is_better": is_better, "p_value": 0.25}
        for name, is_better in (("majority class", False), ("colour histogram", True))
    ]
    results.update(folder, comparisons=paired)
    text = model_page.render(folder)
    assert "**This model does not beat the majority class on the test split (paired test, p = 0.25).**" in text
    assert "does not beat the colour" not in text


def test_later_evidence_gets_its_section_by_being_there(folder):
    before = model_page.render(folder)
    assert not re.search(r"^## (Calibration|Open set|Shortcuts)", before, re.MULTILINE)
    ece = {"name": "ece", "value": 0.0421, "split": "test", "n": 18, "ci_low": 0.01, "ci_high": 0.09}
    results.update(folder, calibration={"summary": "How far to trust a probability.", "measurements": [ece]})
    results.update(folder, shortcuts={"title": "What it looks at", "measurements": []}, open_set={"threshold": 1.5})
    text = model_page.render(folder)
    assert "## Calibration\n\nHow far to trust a probability." in text
    assert "| ece | 0.042 | 0.010 to 0.090 | test | 18 |" in text
    assert "What it looks at" not in text
    assert {"type": "ece", "value": 0.0421} == {
        key: value
        for result in front_of(text)["model-index"][0]["results"]
        for metric in result["metrics"]
        if metric["type"] == "ece"
        for key, value in metric.items()
        if key in ("type", "value")
    }
    assert "It answers with one of its classes whatever it is shown" in before
    assert "It answers with one of its classes whatever it is shown" not in text


def unknown_images():
    """A section about unknown images, as calibration writes it."""
    from memevit.evaluation import known_scores
    from tests.evaluation.test_known_scores import SETTINGS, known, unknown

    return known_scores.section(SETTINGS, known(), [unknown()], ["doom", "zelda"])


def test_the_card_says_what_is_rejected_and_what_is_let_through(folder):
    results.update(folder, open_set=unknown_images())
    text = model_page.render(folder)
    assert "| doom | test | 20 | 0.250 | 0.112 to 0.469 |" in text  # 5 of 20, Wilson.
    assert "| drawn images | 30 | 0.000 |" in text
    types = {metric["type"] for result in front_of(text)["model-index"][0]["results"] for metric in result["metrics"]}
    assert {"auroc_known_against_unknown", "false_rejection"} <= types
    assert "trust_remote_code" not in text  # Only a published model brings the code.


def test_names_cannot_break_the_page(folder):
    found = results.read(folder)
    classes = found["data"]["classes"] | {"a|b <script>": found["data"]["classes"]["coral"]}
    results.update(folder, data=found["data"] | {"classes": classes})
    text = model_page.render(folder)
    assert "| a\\|b &lt;script&gt; | 28 |" in text
    assert "<script>" not in text


def test_a_folder_with_little_in_it_gives_a_page_without_empty_sections(tmp_path):
    results.update(tmp_path, measurements=[])
    text = model_page.render(tmp_path)
    assert "## Results" not in text
    assert "model-index" not in front_of(text)
    assert not re.search(r"^#+ [^\n]*\n+(?=#|\Z)", text, re.MULTILINE)


def test_the_image_of_the_confusion_is_the_same_for_the_same_counts():
    confusion = {"split": "test", "class_names": ["a$b", "ü"], "counts": [[3, 1], [0, 4]]}
    content = plots.confusion_png(confusion)
    assert content.startswith(b"\x89PNG")
    assert content == plots.confusion_png(confusion)
    many = [str(number) for number in range(60)]
    assert plots.confusion_png({"split": "test", "class_names": many, "counts": [[1] * 60] * 60}) != content


HOSTILE = [
    "<script>alert(1)</script>", "<!--", "--> <img src=x onerror=alert(1)>", "a|b", "[x](javascript:alert(1))",
    "![x](https://evil.example/x.png)", "https://evil.example", "www.evil.example", "`code` ``` x", "a\n---\n# heading",
    "\x1b[2J", "{{ 7 * 7 }}", "@everybody", "=1+1",
]  # fmt: skip


def rendered(text):
    """The card as the Hub's Markdown would show it."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text.split("---\n", 2)[2])


def links_of(html):
    return set(re.findall(r'(?:href|src)="([^"]*)"', html))


def test_nothing_from_data_becomes_markup_wherever_it_comes_from(folder):
    found = results.read(folder)
    plain = links_of(rendered(model_page.render(folder, links=LINKS)))
    counts = next(iter(found["data"]["classes"].values()))
    measured = {"summary": HOSTILE[0], "title": HOSTILE[4], "measurements": [{"name": HOSTILE[5], "value": 0.5}]}
    for text in HOSTILE:
        data = {"classes": {text: counts, f"{text}2": counts}, "source": f"kaggle:{text}", "license": text}
        data |= {
            "title": text,
            "description": text,
            "source_url": f"x{text}",
            "fingerprint": text,
            "n_left_out": {text: 1},
        }
        training = found["training"] | {"base_model": f"/x/{text}", "hardware": text, "precision": text}
        per_class = [row | {"class_name": text} for row in found["per_class"]]
        results.update(folder, data=data, training=training, per_class=per_class, open_set=measured)
        card = model_page.render(folder, links=LINKS)
        html = rendered(card)
        assert not re.search(r"<(script|img src=x)|<!--|javascript:[^<]*\"|\x1b", html), text
        assert {one for one in links_of(html) if "evil" in one or one.startswith("javascript")} == set(), text
        assert links_of(html) <= plain | {"https://www.kaggle.com/datasets/a"}, text
        assert html.count("<h1>") == 1, text
        assert "49" not in front_of(card)["model-index"][0]["name"]


def test_the_first_lines_say_how_good_it_is_and_what_it_tells_apart(folder):
    lines = model_page.render(folder, links=LINKS).split("---\n", 2)[2].strip().splitlines()
    assert re.match(r"\*\*Accuracy 0\.\d{3}\*\* on 18 test images \(95 % interval 0\.\d+ to 0\.\d+\)", lines[2])
    assert lines[2].endswith("at telling apart **coral**, **moss**, **slate**.")


def test_the_words_are_those_that_were_given_and_none_about_memes_otherwise(folder):
    found = results.read(folder)
    words = description.describe(found, name="me/pets", title="Pets", sentence="Sorts pets.", tags=["pets"])
    text = model_page.render(folder, description=words, links=LINKS)
    assert "\n# Pets\n" in text
    assert "\nSorts pets.\n" in text
    assert front_of(text)["tags"] == ["image-classification", "vision", "pets"]
    results.update(folder, data=found["data"] | {"source": "folder"})
    assert not re.search(
        r"\b(meme|game|doom)s?\b", model_page.render(folder, links=model_page.Links(repo_id="me/x")), re.I
    )


def test_examples_come_with_widget_and_sample_output(folder, tmp_path):
    image = tmp_path / "coral_1.png"
    image.write_bytes(plots.confusion_png({"split": "test", "class_names": ["a", "b"], "counts": [[1, 0], [0, 1]]}))
    example = model_page.Example(image, {"coral": 0.1, "moss": 0.7, "slate": 0.2})
    text = model_page.render(folder, links=LINKS, examples=[example])
    (widget,) = front_of(text)["widget"]
    assert widget["src"] == "https://huggingface.co/me/games/resolve/main/examples/coral_1.png"
    assert widget["output"][0] == {"label": "moss", "score": 0.7}
    assert '<img src="examples/coral_1.png"' in text
    assert "moss 0.700<br>slate 0.200<br>coral 0.100" in text


def test_links_lead_to_dataset_space_and_project_and_the_version_is_pinned(folder):
    links = model_page.Links(
        "me/x", "v3", "me/x-data", "mit", "me/x-demo", base_model="me/backbone", project_url="https://code.example/x"
    )
    text = model_page.render(folder, links=links)
    for link in ("spaces/me/x-demo", "datasets/me/x-data", "https://huggingface.co/me/backbone"):
        assert link in text
    assert "[Code](https://code.example/x)" in text
    assert 'model="me/x", revision="v3")' in text
    assert front_of(text)["base_model"] == "me/backbone"


def test_figures_are_written_as_people_write_them(folder):
    training = results.read(folder)["training"] | {"n_parameters": 85_800_194, "seconds": 743.2}
    results.update(folder, training=training)
    text = model_page.render(folder)
    assert "| parameters | 86 M |" in text
    assert "| training time | 12 min |" in text
    assert "learning_curves.png" in text
