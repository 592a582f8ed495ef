"""DGGGAN: multi-scale residual blocks with channel attention, guided by the gradients of features.

"Image Super-Resolution Using Gradient Guidance and Generative Adversarial Networks", of which no
code is known; listed as Ma and Li, JCEIM 10(1), 2023, https://doi.org/10.54097/jceim.v10i1.5074

Two branches of the same layers, of which the second starts from M(lr), the length of the central
differences, and takes in M of the first one's features after every third block:

    a, g = head(lr), head(M(lr));  a, g = block(a), block(g), ten times;  each third: g = g + M(a)
    F_a, F_g = refine(enlarge(a + a0)), refine(enlarge(g + g0));  sr = fusion(F_a, F_g)

Parts, each a module of its own: ``image`` and ``gradient`` (which also predicts M of the HR
image) and ``fusion``. The paper leaves much open (wiring of a block, widths, how the branches
meet, how they enlarge). What is chosen here meets its numbers: 14.6 M parameters, 23.7 G.

    body  parameters                                     multiply-accumulates
          all           no SE         no gradient branch  per LR pixel
    half  14,624,582    14,532,422    7,306,371            4,740,480
    lr    14,660,230    14,568,070    7,328,835           18,269,568

``body="half"``, the default, works at half the LR size, 2 x 2 LR pixels in channels: 23.73 G at LR
50 x 50 (2 for a multiply-accumulate and for a bias), the rule of the paper's other columns. The
literal reading, ``body="lr"``, costs 91.4 G there; it learns faster per step, and somewhat faster
per second. The counts include the gradient image, which ``forward`` alone does not make, and not
the 10,240 multiplications per image of the attention.

Not in the paper: x2 and x3 (one enlargement by 2 or 3 instead of two by 2), ``image_skip``, which
adds the interpolated input (a short training needs it), and ``DGGGANLight``, in a file of its own.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.models.base import GradientGuided, SRModel, filled
from edgekeeper.models.enlarge import SLOPE, Enlarger, tail_radius
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.ops.resize import imresize

Body = Literal["half", "lr"]
ImageSkip = Literal["none", "bilinear", "bicubic"]

REDUCTION = 16  # maps of a block to one number within its attention


class SqueezeExcitation(nn.Module):
    """u · sigmoid(W2 relu(W1 mean(u))) with u a 1 x 1 convolution of x; no biases (eqs. 2 to 5)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        squeezed = max(1, width // REDUCTION)
        self.transform = nn.Conv2d(width, width, 1, bias=False)  # eq. 2
        self.squeeze = nn.Linear(width, squeezed, bias=False)
        self.excite = nn.Linear(squeezed, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        u = self.transform(x)  # (B, F, H, W)
        weight = self.excite(F.relu(self.squeeze(u.mean(dim=(2, 3))))).sigmoid()  # (B, F)
        return u * weight[:, :, None, None]  # (B, F, H, W)


class MultiScaleBlock(nn.Module):
    """x + attention(1 x 1(stage2(stage1(x)))): a 3 x 3 beside a 5 x 5 convolution in each stage.

    The paper says four branches of 3 x 3 and 5 x 5 convolutions. Chosen here: their pairs, (3, 3),
    (3, 5), (5, 3) and (5, 5), and that each reads all of stage 1. Two convolutions of one size and
    one input are written as one with twice the maps.
    """

    def __init__(self, width: int, *, se: bool) -> None:
        super().__init__()
        self.stage1 = nn.ModuleList(nn.Conv2d(width, width, k, padding=k // 2) for k in (3, 5))
        self.stage2 = nn.ModuleList(
            nn.Conv2d(2 * width, 2 * width, k, padding=k // 2) for k in (3, 5)
        )
        self.narrow = nn.Conv2d(4 * width, width, 1)  # 4·F -> F
        self.attention = SqueezeExcitation(width) if se else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        maps = x
        for stage in (self.stage1, self.stage2):
            # 2·F, then 4·F
            maps = torch.cat([F.leaky_relu(conv(maps), SLOPE) for conv in stage], dim=1)
        return x + self.attention(self.narrow(maps))  # (B, F, H, W)


class Branch(nn.Module):
    """What both branches are made of: a head, blocks, a long skip, enlargement, a convolution."""

    def __init__(self, *, scale: int, cell: int, width: int, blocks: int, se: bool) -> None:
        super().__init__()
        self.head = nn.Conv2d(3 * cell**2, width, 3, padding=1)  # cells -> F
        self.blocks = nn.ModuleList(MultiScaleBlock(width, se=se) for _ in range(blocks))
        self.enlarge = Enlarger(width, factor=scale)
        self.refine = nn.Conv2d(width, width, 3, padding=1)

    def deep(self, x: Tensor, *, every: int) -> list[Tensor]:
        """The maps (B, width, H, W) after each ``every`` blocks, and last those with the skip."""
        first = maps = self.head(x)  # (B, F, h, w), h = H / cell
        found = []
        for k, block in enumerate(self.blocks, start=1):
            maps = block(maps)
            if k % every == 0:
                found.append(maps)
        return [*found, first + maps]

    def enlarged(self, maps: Tensor) -> Tensor:
        """The maps (B, width, scale·H, scale·W) that the fusion reads, of maps (B, width, H, W)."""
        return F.leaky_relu(self.refine(self.enlarge(maps)), SLOPE)  # (B, F, rh, rw)


class GradientPart(Branch):
    """The gradient branch and the convolutions that make its image."""

    def __init__(
        self, *, scale: int, cell: int, width: int, blocks: int, se: bool, every: int
    ) -> None:
        super().__init__(scale=scale, cell=cell, width=width, blocks=blocks, se=se)
        self.every = every
        spread = [
            nn.PixelShuffle(cell),
            nn.Conv2d(width // cell**2, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
        ]
        self.picture = nn.Sequential(*(spread if cell > 1 else []), nn.Conv2d(width, 3, 1))

    def guided(self, x: Tensor, *, taps: Sequence[Tensor]) -> Tensor:
        """Return the maps (B, width, H, W), long skip included, from M(lr) and the other's maps."""
        first = maps = self.head(x)  # (B, F, h, w), h = H / cell
        for k, block in enumerate(self.blocks, start=1):
            maps = block(maps)
            if k % self.every == 0:
                maps = maps + gradient_map(taps[k // self.every - 1])  # M of the other branch
        return first + maps


class GuidedFusion(nn.Module):
    """The image from the maps of the image branch and, if there is one, of the gradient's."""

    def __init__(self, *, cell: int, width: int, branches: int) -> None:
        super().__init__()
        self.spread = nn.PixelShuffle(cell)  # cells back to pixels
        self.width = width
        self.gradient = nn.Conv2d(width, width, 1) if branches == 2 else None
        self.join = nn.Conv2d(branches * width // cell**2, width, 3, padding=1)  # to F
        self.last = nn.Conv2d(width, 3, 3, padding=1)  # F -> 3, at HR size

    def forward(self, features: Tensor) -> Tensor:
        maps = self.spread(features[:, -self.width :])  # F -> F / cell² maps, cell times the size
        if self.gradient is not None:
            guide = self.spread(self.gradient(features[:, : self.width]))  # the same size
            maps = torch.cat([maps, guide], dim=1)
        return self.last(F.leaky_relu(self.join(maps), SLOPE))  # (B, 3, cell·H, cell·W)


def _initialise(network: "DGGGAN") -> None:
    """Set Kaiming's normal weights, less where a block adds (a tenth) and at the end (a 1000th).

    So the first image is the interpolated one, or black, but for a trace. With a tenth of
    everything, as in ESRGAN, it is the product of many small factors, which training takes
    hundreds of updates to leave; with all of Kaiming's it is noise, and the first updates silence
    the features.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    ends = [network.fusion.last]
    if network.gradient is not None:
        ends += [m for m in network.gradient.picture if isinstance(m, nn.Conv2d)][-1:]
    with torch.no_grad():
        for end in ends:
            end.weight.mul_(0.001)
        for module in network.modules():
            if isinstance(module, MultiScaleBlock):
                module.narrow.weight.mul_(0.1)


class DGGGAN(SRModel):
    """DGGGAN's generator for one scale; the defaults are the paper's.

    The receptive field and the overlap of tiles are those of the convolutions. The attention
    averages over all of what it is given, a tile or the whole image, so that only a network
    without it (``se=False``) gives exactly the same in tiles; a larger overlap does not help, a
    larger tile does. Measured on one photograph of 320 x 180 with a small network (half-size
    body, 32 maps, 3 blocks, 227 steps of training, so its attention had learned little): tiles
    of 128 / 192 / 256 change an SR value by at most 0.020 / 0.007 / 0.003 grey levels of 255.
    ``edgekeeper.inference.verify_seams`` measures it for any network and image.

    Args:
        width: maps of every layer, a multiple of 4.
        grad_every: after each so many blocks the gradients of the features are taken in.
        body: the size at which the blocks work, ``"half"`` of the LR image's or ``"lr"``, all.
        gradient_branch: False leaves it out (the paper's table 1).
        se: False leaves squeeze and excitation out (its table 2).
        image_skip: the interpolation of the LR image that is added to the result.

    Raises InputError.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        width: int = 64,
        blocks: int = 10,
        grad_every: int = 3,
        body: Body = "half",
        gradient_branch: bool = True,
        se: bool = True,
        image_skip: ImageSkip = "none",
    ) -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise InputError(f"DGGGAN's width is a multiple of 4, at least 4; got {width}.")
        if gradient_branch and not 1 <= grad_every <= blocks:
            raise InputError(
                f"DGGGAN takes in gradients after every {grad_every} of its {blocks} blocks; "
                "grad_every must be from 1 to the number of blocks."
            )
        self.scale, self.channels, self.image_skip = scale, "rgb", image_skip
        self.width, self.grad_every = width, grad_every if gradient_branch else blocks
        self.multiple = cell = 2 if body == "half" else 1  # tiles see the cells of the whole
        self.image = Branch(scale=scale, cell=cell, width=width, blocks=blocks, se=se)
        self.gradient = (
            GradientPart(
                scale=scale, cell=cell, width=width, blocks=blocks, se=se, every=grad_every
            )
            if gradient_branch
            else None
        )
        self.fusion = GuidedFusion(cell=cell, width=width, branches=2 if gradient_branch else 1)
        # In cells: head, blocks of two 5 x 5, tail; the last two convolutions are at HR size.
        cells = 1 + 4 * blocks + tail_radius(scale, convolutions=4 - cell)
        cells += 1 if gradient_branch else 0  # M, once on the way through whichever branch
        self.receptive_field = cells * cell + cell - 1
        _initialise(self)

    def features(self, lr: Tensor) -> Tensor:
        """Return the last maps of the gradient branch, if there is one, and of the image branch.

        (B, width or 2·width, scale·H, scale·W), half that height and width with a half-size body.
        """
        whole = filled(lr, multiple=self.multiple)  # whole cells
        *taps, deep = self.image.deep(self._cells(whole), every=self.grad_every)
        image = self.image.enlarged(deep)  # (B, F, rh, rw)
        if self.gradient is None:
            return image
        guided = self.gradient.guided(self._cells(gradient_map(whole)), taps=taps)
        return torch.cat([self.gradient.enlarged(guided), image], dim=1)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        sr = self._cropped(self.fusion(features), lr)  # (B, 3, rH, rW)
        if self.image_skip == "none":
            return sr
        if self.image_skip == "bicubic":
            return sr + imresize(lr, scale=self.scale)
        # (B, 3, rH, rW)
        return sr + F.interpolate(lr, scale_factor=self.scale, mode="bilinear")

    def with_gradient(self, lr: Tensor) -> GradientGuided:
        """Return the SR batch and the predicted gradient map of the HR batch. Raises InputError."""
        if self.gradient is None:
            raise InputError(
                "This DGGGAN predicts no gradient map: it was built without its gradient branch."
            )
        features = self.features(lr)
        gradient = self.gradient.picture(features[:, : self.width])  # (B, 3, rH, rW)
        return GradientGuided(self.reconstruct(features, lr), self._cropped(gradient, lr))

    def sr_branch_only(self, lr: Tensor) -> Tensor:
        """The SR batch with zeros in place of the gradient branch's maps (as SPSR's figure 7).

        Raises InputError: the network has no gradient branch.
        """
        if self.gradient is None:
            raise InputError(
                "This DGGGAN has no gradient branch to leave out: it was built without one."
            )
        whole = filled(lr, multiple=self.multiple)  # whole cells
        maps = self.image.enlarged(self.image.deep(self._cells(whole), every=self.grad_every)[-1])
        return self.reconstruct(torch.cat([torch.zeros_like(maps), maps], dim=1), lr)

    def _cells(self, whole: Tensor) -> Tensor:
        """Return the input of a head: pixels, or cells of 2 x 2 pixels in channels."""
        return F.pixel_unshuffle(whole, self.multiple)

    def _cropped(self, image: Tensor, lr: Tensor) -> Tensor:
        """Return a result without what a filled row or column gave."""
        height, width = lr.shape[-2:]
        return image[..., : self.scale * height, : self.scale * width]
