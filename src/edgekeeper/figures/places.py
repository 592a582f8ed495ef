"""The places where one of two results is worse, side by side."""

from pathlib import Path

from edgekeeper.errors import InputError
from edgekeeper.evaluation.compare import (
    PairedComparison,
)
from edgekeeper.figures.grid import Cell, Strip, draw_grid


def draw_places(found: PairedComparison, *, path: str | Path) -> Path:
    """Return the file (.svg, .pdf, .png) with the worst places: A, B and the original side by side.

    Raises InputError when ``b`` is nowhere worse, UnavailableError without matplotlib.
    """
    if not found.places:
        raise InputError(f"'{found.b}' is nowhere worse than '{found.a}': nothing to draw.")
    strips = [
        Strip(
            cells=[
                Cell(f"A: {found.a}", place.crops[0], [f"{place.psnr_a:.2f} dB"]),
                Cell(f"B: {found.b}", place.crops[1], [f"{place.psnr_b:.2f} dB"]),
                Cell("original", place.crops[2], [f"x {place.box.left}, y {place.box.top}"]),
            ],
            name=f"{place.set} {place.image}",
        )
        for place in found.places
    ]
    note = f"worst first; PSNR of the square under '{found.protocol.name}'"
    return draw_grid(strips, path=path, note=note)
