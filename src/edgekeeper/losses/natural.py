"""NatSR's naturalness: images that are not natural, what tells them, and what is asked of SR.

Soh et al., "Natural and Realistic Single Image Super-Resolution with Explicit Natural Manifold
Discrimination", CVPR 2019, https://arxiv.org/abs/1911.03624. In two parts:

1. A discriminator D (``edgekeeper.models.NaturalManifoldDiscriminator``) learns, with the
   discriminator's side of ``NaturalManifold``, to tell HR images from what ``Unnatural`` makes of
   them.
2. D is frozen, and the generator is asked to make natural images: ``Naturalness``.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.losses.adversarial import VanillaGAN
from edgekeeper.losses.check import check_pair, check_positive
from edgekeeper.ops.resize import imresize
from edgekeeper.spec import Spec

_BLOCK = 8  # pixels a side of the blocks that the noise is made in
HARDER_SHARE, MOST_SHARE, HARDER_DEVIATION = 0.1, 0.9, 0.8  # each step


class NaturalManifold(VanillaGAN):
    """Both sides, on logits: discriminator = -mean log D(natural) - mean log(1 - D(unnatural)).

    generator = -mean log D(SR). Unlike a GAN's, the discriminator's ``fake`` are no SR images but
    unnatural ones, and it has learned before the generator starts. Given SR images all the
    same, it is the discriminator of the first GAN.
    """


class Naturalness(nn.Module):
    """-mean log D(sr), with D a discriminator that is frozen: NatSR's naturalness loss.

    - ``discriminator``: a trained network that gives logits (B, 1), or the Spec of one.
    - ``weights``: a safetensors file with its weights under its own names; needed with a Spec.

    The parameters of D require no gradient and ``train()`` does not change it. ``loss(sr,
    hr)``: images (B, C, H, W) of one shape in [0, 1] that D takes; ``hr`` is not
    looked at. Low values are natural. NatSR's weight is 0.001 beside 1 for L1.
    Errors: InputError; UnavailableError when the weights are not there; CheckpointError when they
    do not fit.
    """

    def __init__(
        self, *, discriminator: nn.Module | Spec[nn.Module], weights: str | Path | None = None
    ) -> None:
        super().__init__()
        if isinstance(discriminator, Spec):
            if weights is None:
                raise InputError(
                    "Naturalness with the Spec of a discriminator needs 'weights', the file of a "
                    "trained one: an untrained one knows nothing of natural images."
                )
            discriminator = discriminator.build()
        if weights is not None:
            _load(discriminator, Path(weights))
        self.discriminator = discriminator.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Naturalness":
        """Itself, with the discriminator in evaluation mode whatever ``mode``."""
        super().train(mode)
        self.discriminator.eval()
        return self

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        check_pair(sr, hr)  # (B, C, H, W) both
        logits = self.discriminator(sr)  # (B, 1)
        return NaturalManifold().generator(logits, logits)  # -mean log D


@dataclass(frozen=True, kw_only=True)
class Unnatural:
    """Makes blurred and noisy images of natural ones.

    - Blurred: share · HR + (1 - share) · HR shrunk and enlarged again by ``scale``, bicubically.
    - Noisy: in the discrete cosine transform of each block of 8 x 8 pixels normal noise of
      standard deviation ``deviation`` (for values in [0, 1]) is added to the 15 coefficients of
      the highest horizontal or vertical frequency.

    A larger share and a smaller deviation are nearer to natural images: one begins with the
    defaults and goes on with ``harder()`` when the discriminator tells the two well. The numbers
    are those of https://github.com/kozistr/NatSR-pytorch (MIT). Raises InputError.
    """

    scale: int = 4
    share: float = 0.5
    deviation: float = 0.1

    def __post_init__(self) -> None:
        check_positive("deviation", self.deviation)
        check_positive("scale", self.scale)
        if not 0 <= self.share < 1:
            raise InputError(f"'share' is {self.share!r}; it must be 0 or more and below 1.")

    def harder(self) -> "Unnatural":
        """The next step: a share 0.1 larger, at most 0.9, and a deviation 0.8 times as large."""
        share = max(self.share, min(self.share + HARDER_SHARE, MOST_SHARE))
        return replace(self, share=share, deviation=self.deviation * HARDER_DEVIATION)

    def __call__(self, hr: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return the blurred and then the noisy images (2·B, C, H, W) of ``hr`` (B, C, H, W).

        Values can leave [0, 1]. Raises InputError unless ``hr`` holds floats.
        """
        check_pair(hr, hr)
        return torch.cat([self.blurred(hr), self.noisy(hr, generator=generator)])  # (2·B, C, H, W)

    def blurred(self, hr: Tensor) -> Tensor:
        """Return the blurred images (B, C, H, W)."""
        height, width = hr.shape[-2:]
        soft = imresize(imresize(hr, scale=1 / self.scale), size=(height, width))  # (B, C, H, W)
        return torch.lerp(soft, hr, self.share)  # share · hr + (1 - share) · soft

    def noisy(self, hr: Tensor, *, generator: torch.Generator) -> Tensor:
        """Return the noisy images (B, C, H, W); ``generator`` may be of a CPU."""
        *front, height, width = hr.shape
        rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)  # rounded up
        # (B, C, h, w, 8, 8)
        noise = torch.randn(
            *front, rows, columns, _BLOCK, _BLOCK, generator=generator, device=generator.device
        )
        noise[..., :-1, :-1] = 0  # all but the 15 highest frequencies
        basis = _cosines(generator.device)  # (8, 8)
        blocks = self.deviation * (basis.T @ noise @ basis)  # back to pixels
        # (B, C, 8h, 8w)
        field = blocks.transpose(-3, -2).reshape(*front, rows * _BLOCK, columns * _BLOCK)
        return hr + field[..., :height, :width].to(hr)  # (B, C, H, W)


def _cosines(device: torch.device) -> Tensor:
    """Return the orthonormal discrete cosine transform of eight values, a frequency a row."""
    number = torch.arange(_BLOCK, device=device)
    place = (number + 0.5) * math.pi / _BLOCK  # (8,)
    basis = torch.cos(number[:, None] * place) * math.sqrt(2 / _BLOCK)  # (8, 8)
    basis[0] /= math.sqrt(2)  # the constant
    return basis


def _load(discriminator: nn.Module, path: Path) -> None:
    """Fill the network from the file, every name of which must fit."""
    if not path.is_file():
        raise UnavailableError(
            f"The naturalness loss needs the file '{path}' with a trained discriminator, and it "
            "is not there: train one and save its state_dict with safetensors."
        )
    try:
        discriminator.load_state_dict(load_file(str(path)))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"'{path}' does not hold the weights of this {type(discriminator).__name__}: {reason}"
        ) from error
