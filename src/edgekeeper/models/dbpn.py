"""D-DBPN: enlarge, reduce again, correct by what that lost, over and over.

Haris et al., "Deep Back-Projection Networks for Super-Resolution", CVPR 2018,
https://arxiv.org/abs/1803.02735

Two convolutions, then ``stages`` units that project up and, between them, units that project down
(its figure 3); each reads all earlier units of the other kind (figure 5). All HR maps together
make the image.

    the paper's: 7 stages, width 64, first 256   5,953,526 / 10,426,358 / 23,205,878 (x2/x4/x8)

The paper calls ``first`` and ``width`` n0 and nR. The other things it leaves open are as in the
official code: units of one input have no convolution to narrow it, inputs are joined newest first,
each PReLU has one slope, and no mean colour or interpolated image is added.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from edgekeeper.models.base import SRModel, kaiming_normal

PADDING = 2  # of each convolution that changes the size; its kernel is scale + 4, its stride scale


Direction = Literal["up", "down"]


def _layer(conv: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv, nn.PReLU())


def _step(width: int, *, scale: int, direction: Direction) -> nn.Sequential:
    """One layer from maps (B, width, H, W) to ``scale`` times the size, or the inverse."""
    kind = nn.ConvTranspose2d if direction == "up" else nn.Conv2d
    return _layer(kind(width, width, scale + 2 * PADDING, stride=scale, padding=PADDING))


class Projection(nn.Module):
    """h + layer3(layer2(h) - x) with h = layer1(x): up and down again, or down and up again.

    "up" gives scale times the size (equations 2 to 6), "down" the inverse (7 to 11). ``inputs``
    times ``width`` maps are narrowed first.
    """

    def __init__(self, width: int, *, scale: int, inputs: int, direction: Direction) -> None:
        super().__init__()
        self.narrow = _layer(nn.Conv2d(inputs * width, width, 1)) if inputs > 1 else nn.Identity()
        back: Direction = "down" if direction == "up" else "up"
        self.layer1 = _step(width, scale=scale, direction=direction)
        self.layer2 = _step(width, scale=scale, direction=back)
        self.layer3 = _step(width, scale=scale, direction=direction)

    def forward(self, maps: Tensor) -> Tensor:
        x = self.narrow(maps)  # (B, F, H, W) if up, (B, F, rH, rW) if down
        first = self.layer1(x)  # H0: rH, rW if up; eqs. 2 and 7
        return first + self.layer3(self.layer2(first) - x)  # (B, F, H', W')


class DBPN(SRModel):
    """D-DBPN for one scale; the defaults are the paper's. Its features are at HR size."""

    scales = (2, 4, 8)

    def __init__(
        self, *, scale: int = 4, width: int = 64, stages: int = 7, first: int = 256
    ) -> None:
        super().__init__()
        self.scale, self.channels = scale, "rgb"
        self.head = nn.Sequential(
            _layer(nn.Conv2d(3, first, 3, padding=1)), _layer(nn.Conv2d(first, width, 1))
        )
        self.ups = nn.ModuleList(
            Projection(width, scale=scale, inputs=max(1, stage), direction="up")
            for stage in range(stages)
        )
        self.downs = nn.ModuleList(
            Projection(width, scale=scale, inputs=stage, direction="down")
            for stage in range(1, stages)
        )
        self.last = nn.Conv2d(stages * width, 3, 3, padding=1)  # stages·F -> 3, at HR size
        self.receptive_field = _radius(scale, stages=stages)
        kaiming_normal(self)

    def features(self, lr: Tensor) -> Tensor:
        up, *ups = self.ups  # the first reads one input
        high: list[Tensor] = [up(self.head(lr))]
        low: list[Tensor] = []
        for down, up in zip(self.downs, ups, strict=True):
            low.insert(0, down(torch.cat(high, dim=1)))
            high.insert(0, up(torch.cat(low, dim=1)))
        return torch.cat(high, dim=1)  # (B, stages · width, rH, rW)

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.last(features)  # (B, 3, rH, rW)


def _radius(scale: int, *, stages: int) -> int:
    """How many LR pixels away the network looks, its layers followed back from an LR pixel."""
    low, high = -1, scale  # the HR pixels that the last convolution reads for LR pixel 0
    for layer in range(6 * stages - 3):  # of all units in a row, transposed ones first and last
        if layer % 2 == 0:  # HR pixels h see the LR pixels l with s·l - 2 <= h <= s·l + s + 1
            low, high = -((scale + PADDING - 1 - low) // scale), (high + PADDING) // scale
        else:  # LR pixels l see the HR pixels from s·l - 2 to s·l + s + 1
            low, high = scale * low - PADDING, scale * high + scale + PADDING - 1
    return max(-low, high) + 1  # the head
