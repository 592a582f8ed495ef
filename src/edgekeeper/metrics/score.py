"""Scores: the numbers of one image with their conditions, and their means over a set."""

import json
import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from edgekeeper.errors import DataError, InputError, check_choice
from edgekeeper.files import parse_json, read_text, reading, write_text
from edgekeeper.metrics.perceptual import PERCEPTUAL, measure_perceptual
from edgekeeper.metrics.protocol import Protocol, converted_once
from edgekeeper.metrics.psnr import psnr
from edgekeeper.metrics.ssim import ssim
from edgekeeper.metrics.structure import compare_variances, gmsd, gradient_psnr

Best = Literal["highest", "lowest", "nearest 1"]

METRICS: dict[str, Best] = {
    "psnr": "highest",
    "ssim": "highest",
    "gradient_psnr": "highest",
    "gv_ratio": "nearest 1",
    "gv_gap": "lowest",
    "gmsd": "lowest",
}
"""The numbers that every score has, and which of them are good ones."""

# These and the perceptual ones, which a score has when they were asked for
ALL_METRICS: dict[str, Best] = {**METRICS, **PERCEPTUAL}
# And the structure risk, which is measured beside a score: it needs the LR image
COMPARED: dict[str, Best] = {**ALL_METRICS, "risk": "lowest"}


@dataclass(frozen=True, kw_only=True)
class Score:
    """The numbers of one image, and the conditions they were measured under.

    psnr, gradient_psnr: dB, inf for equal images. gv_ratio, gv_gap: mean of the x and y direction,
    which follow. lr_kernel: a name of data.degrade, "unknown" for a folder of results. The
    perceptual ones follow their own rules and are None unless asked for and available. unavailable:
    those asked for without a number, each with the reason.
    """

    set: str
    image: str
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
    lpips: float | None = None
    niqe: float | None = None
    niqe_rgb2gray: float | None = None
    niqe_stored: float | None = None
    ma: float | None = None
    pi: float | None = None
    dists: float | None = None
    fsim: float | None = None
    unavailable: tuple[tuple[str, str], ...] = ()

    def value(self, metric: str) -> float | None:
        """Return the number of that name; None where it was not asked for or is unavailable."""
        found: float | None = getattr(self, metric)
        return found

    @property
    def asked(self) -> tuple[str, ...]:
        """The perceptual metrics that were asked for."""
        missing = dict(self.unavailable)
        return tuple(m for m in PERCEPTUAL if m in missing or self.value(m) is not None)

    def to_json(self) -> str:
        """One line of JSON; the protocol by name and in full, infinity as the string "inf".

        Perceptual metrics are there when asked for: null, with a reason, where there is no number.
        """
        left_out = {*PERCEPTUAL, "unavailable"} - {*self.asked}
        record: dict[str, Any] = {
            key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
            if key not in left_out
        }
        if self.unavailable:
            record["unavailable"] = dict(self.unavailable)
        record["protocol"] = self.protocol.name
        record["protocol_in_full"] = self.protocol.to_json()
        return json.dumps(record, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str) -> "Score":
        """The score written by ``to_json``; DataError when it is damaged or has other fields."""
        try:
            record = dict(parse_json(line))
        except (ValueError, TypeError) as error:
            raise DataError(f"A score must be a JSON object in a line: {error}.") from error
        protocol = record.pop("protocol_in_full", {})
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        known = {field.name for field in fields(cls)}
        odd = (needed - record.keys()) | (record.keys() - known)
        unavailable = record.pop("unavailable", {})
        if odd:
            wrong = ", ".join(sorted(odd))
            raise DataError(f"A score lacks, or has too much of, the fields {wrong}.")
        if not isinstance(unavailable, dict):
            raise DataError("The field 'unavailable' of a score is an object of reasons by metric.")
        numbers = {key: float(record[key]) for key in needed if _is_number(key)}
        numbers |= {key: float(record[key]) for key in PERCEPTUAL if record.get(key) is not None}
        return cls(
            **{**record, **numbers, "protocol": Protocol.from_json(protocol)},
            unavailable=tuple(unavailable.items()),
        )


