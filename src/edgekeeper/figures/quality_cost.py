"""Quality against cost: a point for each network, measured ones and quoted ones told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgekeeper.errors import InputError
from edgekeeper.figures.canvas import COLOURS, PALE, figure_file
from edgekeeper.figures.labels import label_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Quality = Literal["psnr", "lpips"]
Price = Literal["macs", "seconds"]

QUALITIES: dict[Quality, str] = {"psnr": "PSNR in dB", "lpips": "LPIPS (up is better)"}
PRICES: dict[Price, str] = {"macs": "MACs per LR pixel", "seconds": "seconds"}


@dataclass(frozen=True)
class CostPoint:
    """A network's quality and cost; None for what is not known.

    origin: "measured", or "quoted" where the quality is a paper's number.
    """

    label: str
    macs: float | None
    seconds: float | None
    psnr: float | None
    lpips: float | None
    origin: Literal["measured", "quoted"] = "measured"

    def at(self, price: Price, quality: Quality) -> tuple[float, float] | None:
        """Return where the point stands in a panel, None where it has no place in it."""
        x, y = getattr(self, price), getattr(self, quality)
        return None if x is None or y is None else (x, y)


def quality_cost(
    points: Sequence[CostPoint], *, path: str | Path, title: str = "", clock: str = ""
) -> Path:
    """Return the file with PSNR and LPIPS against MACs per LR pixel and against seconds.

    A row or column for which no point has numbers is left out; up is always better. All qualities
    must be of one set, scale and protocol, all seconds of one machine and image size, which
    ``title`` and ``clock`` say. Raises InputError when no point can be drawn.
    """
    qualities = [q for q in QUALITIES if any(p.at(price, q) for p in points for price in PRICES)]
    prices = [price for price in PRICES if any(p.at(price, q) for p in points for q in QUALITIES)]
    if not qualities or not prices:
        raise InputError("No network has both a quality and a cost; there is nothing to draw.")
    with figure_file(
        path, width=4.6 * len(prices) + 0.6, height=3.3 * len(qualities) + 0.7
    ) as figure:
        axes = figure.subplots(len(qualities), len(prices), squeeze=False, sharey="row")
        for row, quality in enumerate(qualities):
            for column, price in enumerate(prices):
                _draw(axes[row, column], points, price=price, quality=quality)
            axes[row, 0].set_ylabel(QUALITIES[quality])
            if quality == "lpips":
                axes[row, 0].invert_yaxis()
        for column, price in enumerate(prices):
            unit = f" ({clock})" if price == "seconds" and clock else ""
            axes[-1, column].set_xlabel(PRICES[price] + unit)
        axes[0, 0].set_title(title, loc="left")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=2)
        figure.draw_without_rendering()  # the layout decides where a point lies
        figure.set_layout_engine("none")
        for row, quality in enumerate(qualities):
            for column, price in enumerate(prices):
                placed = [(p.label, place) for p in points if (place := p.at(price, quality))]
                label_points(axes[row, column], [(label, x, y) for label, (x, y) in placed], size=7)
    return Path(path)


def _draw(axis: "Axes", points: Sequence[CostPoint], *, price: Price, quality: Quality) -> None:
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    for origin, text in (
        ("measured", "measured here"),
        ("quoted", "quoted: quality from the papers' tables, MACs counted here"),
    ):
        places = [p.at(price, quality) for p in points if p.origin == origin]
        known = [place for place in places if place is not None]
        axis.plot(
            [x for x, _ in known],
            [y for _, y in known],
            marker="o" if origin == "measured" else "s",
            markersize=6,
            linewidth=0,
            color=COLOURS[1] if origin == "measured" else PALE,
            markerfacecolor=COLOURS[1] if origin == "measured" else "white",
            label=text,
        )
    axis.set_xscale("log")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3) if price == "seconds" else (1,)))
    if price == "seconds":
        axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.margins(x=0.2, y=0.14)
