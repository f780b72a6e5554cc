"""Small charts as SVG inside a page: they take its colours, need no script and no other file."""

from collections.abc import Sequence

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 340, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 12, 40
Point = tuple[float, float]


class Chart:
    """Axes from 0 to 1, or other ranges, on which lines, dots and bars are drawn in turn."""

    def __init__(
        self, title: str, x_label: str, y_label: str, *, x_range: Point = (0.0, 1.0), y_range: Point = (0.0, 1.0)
    ) -> None:
        self._title, self._x_range, self._y_range = title, x_range, y_range
        self._parts: list[Markup] = []
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            x, y = (low + share * (high - low) for low, high in (x_range, y_range))
            left, top = self._at((x, y))
            self._parts.append(
                Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(_LEFT, _WIDTH - _RIGHT, top, top)
            )
            self._text(_number(x, x_range), left, _HEIGHT - _BOTTOM + 15, "middle")
            self._text(_number(y, y_range), _LEFT - 6, top + 4, "end")
        self._text(x_label, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6, "middle")
        self._parts.append(
            Markup(
                '<text class="label" text-anchor="middle" transform="translate(11 {}) rotate(-90)">{}</text>'
            ).format((_TOP + _HEIGHT - _BOTTOM) / 2, y_label)
        )

    def _at(self, point: Point) -> Point:
        (x_low, x_high), (y_low, y_high) = self._x_range, self._y_range
        across = (point[0] - x_low) / (x_high - x_low)
        up = (point[1] - y_low) / (y_high - y_low)
        left = _LEFT + min(max(across, 0.0), 1.0) * (_WIDTH - _LEFT - _RIGHT)
        top = _TOP + (1 - min(max(up, 0.0), 1.0)) * (_HEIGHT - _TOP - _BOTTOM)
        return round(left, 1), round(top, 1)

    def _text(self, text: str, x: float, y: float, anchor: str) -> None:
        self._parts.append(
            Markup('<text class="label" x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, text)
        )

    def line(self, points: Sequence[Point], css_class: str = "line") -> "Chart":
        """Add a line through `points`."""
        path = " ".join(f"{x},{y}" for x, y in map(self._at, points))
        self._parts.append(Markup('<polyline class="{}" points="{}"/>').format(css_class, path))
        return self

    def band(self, lower: Sequence[Point], upper: Sequence[Point]) -> "Chart":
        """Add an area between two lines."""
        path = " ".join(f"{x},{y}" for x, y in map(self._at, [*lower, *reversed(upper)]))
        self._parts.append(Markup('<polygon class="band" points="{}"/>').format(path))
        return self

    def dot(self, point: Point, *, low: float | None = None, high: float | None = None, hint: str = "") -> "Chart":
        """Add a dot with a vertical bar from `low` to `high`, and a text shown on hovering."""
        x, y = self._at(point)
        if low is not None and high is not None:
            (_, bottom), (_, top) = self._at((point[0], low)), self._at((point[0], high))
            self._parts.append(Markup('<line class="bar" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(x, x, bottom, top))
        self._parts.append(
            Markup('<circle class="dot" cx="{}" cy="{}" r="4"><title>{}</title></circle>').format(x, y, hint)
        )
        return self

    def svg(self) -> Markup:
        """The chart as an element of a page."""
        body = Markup("").join(self._parts)
        return Markup(
            '<svg class="chart" viewBox="0 0 {w} {h}" role="img" aria-label="{title}">'
            "<title>{title}</title>{body}</svg>"
        ).format(w=_WIDTH, h=_HEIGHT, title=escape(self._title), body=body)


def _number(value: float, within: Point) -> str:
    span = within[1] - within[0]
    if span > 4:
        return f"{value:,.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".") or "0"
