"""The one exception that stands for a mistake the reader can fix."""


class UserError(Exception):
    """Says what was expected, what was found and what to do; `cli.run` prints it and exits with 2."""
