"""Inspect an enlarged image without its original: colours, consistency, invented structure.

``inspect`` takes the input and the result as tensors, ``inspect_files`` as image files; both
return the same report. ``overlay`` shows where the structure is in doubt.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.image import (
    Image,
    alpha_tensor,
    check_image_target,
    colour_difference,
    from_tensor,
    read_image,
    to_rgb_tensor,
    write_image,
)
from edgekeeper.image.quality import estimate
from edgekeeper.inference import Request, upscale_image
from edgekeeper.metrics.preference import wilson_interval
from edgekeeper.metrics.psnr import mean_square_psnr
from edgekeeper.metrics.risk import shrink, structure_risk, texture_difference
from edgekeeper.metrics.statistics import Interval
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.resize import imresize

RiskVerdict = Literal["supported", "undecided", "doubtful", "invented"]

DOUBTFUL, INVENTED = 0.005, 0.02  # scores from which a result counts as such
ORIGINALS = 1767  # photographs and images of repeating structure, whose score was measured
# How many of these, shrunk by Pillow's bicubic, reach each limit (benchmarks/risk.py).
FALSE_ALARMS = {DOUBTFUL: 4, INVENTED: 0}

# Vermilion, green and blue: told from grey and from each other by colour-blind eyes too.
RISK_COLOUR, UNDECIDED_COLOUR = (1.0, 94 / 213, 0.0), (0.0, 1.0, 115 / 158)
ARTIFACT_COLOUR = (0.0, 0.45, 0.70)
_PLACE = 16  # side of the worst place, in LR pixels
_BAND_PIXELS = 2**17  # pixels worked on at a time
_JUDGED, _NOISY = 1024, 1.5  # pixels of a side looked at for compression and noise; grey levels
_VISIBLE = 4.0  # levels per pixel of unsupported edge that are coloured by 63 %


@dataclass(frozen=True, kw_only=True)
class Place:
    """A part of the result in pixels, and the share of its edge strength that is unsupported."""

    top: int
    left: int
    height: int
    width: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What can be said of a result without its original.

    The first five compare the result, shrunk by MATLAB's bicubic, with the input, in grey levels.
    """

    scale: int  # the factor between the images
    difference_mean: float  # over all pixels and colours
    difference_max: float
    colour_error: float  # mean CIEDE2000; about 1 is just noticeable side by side
    colour_shift: tuple[float, float, float]  # above 0 where the result has more
    psnr: float  # in dB over RGB
    risk: float  # the share of the result's edge strength that contradicts the input
    undecided: float  # the share finer than the input can show: right or invented
    verdict: RiskVerdict  # by the risk, DOUBTFUL and INVENTED; else by ``undecided``
    worst: Place | None  # with the most edges of both kinds
    damaged: bool = False  # the input is compressed or noisy: its original contradicts it too
    unsupported: Tensor = field(repr=False, compare=False)  # (1, 1, h, w) levels per pixel
    beyond: Tensor = field(repr=False, compare=False)  # (1, 1, h, w), undecided
    # (1, 1, H, W) bool, where the texture is not that of a faithful result (DeSRA)
    artifacts: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def artifact_share(self) -> float | None:
        """The share of the result that ``artifacts`` marks."""
        return None if self.artifacts is None else float(self.artifacts.double().mean())

    @property
    def false_alarms(self) -> tuple[float, Interval]:
        """The limit of the verdict, and how often originals reach it, with a 95 % interval."""
        limit = INVENTED if self.verdict == "invented" else DOUBTFUL
        return limit, wilson_interval(FALSE_ALARMS[limit], ORIGINALS)

    def as_json(self) -> dict[str, object]:
        """Return the numbers as JSON takes them: an infinite PSNR is None, no maps."""
        limit, rate = self.false_alarms
        maps = ("unsupported", "beyond", "artifacts")
        return {k: v for k, v in vars(self).items() if k not in maps} | {
            "colour_shift": list(self.colour_shift),
            "psnr": self.psnr if math.isfinite(self.psnr) else None,
            "false_alarms": {"limit": limit, **asdict(rate), "originals": ORIGINALS},
            "worst": asdict(self.worst) if self.worst else None,
            "artifact_share": self.artifact_share,
        }


@torch.no_grad()
def inspect(lr: Tensor, sr: Tensor, *, scale: int, faithful: Tensor | None = None) -> Inspection:
    """The report on the result ``sr`` (1, 3, scale·h, scale·w) of the input ``lr`` (1, 3, h, w).

    Both are float RGB in [0, 1], and so is ``faithful``, the result of a network for fidelity, with
    which artifacts are looked for. Raises InputError.
    """
    if len(lr) != 1 or len(sr) != 1:
        raise InputError(
            f"inspect takes one input and one result; got {len(lr)} and {len(sr)} images."
        )
    found = structure_risk(lr, sr, scale=scale)
    prediction, target = shrink(sr.float(), scale=scale).double(), lr.double()
    difference = (prediction - target) * 255
    red, green, blue = difference.mean(dim=(0, 2, 3)).tolist()
    risk, undecided = float(found.score), float(found.undecided)
    verdict: RiskVerdict = "undecided" if undecided >= DOUBTFUL else "supported"
    if risk >= DOUBTFUL:
        verdict = "invented" if risk >= INVENTED else "doubtful"
    return Inspection(
        scale=scale,
        difference_mean=float(difference.abs().mean()),
        difference_max=float(difference.abs().max()),
        colour_error=colour_difference(prediction, target),
        colour_shift=(red, green, blue),
        psnr=float(mean_square_psnr(prediction, target)),
        risk=risk,
        undecided=undecided,
        verdict=verdict,
        worst=_worst(found.unsupported + found.beyond, found.edges, scale=scale),
        unsupported=found.unsupported,
        beyond=found.beyond,
        artifacts=None if faithful is None else texture_difference(sr, faithful).mask,
    )


