"""Networks that learn beside the generator, are then frozen, and are what a loss looks through.

``AutoEncoder`` is AESOP's (Lee et al., "Auto-Encoded Supervision for Perceptual Image
Super-Resolution", CVPR 2025, https://arxiv.org/abs/2412.00124): an encoder to LR size and a network
for fidelity as the decoder, trained by L1 between what comes out and what went in. Chosen here:
the encoder, three convolutions that correct MATLAB's bicubic, so that it begins as that.

``StructureExtractor`` is the neural structure extractor of SPSR's journal version (Ma et al.,
"Structure-Preserving Image Super-Resolution", TPAMI 2021, https://arxiv.org/abs/2109.12530),
which learns from photographs alone by contrastive prediction and by jigsaw puzzles:
``edgekeeper.losses.StructureTasks``. The idea is the paper's, all layers are chosen here.
"""

import torch
from torch import Tensor, nn

from edgekeeper.models.base import COLOUR_COUNT, SRModel, kaiming_normal
from edgekeeper.models.enlarge import SLOPE
from edgekeeper.ops.resize import imresize

GRID = 3  # tiles a side of a puzzle


class Encoder(nn.Module):
    """Shrinks images (B, C, rH, rW) by ``scale`` to (B, C, H, W)."""

    def __init__(self, *, scale: int, colours: int = 3, width: int = 32) -> None:
        super().__init__()
        self.scale = scale
        self.correction = nn.Sequential(
            nn.PixelUnshuffle(scale),  # (B, C r², H, W)
            nn.Conv2d(colours * scale**2, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, colours, 3, padding=1),
        )
        kaiming_normal(self, factor=0.1)

    def forward(self, x: Tensor) -> Tensor:
        corrected: Tensor = imresize(x, scale=1 / self.scale) + self.correction(x)
        return corrected


class AutoEncoder(nn.Module):
    """What ``decoder``, a network for fidelity, makes of an image shrunk by a trained encoder."""

    def __init__(self, *, decoder: SRModel, width: int = 32) -> None:
        super().__init__()
        colours = COLOUR_COUNT[decoder.channels]
        self.encoder = Encoder(scale=decoder.scale, colours=colours, width=width)
        self.decoder = decoder

    def forward(self, x: Tensor) -> Tensor:
        kept: Tensor = self.decoder(self.encoder(x))  # (B, C, rH, rW), as x
        return kept


class StructureExtractor(nn.Module):
    """Maps of structure (B, 4F, H / 4, W / 4) of images (B, 3, H, W), and the heads of its tasks.

    Nothing normalises, so each place is judged by its neighbourhood alone. ``orders`` (K, 9) are
    the orders of tiles among which a puzzle's solution is to be found.
    """

    orders: Tensor

    def __init__(self, *, width: int = 32, orders: int = 32) -> None:
        super().__init__()
        maps = 4 * width
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(2 * width, maps, 4, stride=2, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(maps, maps, 3, padding=1),
        )
        self.below = nn.Linear(maps, maps)
        self.order = nn.Sequential(
            nn.Linear(GRID**2 * maps, maps), nn.LeakyReLU(SLOPE), nn.Linear(maps, orders)
        )
        kaiming_normal(self)
        numbers = torch.Generator().manual_seed(0)
        drawn = [
            torch.randperm(GRID**2, generator=numbers, device="cpu").tolist() for _ in range(orders)
        ]
        self.register_buffer("orders", torch.tensor(drawn), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.layers(x)  # (B, 4F, H / 4, W / 4)
        return maps

    def embedded(self, tiles: Tensor) -> Tensor:
        """Return the mean map of each tile, (B, 9, 4F) of (B, 9, 3, h, w)."""
        return self(tiles.flatten(0, 1)).mean((2, 3)).unflatten(0, tiles.shape[:2])

    def predicted(self, embedded: Tensor) -> Tensor:
        """Return what is expected below tiles, (..., 4F) of (..., 4F)."""
        below: Tensor = self.below(embedded)
        return below

    def guessed(self, embedded: Tensor) -> Tensor:
        """Return logits (B, K) of the orders in which the tiles (B, 9, 4F) were laid."""
        logits: Tensor = self.order(embedded.flatten(1))
        return logits
