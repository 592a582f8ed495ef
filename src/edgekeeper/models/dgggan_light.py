"""A light network of DGGGAN's family, for small machines: under 0.2 M parameters as it is used.

Fewer parameters and embedded use are what DGGGAN's paper (see ``dgggan.py``) leaves to further
work. What is kept of it: residual blocks that look at several scales, and a gradient branch that
is guided by the gradients of the features after every third block. What is changed, and why:

    blocks     3 x 3 and 5 x 5 convolutions side by side become a chain of 3 x 3 ones, which share
               their beginnings: 27·width² weights a block instead of 174·width²
    attention  none, so that tiles give exactly the whole image and eight bits are easy
    activation LeakyReLU with a slope of 0.1, which bears a high rate: at 5e-3 ReLUs died
    size       every multiplication at LR size; one convolution to 3·scale² maps, a pixel shuffle
    start      it begins as interpolation, to which it adds
    gradient   the branch serves training alone: its loss reaches the features, but the image
               does not depend on it, and ``without_gradient_branch`` leaves it out

    x2 / x3 / x4                 parameters                    multiply-accumulates per LR pixel
    as trained, with the branch  197,240 / 203,750 / 212,864   196,432 / 202,912 / 211,984
    without it                   180,076 / 184,411 / 190,480   179,424 / 183,744 / 189,792

Chosen in short trainings (500 updates of SOAP, x4, one seed; Set5 y): LeakyReLU at 4e-3
30.04 dB; at 2e-3 29.76 dB, ReLU 29.83 dB; bicubic 28.42 dB. ReLU was not tried at 4e-3; at 5e-3 20
to 32 of 32 a layer were dead after 7,000 updates (docs/diary.md).
"""

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models.base import GradientGuided, SRModel, ZeroOrMore
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.ops.resize import imresize

_SLOPE = 0.1  # of each LeakyReLU


class LightBlock(nn.Module):
    """x + c3(c1 + c2), c1 and c2 a chain of conv and LeakyReLU, all 3 x 3: reaches of 5 and 7."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.chain = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        one, two, last = self.chain
        near = F.leaky_relu(one(x), _SLOPE)  # c1
        return x + last(near + F.leaky_relu(two(near), _SLOPE))  # (B, F, H, W)


class LightGradient(nn.Module):
    """The gradient branch: few maps, and a block only where it is guided."""

    def __init__(self, *, scale: int, width: int, guide: int, taps: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)  # 3 -> F
        self.take = nn.ModuleList(nn.Conv2d(guide, width, 1) for _ in range(taps))  # guide -> F
        self.blocks = nn.ModuleList(LightBlock(width) for _ in range(taps))
        self.last = nn.Conv2d(width, 3 * scale**2, 3, padding=1)  # F -> 3·r²
        self.shuffle = nn.PixelShuffle(scale)  # (B, 3·r², H, W) -> (B, 3, rH, rW)

    def forward(self, lr: Tensor, taps: Sequence[Tensor]) -> Tensor:
        maps = self.head(gradient_map(lr))  # (B, F, H, W), from M(lr)
        for take, block, tap in zip(self.take, self.blocks, taps, strict=True):
            maps = block(maps + take(gradient_map(tap)))  # M of the features
        return self.shuffle(self.last(maps))  # (B, 3, rH, rW)


class DGGGANLight(SRModel):
    """The light network for one scale.

    Args:
        grad_every: after each so many blocks the gradient branch reads the features' gradients.
        gradient_width: maps of the gradient branch; 0 leaves it out.

    Raises InputError.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 32,
        blocks: int = 6,
        grad_every: int = 3,
        gradient_width: ZeroOrMore = 16,
    ) -> None:
        super().__init__()
        if grad_every > blocks:
            raise InputError(
                f"DGGGANLight reads gradients after every {grad_every} of its {blocks} blocks; "
                "grad_every must be from 1 to the number of blocks."
            )
        self.scale, self.channels = scale, "rgb"
        self.width, self.grad_every = width, grad_every
        self.head = nn.Conv2d(3, width, 3, padding=1)  # 3 -> F
        self.blocks = nn.ModuleList(LightBlock(width) for _ in range(blocks))
        self.after_blocks = nn.Conv2d(width, width, 3, padding=1)  # before the long skip
        self.last = nn.Conv2d(width, 3 * scale**2, 3, padding=1)  # F -> 3·r²
        self.shuffle = nn.PixelShuffle(scale)  # (B, 3·r², H, W) -> (B, 3, rH, rW)
        self.gradient = (
            LightGradient(scale=scale, width=gradient_width, guide=width, taps=blocks // grad_every)
            if gradient_width
            else None
        )
        self.receptive_field = 1 + 3 * blocks + 1 + 1  # head, blocks, after_blocks, last
        for parameter in self.last.parameters():  # start as interpolation
            nn.init.zeros_(parameter)

    def features(self, lr: Tensor) -> Tensor:
        return self._deep(lr)[-1]  # (B, F, H, W)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        # (B, 3, rH, rW)
        return self.shuffle(self.last(features)) + imresize(lr, scale=self.scale)

    def with_gradient(self, lr: Tensor) -> GradientGuided:
        """Return the SR batch and the predicted gradient map of the HR batch. Raises InputError."""
        if self.gradient is None:
            raise InputError(
                "This DGGGANLight predicts no gradient map: it has no gradient branch "
                "(gradient_width is 0)."
            )
        *taps, deep = self._deep(lr)
        return GradientGuided(self.reconstruct(deep, lr), self.gradient(lr, taps))

    def without_gradient_branch(self) -> "DGGGANLight":
        """The same network, which gives the same images, without what only training needs."""
        light = DGGGANLight(
            scale=self.scale,
            width=self.width,
            blocks=len(self.blocks),
            grad_every=self.grad_every,
            gradient_width=0,
        )
        own = self.state_dict()
        light.load_state_dict({name: own[name] for name in light.state_dict()})
        some = self.head.weight
        return light.to(some.device, some.dtype).train(self.training)

    def _deep(self, lr: Tensor) -> list[Tensor]:
        """The maps (B, width, H, W) after each ``grad_every`` blocks, and last the features."""
        shallow = maps = self.head(lr)  # (B, F, H, W)
        found = []
        for k, block in enumerate(self.blocks, start=1):
            maps = block(maps)
            if k % self.grad_every == 0:
                found.append(maps)
        return [*found, shallow + self.after_blocks(maps)]  # (B, F, H, W) each
