"""A page to try the model whose name is in model.txt."""

from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Fetch the model and serve the page."""
    # Neighbours in the Space, and not importable under these names elsewhere.
    import page
    import pixels
    from transformers import pipeline

    name = (HERE / "model.txt").read_text(encoding="utf-8").strip()
    classifier = pipeline("image-classification", model=name)

    def classify(path: Path) -> tuple[page.Answer, page.Image.Image | None]:
        try:
            image = pixels.load_image(path)
        except pixels.UnreadableImageError as error:
            return str(error), None
        return {one["label"]: one["score"] for one in classifier(image, top_k=page.MAX_SHOWN_CLASSES)}, image

    examples = sorted((HERE / "examples").glob("*"))
    title = (HERE / "title.txt").read_text(encoding="utf-8").strip()
    about = (HERE / "about.md").read_text(encoding="utf-8")
    with page.served(classify, title=title, about=about, examples=examples) as address:
        print(f"Serving {name} at {address}", flush=True)  # noqa: T201, the log of a Space
        page.wait()


if __name__ == "__main__":
    main()