@dataclass(frozen=True, kw_only=True)
class SetMean:
    """Means over the images of one set, for one model, scale and protocol: a row of a table.

    counted: how many of the ``images`` entered the mean of each perceptual metric that was asked
    for. notes: a sentence on each of these that some image lacks, with the reason.
    """

    set: str
    scale: int
    model: str
    protocol: Protocol
    lr_kernel: str
    images: int
    means: dict[str, float]
    counted: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def score_image(
    sr: Tensor,
    hr: Tensor,
    *,
    set_name: str,
    image: str,
    scale: int,
    model: str,
    protocol: Protocol,
    lr_kernel: str,
    metrics: Collection[str] = (),
    weights: str | Path | None = None,
) -> Score:
    """Return the score of a result (1, 3, H, W) in [0, 1] against its HR. Raises DataError."""
    if sr.shape != hr.shape:
        raise DataError(
            f"{set_name} '{image}': the result of {model} is {_size(sr)}, the HR image "
            f"(cropped to a multiple of {scale}) is {_size(hr)}. Both must be equal."
        )
    with converted_once():
        variances = compare_variances(sr, hr, protocol=protocol, scale=scale)
        seen = measure_perceptual(sr, hr, metrics=metrics, folder=weights)
        return Score(
            set=set_name,
            image=image,
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
            **seen.values,
            unavailable=tuple(seen.unavailable.items()),
        )


def find_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names in lower case, each once; InputError with the nearest one for an unknown."""
    found = tuple(dict.fromkeys(name.lower() for name in names))
    for name in found:
        check_choice("metric", name, known=ALL_METRICS)
    if not found:
        raise InputError(f"Name at least one metric: {', '.join(ALL_METRICS)}.")
    return found


def mean_scores(scores: Sequence[Score]) -> dict[str, float]:
    """Return the mean of each metric over ``scores``, which must share model, scale and protocol.

    The mean of a perceptual metric is over the images that have it. Raises InputError: they do not.
    """
    conditions = {(score.model, score.scale, score.protocol) for score in scores}
    if len(conditions) != 1:
        raise InputError(
            f"A mean is of one model, scale and protocol; {len(conditions)} combinations came."
        )
    means = {}
    for metric in ALL_METRICS:
        numbers = [value for score in scores if (value := score.value(metric)) is not None]
        if numbers:
            means[metric] = math.fsum(numbers) / len(numbers)
    return means


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
            images=len(group),
            means=mean_scores(group),
            counted={
                metric: sum(score.value(metric) is not None for score in group)
                for metric in _asked(group)
            },
            notes=tuple(note for metric in _asked(group) for note in _lacking(metric, group)),
        )
        for group in groups.values()
    ]


def _asked(scores: Sequence[Score]) -> tuple[str, ...]:
    return tuple(metric for metric in PERCEPTUAL if any(metric in score.asked for score in scores))


def _lacking(metric: str, scores: Sequence[Score]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    for score in scores:
        reason = dict(score.unavailable).get(metric)
        if reason is not None:
            by_reason.setdefault(reason, []).append(score.image)
    title = "Ma" if metric == "ma" else metric.upper()
    notes = []
    for reason, names in by_reason.items():
        shown = ", ".join(f"'{name}'" for name in names[:4]) + " and others" * (len(names) > 4)
        of = f"{len(names)} of {len(scores)} images ({shown})"
        images = "every image" if len(names) == len(scores) else of
        notes.append(f"{scores[0].set}: {title} is unavailable for {images}. {reason}")
    return notes


def write_scores(scores: Iterable[Score], path: str | Path) -> None:
    """Write one line of JSON per score to ``path``, whole or not at all."""
    write_text(path, "".join(f"{score.to_json()}\n" for score in scores), error=DataError)


def read_scores(path: str | Path) -> list[Score]:
    """Return the scores in a file of ``write_scores``; DataError when it is missing or damaged."""
    with reading(path, error=DataError, what="The scores "):
        lines = read_text(path).removesuffix("\n").split("\n")  # a name may hold other ends
    scores = []
    for number, line in enumerate(lines, start=1):
        try:
            scores.append(Score.from_json(line))
        except (DataError, InputError) as error:
            raise DataError(f"In line {number} of '{path}': {error}") from error
    return scores


def _is_number(key: str) -> bool:
    return key in METRICS or key.startswith(("gv_ratio_", "gv_gap_"))


def _size(image: Tensor) -> str:
    return f"{image.shape[-1]}x{image.shape[-2]}"
