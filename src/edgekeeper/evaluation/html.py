"""An HTML file that needs nothing else: tables, images and sliders inside it."""

import base64
import html
import json
import math
from collections.abc import Collection, Mapping, Sequence

import pyvips

from edgekeeper.evaluation.tables import Table
from edgekeeper.image import Pixels
from edgekeeper.pretrained.cards import training_lines

SLIDER_STYLE = """
.slider { position: relative; --at: 50%; } .slider img { width: 100%; display: block; }
.slider img + img { position: absolute; inset: 0; clip-path: inset(0 0 0 var(--at)); }
.slider input { width: 100%; accent-color: var(--accent); }
@media print { .slider input { display: none; } }
"""
SLIDER_SCRIPT = """
for (const input of document.querySelectorAll(".slider input"))
  input.oninput = () => input.parentNode.style.setProperty("--at", input.value + "%");
"""
_STYLE = """
:root { color-scheme: light dark; --soft: #55626a; --line: #9aa5ab; --accent: #14506e; }
@media (prefers-color-scheme: dark) {
  :root { --soft: #a9b6bd; --line: #5b676e; --accent: #8fd0f0; }
}
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; } p, figcaption { color: var(--soft); max-width: 48rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: left; }
td.right, th.right { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.best { font-weight: 700; } .crops { display: flex; flex-wrap: wrap; gap: .6rem; }
figure { margin: 0 0 1rem; width: 16rem; } img { width: 100%; display: block; }
svg { max-width: 40rem; width: 100%; } svg text { fill: currentColor; font-size: 11px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
@page { margin: 1.5cm; }
@media print {
  :root { color-scheme: light; --soft: #333; --line: #999; }
  body { max-width: none; margin: 0; font-size: 10pt; } h2 { margin-top: 1.5rem; }
  .wide { overflow: visible; } table { font-size: 8pt; }
  th, td { padding: .1rem .3rem; } figure { width: 7.2rem; } details { display: none; }
  svg { max-width: 32rem; } h2, h3, p { break-after: avoid; }
  .crops figure:has(.slider) { display: none; }  /* both of its images stand beside it */
  .crops, figure, tr, svg { break-inside: avoid; }
}
"""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def html_page(title: str, *, sections: Mapping[str, Sequence[str]]) -> str:
    """Return the page with the sections, each with its pieces of HTML below its heading."""
    body = "".join(
        f"<section><h2>{html.escape(heading)}</h2>{''.join(pieces)}</section>"
        for heading, pieces in sections.items()
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}{SLIDER_STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1>{body}<script>{SLIDER_SCRIPT}</script></body></html>\n"
    )


def paragraph(text: str) -> str:
    """Return a paragraph."""
    return f"<p>{html.escape(text)}</p>"


def card_section(name: str, card: Mapping[str, object]) -> str:
    """Return how and on what a network was trained, and below it a line that opens its card."""
    said = html.escape("\n".join(line.strip() for line in training_lines(card)))
    whole = html.escape(json.dumps(card, indent=1, ensure_ascii=False))
    inside = f"<summary>The whole card</summary><pre>{whole}</pre>"
    return f"<h3>{html.escape(name)}</h3><pre>{said}</pre><details>{inside}</details>"


def html_table(table: Table) -> str:
    """Return the table; a cell with a star is bold."""

    def row(cells: Sequence[str], tag: str) -> str:
        made = ""
        for name, text in zip(table.columns, cells, strict=True):
            kinds = ["right"] * name.startswith(">") + ["best"] * text.endswith("*")
            made += f'<{tag} class="{" ".join(kinds)}">{html.escape(text.rstrip("* "))}</{tag}>'
        return f"<tr>{made}</tr>"

    head = row([name.removeprefix(">") for name in table.columns], "th")
    rows = "".join(row(cells, "td") for cells in table.cells)
    notes = "".join(
        paragraph(note.replace("* is the best", "Bold is the best")) for note in table.notes
    )
    title = f"<h3>{html.escape(table.title)}</h3>" if table.title else ""
    return f'{title}<div class="wide"><table>{head}{rows}</table></div>{notes}'


def image_figure(pixels: Pixels, *, caption: str) -> str:
    """Return an image (H, W, 3) of 8 bits, as a JPEG of quality 92, with a caption."""
    return (
        f"<figure>{_image(pixels, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def slider(before: Pixels, after: Pixels, *, caption: str) -> str:
    """Return two images (H, W, 3) of 8 bits and one size under a slider, ``after`` on its left."""
    label = html.escape(f"{caption}: where the first image ends", quote=True)
    return (
        f'<figure><div class="slider">{_image(after, "")}{_image(before, "")}'
        f'<input type="range" value="50" aria-label="{label}"></div>'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def curves(
    lines: Mapping[str, Sequence[float]], *, x: str, y: str, top: float, bottom: float = 0.0
) -> str:
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
    return (
        f'<svg viewBox="0 -8 {width} {height + 40 + 16 * len(lines)}" role="img" '
        f'aria-label="{label}">{"".join(drawn)}'
        f'<text x="{left}" y="{height + 16}">{html.escape(x)}</text></svg>'
    )


def scatter(
    points: Mapping[str, tuple[float, float]], *, marked: Collection[str], x: str, y: str
) -> str:
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
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{label}">{"".join(drawn)}'
        f'<text x="2" y="10">{html.escape(y)}</text>'
        f'<text x="{left}" y="{height - 4}">{html.escape(x)}: {ends}</text></svg>'
    )


def _image(pixels: Pixels, alternative: str) -> str:
    packed = pyvips.Image.new_from_array(pixels).jpegsave_buffer(Q=92, subsample_mode="off")
    text = base64.b64encode(packed).decode()
    alternative = html.escape(alternative, quote=True)
    return f'<img alt="{alternative}" src="data:image/jpeg;base64,{text}">'
