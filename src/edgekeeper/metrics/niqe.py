"""NIQE: how far the local statistics of an image are from those of pristine photographs.

Mittal, Soundararajan, Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE Signal
Processing Letters 20(3), 2013. The model of pristine photographs is the authors' release.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import CheckpointError, InputError, UnavailableError, check_choice
from edgekeeper.metrics.matfile import read_mat
from edgekeeper.metrics.protocol import OVERSHOOT, check_range, check_rgb
from edgekeeper.models.backbones import weights_file
from edgekeeper.ops.color import rgb_to_grey_matlab, rgb_to_y, round_uint8
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.structure import gaussian_window

Grey = Literal["y", "rgb2gray", "stored"]
NIQE_FILE = "niqe_modelparameters.mat"
NIQE_BLOCK = 96  # pixels of a side; half as many at the second scale
FEATURES = 18  # per block and scale
_STEPS = 1000  # entries per unit of the shape; the largest shape is 10

_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows down, columns to the right
_REACH = 3  # of the 7 x 7 window
# x - mean is 0 in flat areas but for rounding, and the fit looks at signs.
_FLAT = 1e-9


def niqe(
    x: Tensor, *, shave: int = 4, folder: str | Path | None = None, grey: Grey = "y"
) -> Tensor:
    """NIQE of each image, (B,) float64; lower is better, photographs score 2 to 6.

    Luma rounded to uint8, ``shave`` pixels left out on each side (4 in the PIRM and SPSR
    toolboxes), then as many whole blocks of 96 x 96 pixels as there are, in float64. x: RGB (B, 3,
    H, W) in [0, 1]. folder: where ``niqe_modelparameters.mat`` lies; by default the folder
    ``weights`` of EDGEKEEPER_DATA. grey: "y" is luma from 16 to 235; "rgb2gray" MATLAB's grey from
    0 to 255; "stored" the first channel as it is, for files that are grey. Raises UnavailableError
    without that file and with fewer than two blocks that have any texture.
    """
    luma = shaved_luma(x, shave=shave, grey=grey)
    pristine = _pristine(weights_file(NIQE_FILE, folder=folder, purpose="NIQE").resolve())
    return torch.stack([_score(image, *pristine) for image in luma]).to(x.device)


def _grey(x: Tensor, grey: Grey) -> Tensor:
    check_choice("grey", grey, known=get_args(Grey))
    if grey == "y":
        return rgb_to_y(x)
    return x[:, :1] if grey == "stored" else rgb_to_grey_matlab(x)


def shaved_luma(x: Tensor, *, shave: int, grey: Grey = "y") -> Tensor:
    """MATLAB's uint8 luma in 0..255 within ``shave``, (B, H', W') float64. Raises InputError."""
    check_rgb(x)
    check_range("The image", x, beyond=OVERSHOOT)
    height, width = x.shape[2:]
    if isinstance(shave, bool) or not isinstance(shave, int) or shave < 0:
        raise InputError(f"'shave' is {shave!r}; it is a whole number of pixels, 0 or more.")
    if 2 * shave >= min(height, width):
        raise InputError(f"Shaving {shave} pixels leaves nothing of a {height}x{width} image.")
    x = x.detach()[:, :, shave : height - shave, shave : width - shave]
    luma = x.new_empty((len(x), *x.shape[2:]), dtype=torch.float64)
    # In strips: float64 copies of a whole image take longer to make than to compute.
    for top in range(0, x.shape[2], NIQE_BLOCK):
        rows = slice(top, top + NIQE_BLOCK)
        whole = round_uint8(_grey(round_uint8(x[:, :, rows].double()), grey))
        luma[:, rows] = (whole[:, 0] * 255).round_()
    return luma


