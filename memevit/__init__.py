"""Fine-tune a Vision Transformer to tell which game a meme is about."""

__version__ = "0.1.0"
# Web page of this project, to which published pages link; None while it has none.
PROJECT_URL: str | None = None
