"""Ways to end a command that are no bugs."""


class UserError(Exception):
    """Says what was expected, what was found and what to do; `cli.run` prints it and exits with 2."""


class Interrupted(Exception):
    """The reader or the system stopped the command by a signal; `cli.run` exits with 128 plus its number.

    `step` is that of the checkpoint which was written, None where there was nothing to save.
    """

    def __init__(self, number: int, *, step: int | None = None) -> None:
        saved = "" if step is None else f" with a checkpoint after step {step}"
        super().__init__(f"Stopped{saved}. The same command goes on from there.")
        self.exit_code = 128 + number
