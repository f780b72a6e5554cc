"""From a model folder to a page on the Hugging Face Hub: card, checks, upload, demo."""
