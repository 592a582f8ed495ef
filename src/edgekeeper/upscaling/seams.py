"""Whether tiles show: the result made in tiles against the same made at once."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.models import SRModel
from edgekeeper.ops.tiles import run_tiled
from edgekeeper.upscaling.enlarger import Enlarger, Manner
from edgekeeper.upscaling.memory import Tile, tile_side

ALLOWED_LEVELS = 0.5
"""The largest difference that tiles may make anywhere, in grey levels of 255."""


@dataclass(frozen=True, kw_only=True)
class Seams:
    """The largest difference between tiled and whole in grey levels of 255, and how it was made."""

    levels: float
    tile: int
    overlap: int

    @property
    def is_seamless(self) -> bool:
        """Whether no value moves by more than half a grey level."""
        return self.levels <= ALLOWED_LEVELS


def verify_seams(
    model: SRModel,
    lr: Tensor,
    *,
    tile: Tile = "auto",
    manner: Manner | None = None,
    maps: Tensor | None = None,
) -> Seams:
    """What tiles change on a part of a picture ``lr``, grey or RGB (1, C, h, w) in [0, 1].

    The part must be larger than a tile, or there is nothing to compare; where memory is short
    give a smaller ``tile``, since the part is also run whole. ``maps`` (1, 8, scale·h, scale·w)
    are for networks that take maps of categories.

    Raises:
        InputError: the tile is too small for the network's context, or maps for a network that
            takes none.
    """
    enlarger = Enlarger(model, manner=Manner() if manner is None else manner)
    size = (lr.shape[-2], lr.shape[-1])
    side = tile_side(tile, overlap=enlarger.overlap, size=size, device=enlarger.device)
    whole = enlarger(lr, maps=maps)
    colours, both = lr.shape[1], lr
    if maps is not None:  # cut with the picture, as further channels of it
        both = torch.cat([lr, F.pixel_unshuffle(maps, model.scale)], dim=1)

    def enlarged(part: Tensor) -> Tensor:
        beside = None if maps is None else F.pixel_shuffle(part[:, colours:], model.scale)
        return enlarger(part[:, :colours], maps=beside)

    tiled = run_tiled(
        enlarged, both, tile=side, overlap=enlarger.overlap, scale=model.scale,
        multiple=model.multiple,
    )  # fmt: skip
    levels = float((tiled - whole).abs().max()) * 255
    return Seams(levels=levels, tile=side, overlap=enlarger.overlap)
