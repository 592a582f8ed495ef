"""Whether tiles show: the result made in tiles against the same made at once."""

from dataclasses import dataclass

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
) -> Seams:
    """What tiles change on a part of a picture ``lr``, grey or RGB (1, C, h, w) in [0, 1].

    The part must be larger than a tile, or there is nothing to compare; where memory is short
    give a smaller ``tile``, since the part is also run whole.

    Raises:
        InputError: the tile is too small for the network's context.
    """
    enlarger = Enlarger(model, manner=Manner() if manner is None else manner)
    size = (lr.shape[-2], lr.shape[-1])
    side = tile_side(tile, overlap=enlarger.overlap, size=size, device=enlarger.device)
    whole = enlarger(lr)
    tiled = run_tiled(
        enlarger, lr, tile=side, overlap=enlarger.overlap, scale=model.scale,
        multiple=model.multiple,
    )  # fmt: skip
    levels = float((tiled - whole).abs().max()) * 255
    return Seams(levels=levels, tile=side, overlap=enlarger.overlap)
