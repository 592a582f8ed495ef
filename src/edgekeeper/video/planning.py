"""How the frames of the result are encoded: size, layout, coding, segments."""

from dataclasses import dataclass

from edgekeeper.errors import InputError
from edgekeeper.inference.request import Request, networks_for, plan_passes
from edgekeeper.video.codecs import Layout, layout_to_write
from edgekeeper.video.colour import BT709, RGB, Coding
from edgekeeper.video.source import Facts

SEGMENT_SECONDS = 2
"""A stopped run loses at most so much of the video; each segment begins with a key frame."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How the frames of the result are encoded.

    Attributes:
        size: (height, width) of what is written; ``wanted`` before the layout took its last pixel.
        coding: how the numbers in the planes stand for colours.
        matrix, span: what the file says of that, as codes of H.273 and FFmpeg.
        length: the frames of a segment.
        notes: sentences on what is not kept.
    """

    facts: Facts
    codec: str
    crf: int | None
    layout: Layout
    size: tuple[int, int]
    wanted: tuple[int, int]
    passes: tuple[int, ...]
    coding: Coding
    matrix: int
    span: int
    length: int
    notes: tuple[str, ...]


def plan_encoding(facts: Facts, request: Request) -> Encoding:
    """Return how the frames are encoded.

    Raises:
        InputError: nothing would be left of a frame.
    """
    layout = layout_to_write(facts.layout, request.codec)
    plan = plan_passes(facts.size, request, factors=networks_for(request).factors)
    height, width = (
        side - side % step
        for side, step in zip(plan.size, (layout.down, layout.across), strict=True)
    )
    if not height or not width:
        raise InputError(f"A video of {plan.size[1]} x {plan.size[0]} pixels is too small.")
    notes = []
    if (height, width) != plan.size:
        notes.append(
            f"Frames of {plan.size[1]} x {plan.size[0]} cannot be written as {layout.name}: "
            "the last row or column is left out."
        )
    if layout.depth < facts.layout.depth:
        notes.append(
            f"{request.codec} writes {layout.depth} of the {facts.layout.depth} bits here."
        )
    fewer = layout.across * layout.down > facts.layout.across * facts.layout.down
    if fewer and facts.layout.family != "grey":
        notes.append(f"{request.codec} stores colour at a lower resolution ({layout.name}).")
    matrix, span = facts.coding.matrix, 2 if facts.coding.span == "full" else 1
    if layout.family == "gbr":
        matrix, span = RGB, 2
    elif facts.layout.family == "gbr":
        matrix, span = BT709, 1
    coding = Coding(
        family=layout.family,
        depth=layout.depth,
        matrix=matrix or BT709,
        span="full" if span == 2 else "limited",
        across=layout.across,
        down=layout.down,
    )
    return Encoding(
        facts=facts,
        codec=request.codec,
        crf=request.crf,
        layout=layout,
        size=(height, width),
        wanted=plan.size,
        passes=plan.passes,
        coding=coding,
        matrix=matrix,
        span=span,
        length=min(max(round(SEGMENT_SECONDS * facts.rate), 12), 240),
        notes=tuple(notes),
    )
