"""Losses through a network that first learns and is then frozen: AESOP's and SPSR-P's.

In a recipe the network stands among the discriminators: with a weight of 0 it learns beside the
generator's first stage, then it has a learning rate of 0 and a weight. Either loss has two sides:

- what the network learns: ``AutoEncoding`` L1 between an image and its auto-encoding;
  ``StructureTasks`` contrastive prediction and jigsaw puzzles, on HR images alone.
- what the generator is asked for: mean |N(sr) - N(hr)|, N the network.

Lee et al., "Auto-Encoded Supervision for Perceptual Image Super-Resolution", CVPR 2025, arXiv
2412.00124; Ma et al., "Structure-Preserving Image Super-Resolution", TPAMI 2021, 2109.12530. Of the
second the two tasks are the paper's; the details below are chosen here. An image is cut into 3 x 3
cells and a tile is taken from a random place of each, so that no edge runs on from tile to tile.
Each tile is seen alone and embedded as its mean map z. Contrastive prediction (van den Oord et al.,
"Representation Learning with Contrastive Predictive Coding", 2018): P(z) of a tile must be nearer
to the tile below it than to all others of the batch,

    mean over i of -log( exp(s(i, below i)) / sum_j exp(s(i, j)) ), s(i, j) = cos(P(z_i), z_j) / 0.1

with i over the tiles that have one below and j over those that have one above. Jigsaw puzzles
(Noroozi and Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles",
ECCV 2016): cross-entropy of the order, one of 32, in which the nine are laid.
"""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.losses.adversarial import AdversarialLoss, LogitsOf
from edgekeeper.losses.check import as_float32_or_more, check_pair
from edgekeeper.models.taught import GRID, StructureExtractor

TEMPERATURE = 0.1
_WHOLE = 4  # pixels; the extractor halves twice


class AutoEncoding(AdversarialLoss):
    """AESOP: the auto-encoder learns mean |A(hr) - hr|; the generator mean |A(sr) - A(hr)|."""

    relativistic = True  # the generator's side compares with HR

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the distance of what the network makes of HR and of SR."""
        return functional.l1_loss(as_float32_or_more(fake), as_float32_or_more(real))

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the distance of an image and its auto-encoding."""
        return functional.l1_loss(as_float32_or_more(fake), as_float32_or_more(real))

    def discriminator_loss(
        self, network: LogitsOf, *, real: Tensor, fake: Tensor, rng: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the auto-encoder learns from ``real``; ``fake`` does not matter."""
        loss = self.discriminator(real, network(real))
        return loss, {"discriminator": loss}


class StructureTasks(AutoEncoding):
    """SPSR-P: what a ``StructureExtractor`` learns; the generator mean |N(sr) - N(hr)| of its maps.

    ``contrast`` and ``jigsaw`` are the weights of the two tasks. Raises InputError.
    """

    recordable = False  # the places of the tiles are numbers

    def __init__(self, *, contrast: float = 1.0, jigsaw: float = 1.0) -> None:
        if min(contrast, jigsaw) < 0 or max(contrast, jigsaw) <= 0:
            raise InputError("The weights of the tasks are 0 or more, and one of them above 0.")
        self.contrast, self.jigsaw = contrast, jigsaw

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the contrastive loss of predictions ``fake`` (N, E) for embeddings ``real``."""
        there, predicted = (
            functional.normalize(as_float32_or_more(x), dim=1) for x in (real, fake)
        )
        likeness = predicted @ there.T / TEMPERATURE  # (N, N), the right ones on the diagonal
        return functional.cross_entropy(likeness, torch.arange(len(there), device=there.device))

    def discriminator_loss(
        self, network: LogitsOf, *, real: Tensor, fake: Tensor, rng: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the extractor learns from ``real``; ``fake`` does not matter. InputError."""
        if not isinstance(network, StructureExtractor):
            raise InputError("StructureTasks are learned by a StructureExtractor.")
        z = network.embedded(tiles_of(real, rng=rng))  # (B, 9, E)
        # Tiles go row by row, so the one below is a row of tiles later.
        above, below = (part.flatten(0, 1) for part in (z[:, :-GRID], z[:, GRID:]))  # (6 B, E)
        contrast = self.discriminator(below, network.predicted(above))
        kinds = len(network.orders)
        number = torch.randint(kinds, (len(z),), generator=rng, device=rng.device).to(z.device)
        laid = z.gather(1, network.orders[number, :, None].expand_as(z))
        logits = as_float32_or_more(network.guessed(laid))  # (B, K)
        jigsaw = functional.cross_entropy(logits, number)
        loss = self.contrast * contrast + self.jigsaw * jigsaw
        solved = (logits.argmax(1) == number).float().mean()
        return loss, {"contrast": contrast, "jigsaw": jigsaw, "solved": solved}


class NeuralStructure(nn.Module):
    """Mean |N(sr) - N(hr)| of the maps of a trained structure extractor N, which is frozen.

    ``loss(sr, hr)``: RGB images (B, 3, H, W) of one shape in [0, 1], 4 pixels a side or more. The
    parameters of N require no gradient and ``train()`` does not change it. Errors: InputError.
    Source: Ma et al., "Structure-Preserving Image Super-Resolution", TPAMI 2021.
    """

    def __init__(self, *, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "NeuralStructure":
        """Return itself, in evaluation mode whatever ``mode``."""
        return super().train(False)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, 3, H, W) both
        return StructureTasks().generator_loss(
            self.extractor, real=as_float32_or_more(hr), fake=as_float32_or_more(sr)
        )


def tiles_of(images: Tensor, *, rng: Generator) -> Tensor:
    """Return tiles (B, 9, C, h, h), row by row, each from a random place of its cell.

    A tile has at most four fifths of its cell's side. Raises InputError for images that are too
    small for tiles of four pixels.
    """
    cell = min(images.shape[-2:]) // GRID
    side = cell * 4 // 5 // _WHOLE * _WHOLE
    if side < _WHOLE:
        raise InputError(f"Images of {tuple(images.shape[-2:])} pixels have no nine tiles.")
    drawn = torch.randint(cell - side + 1, (GRID**2, 2), generator=rng, device=rng.device)
    corners = [
        (number // GRID * cell + down, number % GRID * cell + across)
        for number, (down, across) in enumerate(drawn.tolist())
    ]
    tiles = [images[..., top : top + side, left : left + side] for top, left in corners]
    return torch.stack(tiles, dim=1)
