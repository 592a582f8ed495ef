"""An HTML file that needs nothing else: tables, images and sliders inside it."""

import base64
import html
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import jinja2
import pyvips
from markupsafe import Markup

from edgekeeper.image import Pixels

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def html_page(template: str, values: Mapping[str, object]) -> str:
    """Return the page that a template beside this file makes of ``values``, which are escaped."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    made.filters |= {"jpeg": _jpeg, "zip": zip}
    return made.get_template(template).render(values)


def _jpeg(pixels: Pixels) -> str:
    packed = pyvips.Image.new_from_array(pixels).jpegsave_buffer(Q=92, subsample_mode="off")
    return f"data:image/jpeg;base64,{base64.b64encode(packed).decode()}"


def curves(
    lines: Mapping[str, Sequence[float]], *, x: str, y: str, top: float, bottom: float = 0.0
) -> Markup:
    """Return curves over equal steps, by name, as SVG; values are cut at ``bottom`` and ``top``."""
    width, height, left = 560, 240, 40

    def down(value: float) -> float:
        return height * (1 - (min(max(value, bottom), top) - bottom) / (top - bottom))

    drawn = [
        f'<line x1="{left}" x2="{width}" y1="{down(v):.1f}" '
        f'y2="{down(v):.1f}" stroke="currentColor" stroke-opacity=".25"/>'
        f'<text x="2" y="{down(v) + 4:.1f}">{v:g}</text>'
        for v in sorted({bottom, 0.0, 1.0, top})
    ]
    for number, (name, values) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = " ".join(
            f"{left + (width - left) * (k + 0.5) / len(values):.1f},{down(value):.1f}"
            for k, value in enumerate(values)
        )
        drawn.append(
            f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<rect x="{left}" y="{height + 26 + 16 * number}" width="12" height="12" '
            f'fill="{colour}"/><text x="{left + 18}" y="{height + 36 + 16 * number}">'
            f"{html.escape(name)}</text>"
        )
    label = html.escape(f"{y} over {x}")
    return Markup(
        f'<svg viewBox="0 -8 {width} {height + 40 + 16 * len(lines)}" role="img" '
        f'aria-label="{label}">{"".join(drawn)}'
        f'<text x="{left}" y="{height + 16}">{html.escape(x)}</text></svg>'
    )


def scatter(
    points: Mapping[str, tuple[float, float]], *, marked: Collection[str], x: str, y: str
) -> Markup:
    """Return named points as SVG, over a logarithmic axis; the ``marked`` ones are filled."""
    width, height, left = 560, 260, 48
    across = [math.log10(at[0]) for at in points.values()]
    up = [at[1] for at in points.values()]
    wide, high = max(max(across) - min(across), 0.1), max(max(up) - min(up), 0.1)
    drawn: list[str] = []
    labels: list[tuple[float, float]] = []
    for number, ((name, _), place, value) in enumerate(
        zip(points.items(), across, up, strict=True)
    ):
        dx = left + 20 + (place - min(across)) / wide * (width - left - 180)
        dy = 20 + (max(up) - value) / high * (height - 50)
        at = dy + 4
        while any(abs(dx - x0) < 150 and abs(at - y0) < 12 for x0, y0 in labels):
            at += 12  # below the label that is there
        labels.append((dx, at))
        colour = _COLOURS[number % len(_COLOURS)] if name in marked else "currentColor"
        fill = colour if name in marked else "none"
        weight = f' style="fill: {colour}; font-weight: 700"' if name in marked else ""
        if at > dy + 4:  # from the point to its label below
            drawn.append(
                f'<path d="M{dx:.1f} {dy:.1f}V{at - 4:.1f}H{dx + 8:.1f}" fill="none" '
                'stroke="currentColor" stroke-opacity=".4"/>'
            )
        drawn.append(
            f'<circle cx="{dx:.1f}" cy="{dy:.1f}" r="5" stroke="{colour}" fill="{fill}"/>'
            f'<text x="{dx + 9:.1f}" y="{at:.1f}"{weight}>{html.escape(name)}</text>'
        )
    for value in (max(up), min(up)):
        dy = 20 + (max(up) - value) / high * (height - 50)
        drawn.append(f'<text x="2" y="{dy + 4:.1f}">{value:.2f}</text>')
    ends = f"{min(10**p for p in across):,.0f} to {max(10**p for p in across):,.0f}, logarithmic"
    label = html.escape(f"{y} over {x}")
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(drawn)}'
        f'<text x="2" y="10">{html.escape(y)}</text>'
        f'<text x="{left}" y="{height - 4}">{html.escape(x)}: {ends}</text></svg>'
    )
