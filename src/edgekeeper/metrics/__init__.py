"""Metrics: f(sr, hr, ...) or, without an original, f(sr) -> (B,) float64, one per image."""

from edgekeeper.metrics.dists import dists
from edgekeeper.metrics.fsim import fsim
from edgekeeper.metrics.ma import ma, pi
from edgekeeper.metrics.niqe import niqe
from edgekeeper.metrics.perceptual import lpips
from edgekeeper.metrics.protocol import PROTOCOLS, Protocol, find_protocol
from edgekeeper.metrics.psnr import psnr
from edgekeeper.metrics.ssim import ssim
from edgekeeper.metrics.structure import (
    VarianceComparison,
    compare_variances,
    gmsd,
    gradient_psnr,
    gv_gap,
    gv_ratio,
)

__all__ = ["PROTOCOLS", "Protocol", "VarianceComparison", "compare_variances", "dists"]
__all__ += ["find_protocol", "fsim", "gmsd", "gradient_psnr", "gv_gap", "gv_ratio", "lpips", "ma"]
__all__ += ["niqe", "pi", "psnr", "ssim"]
