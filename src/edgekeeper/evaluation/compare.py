"""Two networks, or two folders of results, compared image by image."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from numpy.typing import ArrayLike
from torch import Tensor

from edgekeeper.errors import DataError, InputError
from edgekeeper.evaluation.evaluate import PairResult, results, score_result
from edgekeeper.evaluation.tables import (
    DIGITS,
    NOTHING,
    SIGNS,
    TITLES,
    Table,
    as_json,
    number,
    plain_row,
    with_interval,
)
from edgekeeper.files import write_text
from edgekeeper.metrics.protocol import Protocol, compared, find_protocol
from edgekeeper.metrics.score import COMPARED, METRICS, Score, find_metrics, summarise
from edgekeeper.metrics.statistics import Difference, DifferenceVerdict, paired_difference, wilcoxon
from edgekeeper.models import SRModel
from edgekeeper.ops.box import Box

_Subject = SRModel | str | Path


@dataclass(frozen=True, kw_only=True)
class MetricRow:
    """How ``b`` differs from ``a`` in one metric on one set; None where images are too few."""

    set: str
    metric: str  # "gv_ratio_error" is |gv_ratio - 1|
    images: int  # that entered
    a: float | None  # their means
    b: float | None
    difference: Difference | None  # of b - a, paired by image
    p: float | None  # of Wilcoxon's signed-rank test, two-sided
    better: int  # on how many images b is
    worse: int

    @property
    def verdict(self) -> DifferenceVerdict:
        """Whether ``b`` is "better" or "worse", as far as that can be said."""
        return self.difference.verdict if self.difference else "too few images"


@dataclass(frozen=True, kw_only=True)
class WorstPlace:
    """A square in which ``b`` is worse than ``a``; PSNR in dB under the protocol."""

    set: str
    image: str
    box: Box
    excess: float  # of b's mean squared error, for values in [0, 1]
    psnr_a: float
    psnr_b: float
    crops: tuple[Tensor, Tensor, Tensor]  # of a, b and the original, each (1, 3, h, w)


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """What ``compare`` found: a row a set and metric, all scores, the worst places, notes."""

    a: str
    b: str
    scale: int
    protocol: Protocol
    metrics: tuple[str, ...]
    scores: tuple[tuple[Score, Score], ...]
    rows: tuple[MetricRow, ...]
    places: tuple[WorstPlace, ...]
    notes: tuple[str, ...]


def compare(
    a: _Subject,
    b: _Subject,
    *,
    sets: Sequence[str | Path],
    scale: int,
    data_root: str | Path,
    protocol: str | Protocol = "y_matlab",
    metrics: Sequence[str] = tuple(METRICS),
    weights: str | Path | None = None,
    names: tuple[str, str] | None = None,
    places: int = 6,
    on_image: Callable[[Score, Score], None] | None = None,
) -> PairedComparison:
    """Return how ``b`` differs from ``a`` on every image of ``sets``; each as in ``evaluate``.

    metrics: which differences are wanted, in this order. names: what a and b are called. places:
    how many of the worst regressions to keep, one an image. on_image: called after each image with
    both scores. Raises InputError, and what ``evaluate`` raises.
    """
    asked, chosen = find_metrics(metrics), find_protocol(protocol)
    if places < 0:
        raise InputError(f"'places' is {places}; it is a number of places, 0 or more.")
    results_a, results_b = (
        results(subject, sets=sets, scale=scale, data_root=data_root, protocol=chosen)
        for subject in (a, b)
    )
    scores: list[tuple[Score, Score]] = []
    worst: list[WorstPlace] = []
    for one, other in zip(results_a, results_b, strict=True):
        hr = one.pair.hr()
        both = (
            score_result(one, hr, metrics=asked, weights=weights),
            score_result(other, hr, metrics=asked, weights=weights),
        )
        scores.append(both)
        found = worst_place(one, other, hr=hr)
        if found is not None:
            worst = sorted([*worst, found], key=lambda place: -place.excess)[:places]
        if on_image is not None:
            on_image(*both)
    first, second = (score.model for score in scores[0])
    if names is None:
        names = (first, second) if first != second else (f"{first} (A)", f"{second} (B)")
    rows = tuple(
        metric_row(pairs, metric=metric, label=label)
        for label, pairs in by_set(scores).items()
        for metric in asked
    )
    return PairedComparison(
        a=names[0],
        b=names[1],
        scale=scale,
        protocol=chosen,
        metrics=asked,
        scores=tuple(scores),
        rows=rows,
        places=tuple(worst),
        notes=(*_left_out(scores, asked), *_few(rows)),
    )


def by_set(scores: Iterable[tuple[Score, Score]]) -> dict[str, list[tuple[Score, Score]]]:
    """Return the pairs of scores by the name of their set."""
    found: dict[str, list[tuple[Score, Score]]] = {}
    for both in scores:
        found.setdefault(both[0].set, []).append(both)
    return found


def row_name(metric: str) -> str:
    """The name of what is compared: of a ratio, which is good near 1, its distance from 1."""
    return "gv_ratio_error" if metric == "gv_ratio" else metric


def compared_title(metric: str) -> str:
    """Return the title of what is compared; see ``row_name``."""
    return "|GV ratio - 1|" if metric == "gv_ratio" else TITLES[metric]


def compared_value(score: Score, metric: str) -> float | None:
    """Return the number of that metric that is compared, or None where it is unavailable."""
    value = score.value(metric)
    return abs(value - 1) if metric == "gv_ratio" and value is not None else value


def difference_of(both: tuple[Score, Score], metric: str) -> float | None:
    """Value of b - value of a, or None where one of them is missing or infinite."""
    a, b = (compared_value(score, metric) for score in both)
    return None if a is None or b is None or not math.isfinite(b - a) else b - a


def direction(metric: str) -> Literal["highest", "lowest"]:
    """Return which of the compared numbers are good ones."""
    return "highest" if COMPARED[metric] == "highest" else "lowest"


def paired(a: ArrayLike, b: ArrayLike, *, metric: str, digits: int | None = None) -> Difference:
    """Return how much ``a`` is above ``b`` in a metric.

    A difference that is 0 in the digits of tables, or ``digits``, is not distinguishable.
    """
    found = paired_difference(a, b, best=direction(metric))
    half = 0.5 * 10.0 ** -(DIGITS[metric] if digits is None else digits)
    none = all(abs(end) < half for end in (found.low, found.high) if end is not None)
    return replace(found, verdict="not distinguishable") if none else found


def metric_row(scores: Sequence[tuple[Score, Score]], *, metric: str, label: str) -> MetricRow:
    """Return how the second scores differ from the first in a metric on the set ``label``.

    Images without the number, or with an infinite one, are left out.
    """
    kept = [both for both in scores if difference_of(both, metric) is not None]
    a, b = ([compared_value(both[k], metric) or 0.0 for both in kept] for k in (0, 1))
    differences = [y - x for x, y in zip(a, b, strict=True)]
    good = 1 if direction(metric) == "highest" else -1
    enough = len(kept) > 1
    difference = Difference(differences[0]) if kept else None
    if enough:
        difference = paired(b, a, metric=metric)
    return MetricRow(
        set=label,
        metric=row_name(metric),
        images=len(kept),
        a=math.fsum(a) / len(a) if kept else None,
        b=math.fsum(b) / len(b) if kept else None,
        difference=difference,
        p=wilcoxon(b, a).p if enough else None,
        better=sum(good * value > 0 for value in differences),
        worse=sum(good * value < 0 for value in differences),
    )


def _left_out(scores: Sequence[tuple[Score, Score]], metrics: Sequence[str]) -> list[str]:
    """Return a sentence for each reason why an image did not enter."""
    notes = [
        note for k in (0, 1) for mean in summarise(s[k] for s in scores) for note in mean.notes
    ]
    for label, pairs in by_set(scores).items():
        for metric in metrics:
            equal = [
                f"'{both[0].image}'"
                for both in pairs
                if any(math.isinf(compared_value(score, metric) or 0.0) for score in both)
            ]
            if equal:
                notes.append(
                    f"{label}: {TITLES[metric]} leaves out {', '.join(equal)}, where a result "
                    "equals the original and the number is infinite."
                )
    return list(dict.fromkeys(notes))


def _few(rows: Sequence[MetricRow]) -> list[str]:
    counts = {row.set: row.images for row in rows if 1 < row.images < 6}
    return [
        f"{label}: with {count} images p cannot be below {2 ** (1 - count):g}, and the interval "
        "is too narrow; compare on more."
        for label, count in counts.items()
    ]


# ---- Where one result is worse than the other: the square of an image that shows it most --------

_SIDE = 64  # pixels of the squares that are looked at

_STEP = 4  # pixels between two of them


def worst_place(a: PairResult, b: PairResult, *, hr: Tensor) -> WorstPlace | None:
    """Return the square in which b's squared error exceeds a's most, None where it nowhere does."""
    errors = []
    for result in (a, b):
        pair = compared(result.image, hr, protocol=a.protocol, scale=a.pair.scale, metric="psnr")
        errors.append((pair.sr - pair.hr).square().mean(dim=1, keepdim=True))  # (1, 1, H', W')
    side = min(_SIDE, *errors[0].shape[-2:])
    error_a, error_b = (F.avg_pool2d(error, side, stride=_STEP) for error in errors)
    excess = (error_b - error_a).flatten()  # (squares,)
    at = int(excess.argmax())
    if excess[at] <= 0:
        return None
    border = (hr.shape[-2] - errors[0].shape[-2]) // 2
    row, column = divmod(at, error_a.shape[-1])
    box = Box(_STEP * row + border, _STEP * column + border, side, side)
    one, other, original = (box.cut(x).clamp(0, 1).float() for x in (a.image, b.image, hr))
    return WorstPlace(
        set=a.set,
        image=a.pair.name,
        box=box,
        excess=float(excess[at]),
        psnr_a=_decibel(float(error_a.flatten()[at])),
        psnr_b=_decibel(float(error_b.flatten()[at])),
        crops=(one, other, original),
    )


def _decibel(error: float) -> float:
    return math.inf if error == 0 else -10 * math.log10(error)


# ---- A comparison as tables and as JSON ----------------------------------------------------------


def comparison_table(found: PairedComparison) -> Table:
    """Return the rows as a table: means, differences with interval, p, and on how many images."""
    columns = ("set", "metric", ">A", ">B", ">B - A [95 %]", ">p", ">B better, worse", "B is")
    note = (
        f"Protocol '{found.protocol.name}', ×{found.scale}. Interval: bootstrap, paired by "
        "image; p: Wilcoxon's signed-rank test. Undecided: the interval holds 0. Each row is "
        "judged by itself."
    )
    cells = tuple(_cells(row) for row in found.rows)
    return Table(f"A: {found.a}   B: {found.b}", columns, cells, (note, *found.notes), keys=2)


def _cells(row: MetricRow) -> tuple[str, ...]:
    metric = row.metric.removesuffix("_error")
    digits = DIGITS[metric]
    return (
        row.set,
        f"{compared_title(metric)} {SIGNS[direction(metric)]}",
        number(row.a, digits=digits),
        number(row.b, digits=digits),
        with_interval(row.difference, digits=digits, sign="always"),
        NOTHING if row.p is None else f"{row.p:.2g}",
        f"{row.better}, {row.worse} of {row.images}",
        "undecided" if row.verdict == "not distinguishable" else row.verdict,
    )


def worst_table(found: PairedComparison, *, images: int) -> Table:
    """Return the so many images on which ``b`` loses most in the first metric, all as b - a."""
    first = found.metrics[0]
    sign = 1 if direction(first) == "highest" else -1
    ranked = sorted(
        (both for both in found.scores if difference_of(both, first) is not None),
        key=lambda both: sign * (difference_of(both, first) or 0.0),
    )
    titles = map(compared_title, found.metrics)
    cells = tuple(
        (
            both[0].set,
            both[0].image,
            *(
                number(difference_of(both, metric), digits=DIGITS[metric], sign="always")
                for metric in found.metrics
            ),
        )
        for both in ranked[:images]
    )
    title = f"B - A, the worst images for B by {TITLES[first]} first"
    return Table(title, ("set", "image", *(f">{title}" for title in titles)), cells, keys=2)


def write_comparison(found: PairedComparison, path: str | Path) -> None:
    """Write rows, every image's values and the worst places as JSON, whole or not."""
    images = [
        {
            "set": a.set,
            "image": a.image,
            **{
                row_name(metric): {
                    "a": compared_value(a, metric),
                    "b": compared_value(b, metric),
                    "difference": difference_of((a, b), metric),
                }
                for metric in found.metrics
            },
        }
        for a, b in found.scores
    ]
    places = [
        {
            "set": place.set,
            "image": place.image,
            **asdict(place.box),
            "excess": place.excess,
            "psnr_a": place.psnr_a,
            "psnr_b": place.psnr_b,
        }
        for place in found.places
    ]
    content = {
        "a": found.a,
        "b": found.b,
        "scale": found.scale,
        "protocol": found.protocol.to_json(),
        "notes": found.notes,
        "images": images,
        "places": places,
        "rows": [plain_row(row) for row in found.rows],
    }
    write_text(path, as_json(content) + "\n", error=DataError)
