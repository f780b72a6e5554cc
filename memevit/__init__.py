"""Fine-tune a Vision Transformer to tell which game a meme is about."""

__version__ = "0.1.0"
