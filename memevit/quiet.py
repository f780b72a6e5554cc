"""Transformers without its tables and bars about weights."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """While weights are read or written: hide the table of those that were missing, and the bars but for downloads."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    hook = logging.set_tqdm_hook(lambda make, args, options: make(*args, **options | {"disable": True}))
    try:
        yield
    finally:
        logging.set_tqdm_hook(hook)
        logging.set_verbosity(level)
