"""Measures of structure: gradient variance, gradient maps, gradient similarity.

All look at the RGB images that the protocol prepares (rounding, border); colour is
their own. Borders are "valid" throughout, so that no zero padding counts as an edge.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.metrics.protocol import Protocol, compared, find_protocol
from edgekeeper.metrics.psnr import mean_square_psnr
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.ops.gradient import central, magnitude, sobel
from edgekeeper.ops.structure import patch_variances

GMSD_CONSTANT = 170.0  # for luminance in 0..255 (Xue et al., section III)
REGIONS = ("edges", "texture", "flat")
REGION_PATCH = 8
_FLAT = (4 / 255) ** 2  # a patch with less mean squared Sobel gradient (8 times a slope) is flat
_COHERENT = 0.5  # from here on the gradients of a patch have one direction: an edge


@dataclass(frozen=True)
class VarianceComparison:
    """Gradient variance of SR against HR, per direction: four tensors (B,) float64.

    ratio = mean v_SR / mean v_HR: 1 keeps the structure, below 1 is blurred, above 1 is
    too sharp or invented. gap = mean |v_SR - v_HR| / mean v_HR: 0 is equal patch by patch.
    """

    ratio_x: Tensor
    ratio_y: Tensor
    gap_x: Tensor
    gap_y: Tensor

    @property
    def ratio(self) -> Tensor:
        """Mean of the two directions' ratios, (B,)."""
        return (self.ratio_x + self.ratio_y) / 2

    @property
    def gap(self) -> Tensor:
        """Mean of the two directions' gaps, (B,)."""
        return (self.gap_x + self.gap_y) / 2


def compare_variances(
    sr: Tensor,
    hr: Tensor,
    *,
    patch: int = 8,
    protocol: str | Protocol = "y_matlab",
    scale: int | None = None,
) -> VarianceComparison:
    """Gradient variances of SR against HR in x and y direction, each (B,) float64.

    Grey image, Sobel maps, unbiased variance in each patch of ``patch`` x ``patch`` pixels (a
    remainder is dropped): the quantity of the gradient variance loss ("Gradient Variance Loss for
    Structure-Enhanced Image Super-Resolution", ICASSP 2022, eq. 1), relative to the HR image. Where
    that has no gradient at all, equal images give ratio 1 and gap 0, others inf. sr, hr: RGB (B, 3,
    H, W) in [0, 1]. Raises InputError: no patch fits.
    """
    pair = compared(sr, hr, protocol=find_protocol(protocol), scale=scale, metric="structure")
    if min(pair.sr.shape[-2:]) < patch + 2:
        raise InputError(
            f"No patch of {patch}x{patch} fits the Sobel map of what remains of the image, "
            f"{pair.sr.shape[-2]}x{pair.sr.shape[-1]}. Use a larger image."
        )
    maps = [sobel(rgb_to_grey_gv(image), border="valid") for image in (pair.sr, pair.hr)]
    ratios, gaps = [], []
    for of_sr, of_hr in (tuple(one.x for one in maps), tuple(one.y for one in maps)):
        sr_v, hr_v = (patch_variances(one, patch=patch).flatten(1) for one in (of_sr, of_hr))
        mean = hr_v.mean(dim=1)  # (B, patches) -> (B,)
        ratios.append(_relative(sr_v.mean(dim=1), mean, when_flat=1.0))
        gaps.append(_relative((sr_v - hr_v).abs().mean(dim=1), mean, when_flat=0.0))
    return VarianceComparison(*ratios, *gaps)


def gv_ratio(
    sr: Tensor, hr: Tensor, *, protocol: str | Protocol = "y_matlab", scale: int | None = None
) -> Tensor:
    """Gradient variance of SR over that of HR, mean of x and y, (B,); 1 is the aim."""
    return compare_variances(sr, hr, protocol=protocol, scale=scale).ratio


def gv_gap(
    sr: Tensor, hr: Tensor, *, protocol: str | Protocol = "y_matlab", scale: int | None = None
) -> Tensor:
    """Mean absolute gap of the patches' gradient variances over their mean in HR, (B,)."""
    return compare_variances(sr, hr, protocol=protocol, scale=scale).gap


