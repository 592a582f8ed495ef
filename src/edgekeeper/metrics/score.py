"""Scores: the numbers of one picture with their conditions, and their means over a set."""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from edgekeeper.errors import DataError, InputError
from edgekeeper.metrics.protocol import Protocol
from edgekeeper.metrics.psnr import psnr
from edgekeeper.metrics.ssim import ssim
from edgekeeper.metrics.structure import compare_variances, gmsd, gradient_psnr

METRICS: dict[str, Literal["highest", "lowest", "nearest 1"]] = {
    "psnr": "highest",
    "ssim": "highest",
    "gradient_psnr": "highest",
    "gv_ratio": "nearest 1",
    "gv_gap": "lowest",
    "gmsd": "lowest",
}
"""The numbers of a score, and which of them are good ones."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """The numbers of one picture, and the conditions they were measured under.

    psnr, gradient_psnr: dB, inf for equal pictures. gv_ratio, gv_gap: mean of the x and y
    direction, which follow under their own names. lr_kernel: how the LR picture was made
    (the names of data.degrade), "unknown" for a folder of results.
    """

    set: str
    picture: str
    scale: int
    model: str
    protocol: Protocol
    lr_kernel: str
    psnr: float
    ssim: float
    gradient_psnr: float
    gv_ratio: float
    gv_gap: float
    gmsd: float
    gv_ratio_x: float
    gv_ratio_y: float
    gv_gap_x: float
    gv_gap_y: float

    def to_json(self) -> str:
        """One line of JSON; the protocol by name and in full, infinity as the string "inf"."""
        record = {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
        record["protocol"] = self.protocol.name
        record["protocol_in_full"] = self.protocol.to_json()
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "Score":
        """The score written by ``to_json``; DataError when it is damaged or has other fields."""
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"A score must be a line of JSON: {error}.") from error
        if not isinstance(record, dict):
            raise DataError("A score must be a JSON object.")
        protocol = record.pop("protocol_in_full", {})
        expected = {field.name for field in fields(cls)}
        if record.keys() != expected:
            odd = ", ".join(sorted(record.keys() ^ expected))
            raise DataError(f"A score lacks, or has too much of, the fields {odd}.")
        numbers = {key: float(record[key]) for key in expected if _is_number(key)}
        return cls(**{**record, **numbers, "protocol": Protocol.from_json(protocol)})


@dataclass(frozen=True, kw_only=True)
class SetMean:
    """Means over the pictures of one set, for one model, scale and protocol: a row of a table."""

    set: str
    scale: int
    model: str
    protocol: Protocol
    lr_kernel: str
    pictures: int
    means: dict[str, float]


def score_picture(
    sr: Tensor,
    hr: Tensor,
    *,
    set_name: str,
    picture: str,
    scale: int,
    model: str,
    protocol: Protocol,
    lr_kernel: str,
) -> Score:
    """The score of one result (1, 3, H, W) against its HR picture, both in [0, 1].

    Raises DataError when the sizes differ.
    """
    if sr.shape != hr.shape:
        raise DataError(
            f"{set_name} '{picture}': the result of {model} is {_size(sr)}, the HR picture "
            f"(cropped to a multiple of {scale}) is {_size(hr)}. Both must be equal."
        )
    variances = compare_variances(sr, hr, protocol=protocol, scale=scale)
    return Score(
        set=set_name,
        picture=picture,
        scale=scale,
        model=model,
        protocol=protocol,
        lr_kernel=lr_kernel,
        psnr=psnr(sr, hr, protocol=protocol, scale=scale).item(),
        ssim=ssim(sr, hr, protocol=protocol, scale=scale).item(),
        gradient_psnr=gradient_psnr(sr, hr, protocol=protocol, scale=scale).item(),
        gv_ratio=variances.ratio.item(),
        gv_gap=variances.gap.item(),
        gmsd=gmsd(sr, hr, protocol=protocol, scale=scale).item(),
        gv_ratio_x=variances.ratio_x.item(),
        gv_ratio_y=variances.ratio_y.item(),
        gv_gap_x=variances.gap_x.item(),
        gv_gap_y=variances.gap_y.item(),
    )


def mean_scores(scores: Sequence[Score]) -> dict[str, float]:
    """The mean of each metric over ``scores``, which must share model, scale and protocol."""
    conditions = {(score.model, score.scale, score.protocol) for score in scores}
    if len(conditions) != 1:
        raise InputError(
            f"A mean is over the pictures of one model, scale and protocol; {len(conditions)} "
            "combinations were given. Use summarise for several."
        )
    return {
        metric: math.fsum(getattr(score, metric) for score in scores) / len(scores)
        for metric in METRICS
    }


def summarise(scores: Iterable[Score]) -> list[SetMean]:
    """A row of means for each set, scale, model, protocol and LR kernel, in order of coming up."""
    groups: dict[tuple[Any, ...], list[Score]] = {}
    for score in scores:
        key = (score.set, score.scale, score.model, score.protocol, score.lr_kernel)
        groups.setdefault(key, []).append(score)
    return [
        SetMean(
            set=group[0].set,
            scale=group[0].scale,
            model=group[0].model,
            protocol=group[0].protocol,
            lr_kernel=group[0].lr_kernel,
            pictures=len(group),
            means=mean_scores(group),
        )
        for group in groups.values()
    ]


def write_scores(scores: Iterable[Score], path: str | Path) -> None:
    """Nothing; writes one line of JSON per score to ``path``, whole or not at all."""
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text("".join(f"{s.to_json()}\n" for s in scores), encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"The scores cannot be written to '{target}': {error.strerror}.") from error


def read_scores(path: str | Path) -> list[Score]:
    """The scores in a file of ``write_scores``; DataError when it is missing or damaged."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"The scores '{path}' cannot be read: {error.strerror}.") from error
    scores = []
    for number, line in enumerate(lines, start=1):
        try:
            scores.append(Score.from_json(line))
        except (DataError, InputError) as error:
            raise DataError(f"In line {number} of '{path}': {error}") from error
    return scores


def _is_number(key: str) -> bool:
    return key in METRICS or key.startswith(("gv_ratio_", "gv_gap_"))


def _size(picture: Tensor) -> str:
    return f"{picture.shape[-1]}x{picture.shape[-2]}"
