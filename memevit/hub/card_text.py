"""Names and numbers as a model card writes them; the filters of its templates."""

import re

from memevit import escape

_IDENTIFIER = re.compile(r"[A-Za-z0-9][\w.+-]*", re.ASCII)


def plain(text: object) -> str:
    r"""A name as Markdown text that can't open a table cell, a tag or a link.

    Example:
        >>> plain("a|b <script> *c*")
        'a\\|b &lt;script&gt; \\*c\\*'
    """
    return escape.markdown_text(" ".join(str(text).split()))


def code(text: object) -> str:
    """A name for the inside of backticks.

    Example:
        >>> code("a`b")
        "a'b"
    """
    return escape.terminal(" ".join(str(text).split())).replace("`", "'").replace("|", "¦")


def identifier(text: object) -> str:
    """A licence or another identifier as it is; anything else as `plain` text.

    Example:
        >>> identifier("cc-by-4.0"), identifier("a<b")
        ('cc-by-4.0', 'a&lt;b')
    """
    return str(text) if _IDENTIFIER.fullmatch(str(text)) else plain(text)


def bibtex(text: object) -> str:
    """Text for a field of a citation.

    Example:
        >>> bibtex("{Cats} & dogs")
        'Cats dogs'
    """
    return " ".join(re.sub(r"[^\w\s.,:/-]", " ", escape.terminal(str(text))).split())


def share(value: float | None) -> str:
    """A share with three decimals, as in the tables.

    Example:
        >>> share(0.93749), share(None)
        ('0.937', '')
    """
    return "" if value is None else f"{value:.3f}"


def count(value: float) -> str:
    """A large number in few digits.

    Example:
        >>> count(2716931), count(85800194), count(16931), count(999)
        ('2.7 M', '86 M', '17 k', '999')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size * 0.9995:
            return f"{value / size:.1f} {unit}" if value < 9.95 * size else f"{value / size:.0f} {unit}"
    return f"{value:.0f}"


def duration(seconds: float) -> str:
    """A time in the unit that people would use.

    Example:
        >>> duration(12.3), duration(743), duration(9000)
        ('12 s', '12 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
