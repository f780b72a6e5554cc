"""A page to try the model whose name is in model.txt."""

from pathlib import Path

HERE = Path(__file__).parent
OPEN_SET_TASK = "open-set-image-classification"  # Its code comes with the model.


def main() -> None:
    """Fetch the model and serve the page."""
    # Neighbours in the Space, and not importable under these names elsewhere.
    import page
    import pixels
    from transformers import AutoConfig, pipeline

    name = (HERE / "model.txt").read_text(encoding="utf-8").strip()
    answers_unknown = OPEN_SET_TASK in (getattr(AutoConfig.from_pretrained(name), "custom_pipelines", None) or {})
    task = OPEN_SET_TASK if answers_unknown else "image-classification"
    classifier = pipeline(task, model=name, trust_remote_code=answers_unknown)

    def classify(path: Path) -> tuple[page.Answer, page.Image.Image | None]:
        try:
            image = pixels.load_image(path)
        except pixels.UnreadableImageError as error:
            return str(error), None
        found = classifier(image, top_k=page.MAX_SHOWN_CLASSES)
        by_class = {one["label"]: one["score"] for one in (found["scores"] if answers_unknown else found)}
        if answers_unknown and not found["accepted"]:
            return page.Judged(by_class, found["known_score"], found["label"], found["reason"]), image
        return page.Judged(by_class), image

    examples = sorted((HERE / "examples").glob("*"))
    title = (HERE / "title.txt").read_text(encoding="utf-8").strip()
    about = (HERE / "about.md").read_text(encoding="utf-8")
    with page.served(classify, title=title, about=about, examples=examples) as address:
        print(f"Serving {name} at {address}", flush=True)  # noqa: T201, the log of a Space
        page.wait()


if __name__ == "__main__":
    main()