def variances_by_region(sr: Tensor, hr: Tensor) -> Tensor:
    """Return sums over patches of the gradient variances of SR, of HR, and of their absolute gap.

    (3, 3) float64: a row for each of ``REGIONS``, which are those of the original ``hr``, as ``sr``
    RGB (1, 3, H, W). Zeros where no patch fits.
    """
    if min(hr.shape[-2:]) < REGION_PATCH + 2:
        return torch.zeros(3, 3, dtype=torch.float64)
    maps = [sobel(rgb_to_grey_gv(x.clamp(0, 1)).double(), border="valid") for x in (sr, hr)]
    sr_v, hr_v = (
        patch_variances(torch.cat([one.x, one.y]), patch=REGION_PATCH).sum(0).flatten()
        for one in maps
    )  # (patches,)
    inside = F.one_hot(regions_of(maps[1].x, maps[1].y).flatten(), 3).double()  # (patches, 3)
    return inside.T @ torch.stack([sr_v, hr_v, (sr_v - hr_v).abs()], 1)


def regions_of(x: Tensor, y: Tensor) -> Tensor:
    """Return the region (1, 1, nH, nW) of each patch of 8 x 8 of gradients (1, 1, H, W).

    0, edges: gradients of one direction, by the coherence of the structure tensor; 1, texture:
    of several; 2, flat: hardly any.
    """
    xx, yy, xy = (F.avg_pool2d(product, REGION_PATCH) for product in (x * x, y * y, x * y))
    energy = xx + yy
    # The difference of the structure tensor's eigenvalues over their sum.
    coherence = ((xx - yy) ** 2 + 4 * xy**2).sqrt() / energy.clamp_min(1e-12)
    region = torch.where(coherence >= _COHERENT, 0, 1)
    return torch.where(energy < _FLAT, 2, region)


def gradient_psnr(
    sr: Tensor, hr: Tensor, *, protocol: str | Protocol = "y_matlab", scale: int | None = None
) -> Tensor:
    """PSNR in dB between the gradient magnitude maps, (B,) float64, inf for equal maps.

    The maps are those of "Structure-Preserving Super Resolution with Gradient Guidance"
    (CVPR 2020, eq. 2): central differences of each RGB channel, not halved; peak 1.
    """
    pair = compared(sr, hr, protocol=find_protocol(protocol), scale=scale, metric="structure")
    return mean_square_psnr(
        magnitude(central(pair.sr, border="valid")), magnitude(central(pair.hr, border="valid"))
    )


def gmsd(
    sr: Tensor, hr: Tensor, *, protocol: str | Protocol = "y_matlab", scale: int | None = None
) -> Tensor:
    """Gradient magnitude similarity deviation of each image, (B,) float64; 0 is best.

    Grey in 0..255, 2x2 mean at every second pixel, Prewitt / 3, similarity
    (2 a b + 170) / (a² + b² + 170) per pixel, and its standard deviation (over N). Borders
    are zero as in the authors' MATLAB code. Xue, Zhang, Mou, Bovik, "Gradient Magnitude
    Similarity Deviation", IEEE Transactions on Image Processing 23(2), 2014, eqs. 2-6.
    """
    pair = compared(sr, hr, protocol=find_protocol(protocol), scale=scale, metric="structure")
    prediction, target = _prewitt(pair.sr), _prewitt(pair.hr)
    similarity = (2 * prediction * target + GMSD_CONSTANT) / (
        prediction.square() + target.square() + GMSD_CONSTANT
    )
    return similarity.flatten(1).std(dim=1, correction=0)


def _relative(value: Tensor, reference: Tensor, *, when_flat: float) -> Tensor:
    both_zero = (value == 0) & (reference == 0)
    return (value / reference).masked_fill(both_zero, when_flat)


def _prewitt(rgb: Tensor) -> Tensor:
    grey = 255 * rgb_to_grey_gv(rgb)
    height, width = grey.shape[-2:]
    # conv2(..., 'same') adds a zero row and column below and right; odd sizes see it.
    grey = F.avg_pool2d(F.pad(grey, (0, width % 2, 0, height % 2)), kernel_size=2)
    padded = F.pad(grey, (1, 1, 1, 1))
    # Sums of three neighbours across the direction of the difference.
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    columns = padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]
    x = (rows[..., 2:] - rows[..., :-2]) / 3
    y = (columns[..., 2:, :] - columns[..., :-2, :]) / 3
    return torch.sqrt(x.square() + y.square())
