"""What all figures share: style, the file, and how an image is drawn."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from edgekeeper.errors import ImageError, InputError, import_extra
from edgekeeper.files import new_file, shown
from edgekeeper.ops.box import Box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

FIGURE_FORMATS = (".svg", ".pdf", ".png")
STYLE = Path(__file__).with_name("figures.mplstyle")
INK, PALE = "#222222", "#8a8a8a"
# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
TITLE_POINTS = 9.5
GLYPH = 0.58  # mean width of a letter of the font, over its size
UNDATED: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def checked_target(path: str | Path) -> Path:
    """Return ``path``; InputError unless it is of a format, ImageError without its folder."""
    target = Path(path)
    if target.suffix.lower() not in FIGURE_FORMATS:
        raise InputError(
            f"The file '{target}' ends in '{target.suffix}'; figures are .svg, .pdf, .png."
        )
    if not target.parent.is_dir():
        raise ImageError(f"Cannot write '{target}': there is no folder '{target.parent}'.")
    return target


@contextmanager
def figure_file(
    path: str | Path,
    *,
    width: float,
    height: float,
    layout: Literal["constrained", "compressed"] = "constrained",
) -> Iterator["Figure"]:
    """Give a new figure of so many inches; written to ``path``, whole or not at all, at the end.

    ``layout`` is matplotlib's: "compressed" also takes out the space beside images.
    """
    target = checked_target(path)
    matplotlib = import_extra("matplotlib", extra="figures", what="A figure")
    from matplotlib.figure import Figure

    style = matplotlib.rc_params_from_file(STYLE, use_default_template=False)
    with matplotlib.rc_context(style), new_file(target, error=ImageError) as draft:
        figure = Figure(figsize=(width, height), layout=layout)
        yield figure
        figure.savefig(draft, metadata=UNDATED.get(target.suffix.lower()))


def settle(figure: "Figure") -> None:
    """Lay the figure out for good, so that what is drawn next can look at where things are."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def as_drawn(text: str) -> str:
    """Return a name as matplotlib writes it: no formula, and nothing that fonts do not have."""
    return shown(text).replace("$", r"\$")


def write_title(axis: "Axes", label: str, *, width: float) -> None:
    """Write ``label`` above an image ``width`` inches wide, small enough to fit."""
    needed = len(label) * GLYPH / 72  # inches at a size of one point
    size = TITLE_POINTS if needed == 0 else min(TITLE_POINTS, width / needed)
    axis.set_title(as_drawn(label), fontsize=max(size, 5.0), pad=4)


def show(
    axis: "Axes", image: Tensor, *, top: float | None = None, averaged: bool = False
) -> "AxesImage":
    """Draw an RGB image, or a map (1, 1, H, W) from black to ``top``; each pixel is a square."""
    hide_axis(axis)
    values = image[0].detach().cpu().float()
    interpolation = "antialiased" if averaged else "nearest"
    if top is None:
        pixels = values.clamp(0, 1).permute(1, 2, 0)  # (H, W, 3)
        return axis.imshow(pixels.numpy(), interpolation=interpolation)
    brightest = max(top, 1e-6)
    return axis.imshow(
        values[0].numpy(), cmap="magma", vmin=0, vmax=brightest, interpolation=interpolation
    )


def hide_axis(axis: "Axes") -> None:
    """Leave out ticks and spines; title and label stay."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def frame(axis: "Axes", part: Box) -> None:
    """Draw ``part`` as a yellow frame that shows on any image."""
    from matplotlib.patches import Rectangle

    corner = (part.left - 0.5, part.top - 0.5)
    for colour, line in (("black", 3.0), ("#ffd400", 1.6)):
        axis.add_patch(
            Rectangle(corner, part.width, part.height, fill=False, edgecolor=colour, linewidth=line)
        )
