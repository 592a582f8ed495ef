"""Ma's score of SR images without an original, and the perceptual index made of it and NIQE.

Ma, Yang, Yang, Yang, "Learning a No-Reference Quality Metric for Single-Image Super-Resolution",
Computer Vision and Image Understanding 158, 2017. Blau et al., "The 2018 PIRM Challenge on
Perceptual Image Super-Resolution", ECCV workshops 2018.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from edgekeeper.errors import CheckpointError, UnavailableError
from edgekeeper.metrics.ma_features import (
    band_features,
    frequency_features,
    pyramid,
    singular_values,
)
from edgekeeper.metrics.matfile import MatValue, read_mat
from edgekeeper.metrics.niqe import niqe, shaved_luma
from edgekeeper.models.backbones import weights_file

MA_FILE = "model.mat"
_SMALLEST = 100  # pixels a side after shaving: 25 patches of 5 x 5 at the third scale

_N = TypeVar("_N", float, Tensor)
_LEAF = -1  # the status of a node without children


def ma(x: Tensor, *, shave: int = 4, folder: str | Path | None = None) -> Tensor:
    """Ma's score of each image, (B,) float64; about 3 (blurred) to 9 (sharp), higher is better.

    Luma rounded to uint8 and ``shave`` pixels left out on each side, as for NIQE. Three random
    forests judge local frequency, wavelets and singular values; the score is a linear function of
    their answers. x: RGB (B, 3, H, W) in [0, 1]. folder: where the authors' ``model.mat`` lies; by
    default the folder ``weights`` of EDGEKEEPER_DATA. Raises UnavailableError without that file and
    for images below 100 pixels a side after shaving.
    """
    # First of all: without the forests there is nothing to be had.
    file = weights_file(MA_FILE, folder=folder, purpose="Ma's score", how="put it there")
    forests, linear = _forests(file.resolve())
    luma = shaved_luma(x, shave=shave)
    return torch.stack([_score(image.cpu(), forests, linear) for image in luma]).to(x.device)


def pi(x: Tensor, *, shave: int = 4, folder: str | Path | None = None) -> Tensor:
    """Return the perceptual index of each image, ((10 - Ma) + NIQE) / 2, (B,); low is good."""
    return perceptual_index(
        ma=ma(x, shave=shave, folder=folder), niqe=niqe(x, shave=shave, folder=folder)
    )


def perceptual_index(*, ma: _N, niqe: _N) -> _N:
    """((10 - Ma) + NIQE) / 2, of numbers that are at hand."""
    return (10 - ma + niqe) / 2


def ma_features(luma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three groups of features of luma (H, W) in 0..255: (18,), (45,), (75,) float64."""
    scales = pyramid(luma.double() / 255)
    return (
        torch.cat([frequency_features(scale) for scale in scales]),
        band_features(luma),
        torch.cat([singular_values(scale) for scale in scales]),
    )


@dataclass(frozen=True)
class Forest:
    """Regression trees as arrays (nodes, trees); nodes and features are counted from 0."""

    left: Tensor  # the next node where feature <= threshold
    right: Tensor
    leaf: Tensor  # where a tree ends
    feature: Tensor
    threshold: Tensor
    value: Tensor  # the answer of a leaf

    def predict(self, features: Tensor) -> Tensor:
        """Return the mean answer of all trees for ``features`` (F,), a scalar."""
        trees = torch.arange(self.left.shape[1])
        node = torch.zeros_like(trees)
        for _ in range(len(self.left)):  # no way down is longer
            leaf = self.leaf[node, trees]
            if bool(leaf.all()):
                break
            below = features[self.feature[node, trees]] <= self.threshold[node, trees]
            onward = torch.where(below, self.left[node, trees], self.right[node, trees])
            node = torch.where(leaf, node, onward)
        return self.value[node, trees].mean()


@lru_cache(maxsize=1)
def _forests(path: Path) -> tuple[list[Forest], Tensor]:
    """Return the forests of ``model.mat``, and (4,) a constant and the weight of each."""
    model = read_mat(path).get("model")
    found = model if isinstance(model, dict) else {}
    trees, linear = found.get("rf"), found.get("linear")
    if not (isinstance(trees, list) and len(trees) == 3 and isinstance(linear, np.ndarray)):
        raise CheckpointError(f"'{path}' is no model of Ma's score: three forests and 'linear'.")
    if linear.size != 4:
        raise CheckpointError(f"'{path}': 'linear' has {linear.size} numbers, not 4.")
    pairs = zip(trees, (18, 45, 75), strict=True)
    forests = [_forest(tree, features=size, origin=path) for tree, size in pairs]
    return forests, torch.from_numpy(linear.reshape(-1).astype("f8"))


def _forest(stored: MatValue, *, features: int, origin: Path) -> Forest:
    """One forest; MATLAB counts nodes and features from 1."""
    if not isinstance(stored, Mapping):
        raise CheckpointError(f"'{origin}': a forest must be a struct.")
    found: dict[str, Tensor] = {}
    for name in ("lDau", "rDau", "nodestatus", "upper", "avnode", "mbest"):
        array = stored.get(name)
        if not isinstance(array, np.ndarray):
            raise CheckpointError(f"'{origin}': a forest lacks the array '{name}'.")
        found[name] = torch.from_numpy(array.astype("f8"))
    if len({tensor.shape for tensor in found.values()}) != 1 or found["lDau"].ndim != 2:
        raise CheckpointError(f"'{origin}': the arrays of a forest differ in shape.")
    leaf = found["nodestatus"] == _LEAF
    nodes = {name: found[name].long() - 1 for name in ("lDau", "rDau", "mbest")}
    for name, count in (("lDau", len(leaf)), ("rDau", len(leaf)), ("mbest", features)):
        inside = (nodes[name] >= 0) & (nodes[name] < count)
        # Places that no tree uses are zero, and neither they nor leaves lead anywhere.
        if not bool((inside | leaf | (found["nodestatus"] == 0)).all()):
            raise CheckpointError(f"'{origin}': '{name}' of a forest points beyond 1..{count}.")
    return Forest(
        left=nodes["lDau"],
        right=nodes["rDau"],
        leaf=leaf,
        feature=nodes["mbest"].clamp(0, features - 1),
        threshold=found["upper"],
        value=found["avnode"],
    )


def _score(luma: Tensor, forests: Sequence[Forest], linear: Tensor) -> Tensor:
    height, width = luma.shape
    if min(height, width) < _SMALLEST:
        raise UnavailableError(
            f"Ma's score needs {_SMALLEST} pixels a side after shaving; this image has "
            f"{height}x{width}."
        )
    pairs = zip(forests, ma_features(luma), strict=True)
    answers = [forest.predict(features) for forest, features in pairs]
    return torch.stack([torch.ones((), dtype=torch.float64), *answers]) @ linear
