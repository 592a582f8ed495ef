"""LPIPS, NIQE, Ma and PI of one image, each a number or the reason why there is none."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from edgekeeper.errors import UnavailableError
from edgekeeper.metrics.lpips import lpips
from edgekeeper.metrics.ma import ma, perceptual_index
from edgekeeper.metrics.niqe import niqe

PERCEPTUAL: dict[str, Literal["highest", "lowest"]] = {
    "lpips": "lowest",
    "niqe": "lowest",
    "ma": "highest",
    "pi": "lowest",
}
"""The numbers that take files and seconds, measured when they are asked for; which are good."""

SMALLEST_LPIPS = 31  # pixels a side that AlexNet's layers need


@dataclass(frozen=True)
class Perceptual:
    """The numbers by metric, and the reason, a sentence, for each metric without a number."""

    values: dict[str, float]
    unavailable: dict[str, str]


def measure_perceptual(
    sr: Tensor, hr: Tensor, *, metrics: Collection[str], folder: str | Path | None = None
) -> Perceptual:
    """Those of ``PERCEPTUAL`` that ``metrics`` names, of one result (1, 3, H, W) in [0, 1].

    Each under its own rule, whatever the protocol: LPIPS on the whole RGB images, NIQE and Ma
    on luma without 4 pixels on each side, all rounded to uint8. ``folder`` holds their weights.
    Without a weight file, or for an image that is too small, the reason stands in the number's
    place. Raises CheckpointError for a damaged file.
    """
    values: dict[str, Tensor] = {}
    unavailable: dict[str, str] = {}
    # Ma comes before NIQE: without its forests, PI need not wait for NIQE.
    for metric in ("lpips", "ma", "niqe"):
        for_index = "pi" in metrics and metric != "lpips" and not unavailable.get("ma")
        if metric not in metrics and not for_index:
            continue
        try:
            values[metric] = _measure(metric, sr, hr, folder=folder)
        except UnavailableError as error:
            unavailable[metric] = str(error)
    if "pi" in metrics and {"ma", "niqe"} <= values.keys():
        values["pi"] = perceptual_index(ma=values["ma"], niqe=values["niqe"])
    elif "pi" in metrics:
        reasons = " ".join(unavailable[m] for m in ("ma", "niqe") if m in unavailable)
        unavailable["pi"] = f"PI is made of Ma and NIQE. {reasons}"
    asked = [metric for metric in PERCEPTUAL if metric in metrics]
    return Perceptual(
        values={metric: values[metric].item() for metric in asked if metric in values},
        unavailable={metric: unavailable[metric] for metric in asked if metric in unavailable},
    )


def _measure(metric: str, sr: Tensor, hr: Tensor, *, folder: str | Path | None) -> Tensor:
    if metric == "ma":
        return ma(sr, folder=folder)
    if metric == "niqe":
        return niqe(sr, folder=folder)
    height, width = sr.shape[-2:]
    if min(height, width) < SMALLEST_LPIPS:
        raise UnavailableError(
            f"LPIPS needs {SMALLEST_LPIPS} pixels a side; this image has {height}x{width}."
        )
    return lpips(sr, hr, folder=folder)