def inspect_files(
    lr_path: str | Path,
    sr_path: str | Path,
    *,
    overlay_path: str | Path | None = None,
    artifacts: bool = False,
    tolerant: bool = False,
    overwrite: Literal["refuse", "replace"] = "refuse",
) -> Inspection:
    """Return the report on the result in one file, given the file of the input it was made from.

    Where an image has alpha it is laid on mid-grey, so that what nobody sees does not count.
    ``artifacts`` enlarges the input by the faithful network and marks unlike texture; ``tolerant``
    takes a damaged input as far as it goes. Images are
    held whole: about 30 bytes per pixel of the result, 90 with ``artifacts``.
    Raises InputError: sizes that do not fit.
    """
    if overlay_path is not None:
        check_image_target(Path(overlay_path), overwrite=overwrite)
    source = read_image(lr_path, tolerant=tolerant)
    lr, sr = _visible(source), _visible(read_image(sr_path))
    scale = sr.shape[-1] // lr.shape[-1]
    if scale < 2 or sr.shape[-2:] != (lr.shape[-2] * scale, lr.shape[-1] * scale):
        raise InputError(
            f"'{sr_path}' has {sr.shape[-1]}x{sr.shape[-2]} pixels and '{lr_path}' "
            f"{lr.shape[-1]}x{lr.shape[-2]}: the result must be 2, 3, 4 or another whole number "
            "of times as large, the same on both sides. Give the input first, then the result."
        )
    faithful = None
    if artifacts:
        made = upscale_image(source, Request(scale=scale, style="faithful")).image
        assert made is not None
        faithful = _visible(made)
    condition = estimate(lr[..., :_JUDGED, :_JUDGED], path=lr_path)
    damaged = condition.jpeg_quality is not None or condition.noise >= _NOISY
    report = replace(inspect(lr, sr, scale=scale, faithful=faithful), damaged=damaged)
    if overlay_path is not None:
        pixels = np.concatenate([from_tensor(band) for band in _painted(report, sr)])
        write_image(Image(pixels=pixels), Path(overlay_path), overwrite=overwrite)
    return report


def overlay(report: Inspection, sr: Tensor) -> Tensor:
    """Return the result in grey, (1, 3, H, W) in [0, 1], edges against the input in vermilion.

    What the input cannot decide is green, artifacts blue. A colour covers 63 % where the edge
    strength in question is 4 grey levels per pixel. Raises InputError: another size.
    """
    height, width = (n * report.scale for n in report.unsupported.shape[-2:])
    if sr.shape != (1, 3, height, width):
        raise InputError(
            f"The report is on a result {(1, 3, height, width)}; {tuple(sr.shape)} was given."
        )
    return torch.cat(list(_painted(report, sr)), dim=-2)


def _painted(report: Inspection, sr: Tensor) -> Iterator[Tensor]:
    scale, margin = report.scale, 3  # LR rows that interpolation looks at beyond a band, and one
    cover = 1 - torch.exp(-torch.cat([report.unsupported, report.beyond], dim=1) / _VISIBLE)
    colours = [sr.new_tensor(c).view(1, 3, 1, 1) for c in (RISK_COLOUR, UNDECIDED_COLOUR)]
    height, width = cover.shape[-2:]
    rows = max(8, _BAND_PIXELS // (width * scale * scale))
    for top in range(0, height, rows):
        bottom, first = min(top + rows, height), max(0, top - margin)
        large = imresize(cover[..., first : bottom + margin, :], scale=scale).clamp_(0, 1)
        large = large[..., (top - first) * scale : (bottom - first) * scale, :]
        grey = rgb_to_grey_gv(sr[..., top * scale : bottom * scale, :]).clamp_(0, 1)
        band = grey.expand(-1, 3, -1, -1)
        for layer, colour in zip((large[:, 1:], large[:, :1]), colours[::-1], strict=True):
            # Some of the grey shows through the colour, so that the edge in question stays visible.
            band = band + layer * ((0.4 + 0.6 * grey) * colour - band)
        if report.artifacts is not None:
            mask = report.artifacts[..., top * scale : bottom * scale, :].to(band.dtype)
            blue = torch.tensor(ARTIFACT_COLOUR).to(band).view(1, 3, 1, 1)
            band = torch.lerp(band, (0.4 + 0.6 * grey) * blue, 0.5 * mask)
        yield band


def _visible(image: Image) -> Tensor:
    colours = to_rgb_tensor(image)
    if image.alpha is None:
        return colours
    return 0.5 + (colours - 0.5) * alpha_tensor(image)


def _worst(unsupported: Tensor, edges: Tensor, *, scale: int) -> Place | None:
    """Return the square, or what of it fits, in which the unsupported edges sum up to most."""
    height, width = (min(_PLACE, n) for n in unsupported.shape[-2:])
    sums = functional.avg_pool2d(unsupported, (height, width), stride=1)
    if not float(sums.max()) > 0:
        return None
    top, left = divmod(int(sums.argmax()), sums.shape[-1])
    inside = (..., slice(top, top + height), slice(left, left + width))
    return Place(
        top=top * scale,
        left=left * scale,
        height=height * scale,
        width=width * scale,
        share=float(unsupported[inside].sum() / edges[inside].sum()),
    )
