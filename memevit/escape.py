"""Text of strangers (file, class and column names) made safe for a terminal, a spreadsheet and Markdown."""

import html
import re

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
# C0 and C1 controls, line and paragraph separators, marks that reorder text, lone surrogates.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")
_AUTOLINK = re.compile(r"(?<=[A-Za-z]):(?=//)|(?<=www)\.|@", re.IGNORECASE)  # GitHub's Markdown links bare addresses.


def terminal(text: str, *, keep_newlines: bool = False) -> str:
    r"""`text` without anything that a terminal would execute or reorder.

    Args:
        text: may hold escape sequences.
        keep_newlines: for messages of several lines; a name in a table should be on one.

    Example:
        >>> terminal("cat\x1b[2J.png")
        'cat\\x1b[2J.png'
        >>> terminal("one\ntwo"), terminal("one\ntwo", keep_newlines=True)
        ('one\\ntwo', 'one\ntwo')
    """

    def escaped(match: re.Match[str]) -> str:
        character = match.group()
        return character if keep_newlines and character == "\n" else ascii(character)[1:-1]

    return _CONTROL.sub(escaped, text)


def json_text(text: str) -> str:
    r"""JSON `text` with what a terminal would execute or reorder as JSON's own escapes: the same value when parsed.

    Example:
        >>> json_text('{"a": "x\u009b2J"}')
        '{"a": "x\\u009b2J"}'
    """
    return _CONTROL.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def csv_cell(value: object) -> object:
    """`value` as a CSV cell that no spreadsheet runs as a formula; `csv_value` gives it back.

    Numbers stay as they are. Other text that begins with = + - @, a tab or a carriage return gets a leading apostrophe.

    Source:
        OWASP, CSV Injection.

    Example:
        >>> csv_cell("=1+1"), csv_cell("-0.5"), csv_cell("doom.png"), csv_cell(-0.5)
        ("'=1+1", '-0.5', 'doom.png', -0.5)
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value


def csv_value(cell: str) -> str:
    """The text from which `csv_cell` made `cell`.

    Example:
        >>> csv_value("'=1+1"), csv_value("'quoted'")
        ('=1+1', "'quoted'")
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def markdown_text(text: str) -> str:
    r"""`text` on one line of Markdown, shown literally: no markup, no HTML, no table cell that ends early.

    Example:
        >>> markdown_text("<b>_cat_</b> | dog")
        '&lt;b&gt;\\_cat\\_&lt;/b&gt; \\| dog'
        >>> markdown_text("https://evil.example")
        'https&#58;//evil.example'
    """
    safe = _MARKDOWN.sub(r"\\\1", html.escape(terminal(text), quote=False))
    return _AUTOLINK.sub(lambda match: f"&#{ord(match.group())};", safe)
