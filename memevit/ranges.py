"""Range checks of values that a user gives."""

from memevit.errors import UserError

MAX_SEED = 2**32 - 1  # Of numpy's generators.


def require(
    name: str,
    value: float | None,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
) -> None:
    """Check the value of the flag --`name`; None, which means that it was not given, passes.

    Raises:
        UserError: it is out of range.

    Example:
        >>> require("erasing", 0.5, at_least=0.0, at_most=1.0)
        >>> require("erasing", 2, at_most=1.0)
        Traceback (most recent call last):
        memevit.errors.UserError: --erasing must be at most 1, got 2.
    """
    if value is None:
        return
    if at_least is not None and not value >= at_least:
        raise UserError(f"--{name} must be at least {at_least:g}, got {value:g}.")
    if above is not None and not value > above:
        raise UserError(f"--{name} must be larger than {above:g}, got {value:g}.")
    if at_most is not None and not value <= at_most:
        raise UserError(f"--{name} must be at most {at_most:g}, got {value:g}.")
