"""Fine-tune a Vision Transformer to tell which game a meme is about.

    import memevit

    memevit.prepare("photos/", "prepared")
    print(memevit.finetune("prepared", "model", num_train_epochs=5))
    print(memevit.diagnose("model", "prepared").page)
    memevit.Classifier.load("model").probabilities([image])

Each takes the flags of its script as keywords. They are imported when they are first used.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
# Web page of this project, to which published pages link; None while it has none.
PROJECT_URL: str | None = None

_PUBLIC = {
    "prepare": "memevit.commands.prepare",
    "finetune": "memevit.commands.finetune",
    "add_class": "memevit.commands.add_class",
    "diagnose": "memevit.commands.diagnose",
    "Classifier": "memevit.model.classifier",
}


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
