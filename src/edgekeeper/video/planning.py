"""What is to be done with each frame of a video: size, layout, coding, segments."""

from dataclasses import dataclass

from edgekeeper.errors import InputError
from edgekeeper.inference import Settings, plan_enlargement
from edgekeeper.video.codecs import VideoOptions, layout_to_write
from edgekeeper.video.colour import BT709, RGB, Coding
from edgekeeper.video.joining import Encoding
from edgekeeper.video.source import Facts

SEGMENT_SECONDS = 2
"""A stopped run loses at most so much of the video; each segment begins with a key frame."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be done with each frame; ``length`` is the frames of a segment."""

    encoding: Encoding
    coding: Coding
    length: int
    notes: tuple[str, ...]

    @classmethod
    def planned(cls, facts: Facts, *, settings: Settings, options: VideoOptions) -> "Work":
        """Return the layout and the size of the result."""
        layout = layout_to_write(facts.layout, options.codec)
        plan = plan_enlargement(
            facts.size, enlargement=settings.enlargement, factors=settings.networks.factors
        )
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
                f"{options.codec} writes {layout.depth} of the {facts.layout.depth} bits here."
            )
        if layout.across * layout.down > facts.layout.across * facts.layout.down and (
            facts.layout.family != "grey"
        ):
            notes.append(f"{options.codec} stores colour at a lower resolution ({layout.name}).")
        to_yuv = facts.layout.family == "gbr" and layout.family == "yuv"
        if layout.family == "gbr":
            matrix, span = RGB, 2
        elif to_yuv:
            matrix, span = BT709, 1
        else:
            matrix, span = facts.coding.matrix, facts.tags.span
        coding = Coding(
            family=layout.family,
            depth=layout.depth,
            matrix=matrix or BT709,
            span="full" if span == 2 else "limited",
            across=layout.across,
            down=layout.down,
        )
        encoding = Encoding(
            facts=facts,
            options=options,
            layout=layout,
            size=(height, width),
            matrix=matrix,
            span=span,
        )
        length = min(max(round(SEGMENT_SECONDS * facts.rate), 12), 240)
        return cls(encoding=encoding, coding=coding, length=length, notes=tuple(notes))