def block_features(luma: Tensor) -> Tensor:
    """The 36 features of each block of 96 x 96, (blocks, 36), row by row; some may be NaN."""
    rows, columns = (side // NIQE_BLOCK for side in luma.shape)
    luma = luma[: rows * NIQE_BLOCK, : columns * NIQE_BLOCK].double()
    half = imresize(luma[None], scale=0.5)[0]
    return torch.cat(
        [_scale_features(luma, NIQE_BLOCK), _scale_features(half, NIQE_BLOCK // 2)], dim=1
    )


def fit_features(blocks: Tensor) -> Tensor:
    """Return the 18 features of normalised blocks (N, H, W): (N, 18).

    Shape and mean spread of the values; then, for the products with four neighbours (the block
    closed to a ring), shape, mean, left and right spread.
    """
    own = fit_asymmetric(blocks.flatten(1))
    found = [own.shape, (own.left + own.right) / 2]
    for shift in _SHIFTS:
        fit = fit_asymmetric((blocks * torch.roll(blocks, shift, dims=(1, 2))).flatten(1))
        ratio = torch.exp(torch.lgamma(2 / fit.shape) - torch.lgamma(1 / fit.shape))
        found += [fit.shape, (fit.right - fit.left) * ratio, fit.left, fit.right]
    return torch.stack(found, dim=1)


@dataclass(frozen=True)
class AsymmetricFit:
    """Asymmetric generalised Gaussians: shape, left and right spread, each (N,)."""

    shape: Tensor
    left: Tensor
    right: Tensor


def fit_asymmetric(values: Tensor) -> AsymmetricFit:
    """The asymmetric generalised Gaussian of each row of ``values`` (N, samples), by moments.

    Without a sample on one side the spreads are NaN. Lasmar, Stitou, Berthoumieu, ICIP 2009.
    """
    above = values.clamp(min=0)
    below = above - values
    square_above, square_below = (torch.linalg.vecdot(x, x) for x in (above, below))
    right = (square_above / torch.count_nonzero(above, dim=1)).sqrt()
    left = (square_below / torch.count_nonzero(below, dim=1)).sqrt()
    mean_size = (above.sum(dim=1) + below.sum(dim=1)) / values.shape[1]
    ratio = mean_size.square() / ((square_above + square_below) / values.shape[1])
    skew = left / right
    wanted = ratio * (skew**3 + 1) * (skew + 1) / (skew.square() + 1).square()
    shape = nearest_shape(wanted, of="mean over square")
    spread = torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)
    return AsymmetricFit(shape=shape, left=left * spread, right=right * spread)


def nearest_shape(
    ratio: Tensor,
    *,
    of: Literal["square over mean", "mean over square"],
    smallest: Literal[30, 200] = 200,
) -> Tensor:
    """Return the shapes (N,), in steps of 0.001, whose ratio of moments is nearest to ``ratio``.

    For the density exp(-|x/s|^g) E[x²] / E[|x|]² = G(1/g) G(3/g) / G(2/g)², which falls with g;
    "mean over square" compares its inverse, whose nearest entry is not always the same.
    ``smallest`` is the first shape in thousandths, the last is 10. NaN gives the first, as in the
    published code.
    """
    grid, table = _table(smallest, of)
    wanted = ratio.double().cpu()
    if of == "square over mean":  # negated, so that it grows
        wanted, table = -wanted, -table
    after = torch.searchsorted(table, wanted.nan_to_num(0.0)).clamp(1, len(table) - 1)
    nearer = (table[after] - wanted).abs() < (table[after - 1] - wanted).abs()
    shape = grid[torch.where(nearer, after, after - 1)]
    return torch.where(wanted.isnan(), grid[0], shape).to(ratio.device)


@lru_cache(maxsize=4)
def _table(smallest: int, of: str) -> tuple[Tensor, Tensor]:
    grid = torch.from_numpy(np.arange(smallest, 10 * _STEPS + 1) / _STEPS)
    logarithm = torch.lgamma(1 / grid) + torch.lgamma(3 / grid) - 2 * torch.lgamma(2 / grid)
    return grid, torch.exp(logarithm if of == "square over mean" else -logarithm)


def _scale_features(luma: Tensor, block: int) -> Tensor:
    """Return the 18 features of each ``block`` x ``block`` block of ``luma`` (H, W)."""
    padded = functional.pad(luma[None, None], [_REACH] * 4, mode="replicate")[0, 0]
    height, width = luma.shape
    found = []
    # A row of blocks at a time: its maps stay in the cache.
    for top in range(0, height, block):
        strip = padded[top : top + block + 2 * _REACH]
        mean = _blur(strip)
        deviation = (_blur(strip * strip) - mean * mean).abs_().sqrt_()
        centred = luma[top : top + block] - mean
        centred.masked_fill_(centred.abs() < _FLAT, 0.0)
        normalised = centred / (deviation + 1)
        blocks = normalised.view(block, width // block, block).transpose(0, 1).contiguous()
        found.append(fit_features(blocks))
    return torch.cat(found)


def _blur(x: Tensor) -> Tensor:
    """Return the 7 x 7 Gaussian of sigma 7/6, whole windows only: (H, W) -> (H - 6, W - 6)."""
    window = gaussian_window(2 * _REACH + 1, 7 / 6).tolist()
    for dim in (0, 1):
        length = x.shape[dim] - 2 * _REACH
        total = x.narrow(dim, _REACH, length) * window[_REACH]
        for k in range(_REACH):  # the window is symmetric
            total.add_(x.narrow(dim, k, length), alpha=window[k])
            total.add_(x.narrow(dim, 2 * _REACH - k, length), alpha=window[k])
        x = total
    return x


@lru_cache(maxsize=2)
def _pristine(path: Path) -> tuple[Tensor, Tensor]:
    """Return mean (36,) and covariance (36, 36) of the features of pristine photographs."""
    found = read_mat(path)
    mean, covariance = found.get("mu_prisparam"), found.get("cov_prisparam")
    if not (isinstance(mean, np.ndarray) and isinstance(covariance, np.ndarray)):
        raise CheckpointError(f"'{path}' does not hold 'mu_prisparam' and 'cov_prisparam'.")
    if mean.size != 2 * FEATURES or covariance.shape != (2 * FEATURES, 2 * FEATURES):
        raise CheckpointError(f"'{path}' is not the model of NIQE: it needs 36 features.")
    return torch.from_numpy(mean.reshape(-1)).double(), torch.from_numpy(covariance).double()


def _score(luma: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return the distance of one image's luma (H, W) from the pristine ones, a scalar."""
    rows, columns = (side // NIQE_BLOCK for side in luma.shape)
    size = f"{luma.shape[0]}x{luma.shape[1]} pixels after shaving"
    if rows * columns < 2:
        raise UnavailableError(f"NIQE needs two blocks of 96x96 pixels or more; this has {size}.")
    features = block_features(luma.cpu())
    complete = features[~features.isnan().any(dim=1)]
    if len(complete) < 2:
        raise UnavailableError(f"NIQE needs two blocks with texture; this image ({size}) is flat.")
    difference = mean - features.nanmean(dim=0)
    covariance = (covariance + torch.cov(complete.T)) / 2
    distance: Tensor = difference @ torch.linalg.pinv(covariance, hermitian=True) @ difference
    return distance.clamp(min=0).sqrt()
