"""From a command line to a call of the script's `main`, and from its outcome to an exit code."""

import argparse
import difflib
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields

from memevit import escape
from memevit.errors import Interrupted, UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # As shells count: 128 and the number of the signal of Ctrl-C.


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the script's docstring; a flag is shown once, with its default if it has one."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        every = action.option_strings
        action.option_strings = [name for name in every if "-" not in name.lstrip("-")] or every  # Not --dry-run, too.
        try:
            return super()._format_action_invocation(action).rstrip()
        finally:
            action.option_strings = every

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return "" if _is_switch(action) else super()._format_args(action, default_metavar)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        name = action.option_strings[0] if action.option_strings else ""
        if name.startswith("--no_") and action.default is False:
            return f"Turn --{name.removeprefix('--no_')} off."
        if action.required:
            return f"{text} (required)" if name else text
        if action.default is True:
            return f"{text} (on by default)"
        has_default = action.default not in (None, [], "", argparse.SUPPRESS) and action.default is not False
        if not has_default or "default" in text:
            return text
        return f"{text} (default: %(default)s)"


def _is_switch(action: argparse.Action) -> bool:
    """Whether a flag is given without a value; the parser of Transformers also takes `--flag True`."""
    return action.nargs == "?" and action.const is True


class _SafeFormatter(logging.Formatter):
    """The message alone, without anything that a terminal would execute."""

    def format(self, record: logging.LogRecord) -> str:
        return escape.terminal(super().format(record), keep_newlines=True)


@dataclass(frozen=True)
class Positional:
    """Arguments without a flag, handed to `main` as a last argument: one or more, or any number."""

    name: str
    help: str
    is_required: bool = True


def run(
    main: Callable[..., None],
    *groups: type | Callable[[], tuple[type, ...]],
    doc: str | None,
    argv: Sequence[str] | None = None,
    positional: Positional | None = None,
) -> int:
    """Parse the dataclasses `groups`, call `main` with them and return the exit code.

    Args:
        main: takes one instance of each group, then the list of positional values if there are any.
        groups: dataclasses whose fields become flags, or one function that returns them.
        doc: the script's docstring, shown by `--help`.
        argv: arguments; those of the process when None.
        positional: arguments without a flag.

    Returns:
        0 on success, 2 when the user can fix the problem, 130 after Ctrl-C and 143 after a SIGTERM that was answered
        with a checkpoint (128 plus the signal's number). Anything else is a bug and keeps its traceback.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_SafeFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        values, extra = _parse(groups, doc, argv, positional)
        main(*values, *extra)
    except UserError as error:
        sys.stderr.write(f"error: {escape.terminal(str(error), keep_newlines=True)}\n")
        return EXIT_USER_ERROR
    except Interrupted as stop:
        sys.stderr.write(f"{stop}\n")
        return stop.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # The reader of our output (`| head`) has gone, and that is its right.
        sys.stderr.close()
    return 0


def _parse(
    groups: tuple, doc: str | None, argv: Sequence[str] | None, positional: Positional | None
) -> tuple[list, list]:
    if not isinstance(groups[0], type):
        groups = groups[0]()
    from transformers import HfArgumentParser  # Takes most of a second: not for those who import this module.

    # It has imported the client of the Hub. Our handler shows its messages, too, and once is enough.
    logging.getLogger("huggingface_hub").handlers.clear()
    parser = HfArgumentParser(
        groups, description=doc, formatter_class=_Help, allow_abbrev=False, usage=_usage(groups, positional)
    )
    if positional:
        parser.add_argument(positional.name, nargs="+" if positional.is_required else "*", help=positional.help)
    try:
        *values, unknown = parser.parse_args_into_dataclasses(
            argv, return_remaining_strings=True, look_for_args_file=False
        )
    except ValueError as error:  # A value that the dataclass itself refuses, as TrainingArguments does.
        raise UserError(f"These arguments don't go together: {error}") from error
    if unknown:
        raise UserError(_unknown_option_message(unknown[0], parser))
    extra = [getattr(values.pop(), positional.name)] if positional else []
    return values, extra


def _usage(groups: Sequence[type], positional: Positional | None) -> str:
    """What must be given, in one line: finetune_vit.py has more than a hundred options."""
    needed = [
        f" --{own.name} {own.name.upper()}"
        for group in groups
        for own in fields(group)
        if own.default is MISSING and own.default_factory is MISSING
    ]
    named = f" {positional.name.upper()}{' ...' if positional.is_required else ' [...]'}" if positional else ""
    return f"%(prog)s{''.join(needed)} [options]{named}"


def value_of(flag: str, argv: Sequence[str] | None = None) -> str | None:
    """The value of `flag` on the command line before it is parsed; None if it is not given.

    Example:
        >>> value_of("--dataset", ["--seed", "1", "--dataset", "prepared"]), value_of("--dataset", ["--dataset=other"])
        ('prepared', 'other')
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    found = None
    for position, one in enumerate(argv):
        if one == flag and position + 1 < len(argv):
            found = argv[position + 1]
        elif one.startswith(f"{flag}="):
            found = one.partition("=")[2]
    return found


def _unknown_option_message(option: str, parser: argparse.ArgumentParser) -> str:
    name = option.split("=")[0]
    known = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    closest = difflib.get_close_matches(name, known, n=1)
    kind = "option" if name.startswith("-") else "argument"
    hint = f"Did you mean {closest[0]}?" if closest else "See --help for those there are."
    return f"unknown {kind} {name}. {hint}"
