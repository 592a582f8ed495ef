"""What there is to say about networks or folders of results, on one HTML page.

Scores with intervals against the first one, gradient variance by region, spectra, the worst and
typical places with what the input does not support, cost, and cards.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from markupsafe import Markup
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import max_pool2d

from edgekeeper.errors import InputError, UnavailableError
from edgekeeper.evaluation.compare import by_set, compared_title, direction, metric_row
from edgekeeper.evaluation.cost import TABLE5_SIZE, count, measure
from edgekeeper.evaluation.evaluate import results, score_result
from edgekeeper.evaluation.html import curves, html_page, scatter
from edgekeeper.evaluation.inspect import DOUBTFUL, inspect, overlay
from edgekeeper.evaluation.tables import DIGITS, SIGNS, Table, number, score_table, with_interval
from edgekeeper.image import Pixels, from_tensor
from edgekeeper.metrics.protocol import Protocol
from edgekeeper.metrics.score import METRICS, Score, summarise
from edgekeeper.metrics.structure import REGION_PATCH, REGIONS, variances_by_region
from edgekeeper.models import SRModel
from edgekeeper.ops.box import Box
from edgekeeper.ops.color import rgb_to_grey_gv
from edgekeeper.pretrained.cards import training_lines
from edgekeeper.pretrained.zoo import load, networks

REACH = 8  # pixels on either side of an edge
_EDGES = 64  # of an image and direction, the strongest
_APART = 9  # pixels within which the strongest stands for all
_LEAST = 16 / 255  # grey levels from one side of an edge to the other
_BANDS = 24
_SIDE = 128  # pixels of a crop
_SHOWN = 3  # images of each kind

_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ReportSubject:
    """What is reported on: a network, "bicubic" or a folder; its name, and its card if any."""

    name: str
    subject: SRModel | str | Path
    card: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One image: the place where the last subject's edges are least supported, of all subjects."""

    image: str
    risk: float
    psnr: float
    hr: Pixels
    sr: tuple[Pixels, ...]
    overlay: Pixels


@dataclass
class _Sums:
    variance: _Floats = field(default_factory=lambda: np.zeros((3, 3)))  # region x (SR, HR, |gap|)
    power: _Floats = field(default_factory=lambda: np.zeros((2, _BANDS)))  # of SR, of HR
    profile: _Floats = field(default_factory=lambda: np.zeros(2 * REACH + 1))


def network_report(
    subjects: Sequence[ReportSubject],
    *,
    sets: Sequence[str | Path],
    scale: int,
    data_root: str | Path,
    protocol: Protocol,
    metrics: Sequence[str] = tuple(METRICS),
    weights: str | Path | None = None,
    on_image: Callable[[Score], None] | None = None,
) -> tuple[str, list[Table]]:
    """Return the page on ``subjects``, the first of which is what the others are held against.

    The tables of the page come beside it. Arguments and errors are those of ``evaluate``.
    """
    names = [one.name for one in subjects]
    runs = [
        results(
            one.subject,
            sets=sets,
            scale=scale,
            data_root=data_root,
            protocol=protocol,
            model_name=one.name,
        )
        for one in subjects
    ]
    scores: list[list[Score]] = [[] for _ in subjects]
    sums = [_Sums() for _ in subjects]
    places: list[_Place] = []
    original, edges = np.zeros(2 * REACH + 1), 0
    for made in zip(*runs, strict=True):  # one image of each is held at a time
        hr, lr = made[0].pair.hr(), made[0].pair.lr()
        for result, kept, total in zip(made, scores, sums, strict=True):
            kept.append(score_result(result, hr, metrics=metrics, weights=weights))
            _add(total, result.image, hr)
            if on_image is not None:
                on_image(kept[-1])
        grey = [rgb_to_grey_gv(x.clamp(0, 1)) for x in (hr, *(one.image for one in made))]
        profiles, count_of_edges = edge_profiles(grey[0], grey[1:])
        original, edges = original + profiles[0], edges + count_of_edges
        for total, profile in zip(sums, profiles[1:], strict=True):
            total.profile += profile
        place = _place([result.image for result in made], hr, lr, scores[-1][-1])
        places += [place] if place is not None else []
    tables = [
        score_table(
            summarise(score for one in scores for score in one),
            title=f"{', '.join(names)} ×{scale}",
            metrics=metrics,
        ),
        *(_differences(scores[0], other, metrics) for other in scores[1:]),
        _regions(names, sums),
        _costs(subjects),
    ]
    lines = {one.name: total.profile for one, total in zip(subjects, sums, strict=True)}
    across = {name: list(line / max(1, edges)) for name, line in lines.items()}
    across["original"] = list(original / max(1, edges))
    reach = f"{REACH} pixels before to {REACH} behind the edge"
    more: dict[str, object] = {
        "across": curves(across, x=reach, y="grey", top=1.2, bottom=-0.2),
        "standing": _standing(subjects, scores, scale=scale),
        "measured": scores[0][0],
    }
    page = _page(subjects, tables, places, sums, more)
    return page, [table for table in tables if table.cells]  # of folders no cost


def _standing(
    subjects: Sequence[ReportSubject], scores: Sequence[Sequence[Score]], *, scale: int
) -> Markup | None:
    """Return where networks stand on PSNR over MACs, beside those that ship, on the first set."""
    first = scores[0][0]
    points: dict[str, tuple[float, float]] = {}
    for known in networks():
        rows = known.card.get("results", [])
        assert isinstance(rows, list)
        for row in rows:
            if (
                (row["set"], row["protocol"]) == (first.set, first.protocol.name)
                and known.scale == scale
                and isinstance(row.get("psnr"), float)
            ):
                points[known.name] = (count(load(known.name)).macs_per_pixel, row["psnr"])
    for one, kept in zip(subjects, scores, strict=True):
        values = [score.psnr for score in kept if score.set == first.set]
        if isinstance(one.subject, SRModel) and np.isfinite(values).all():
            try:
                macs = count(one.subject).macs_per_pixel
            except UnavailableError:
                continue
            points[one.name] = (macs, float(np.mean(values)))
    marked = [one.name for one in subjects if one.name in points]
    if not marked:
        return None
    x, y = "multiply-accumulates per LR pixel", "PSNR in dB"
    return scatter(points, marked=marked, x=x, y=y)


def _page(
    subjects: Sequence[ReportSubject],
    tables: Sequence[Table],
    places: Sequence[_Place],
    sums: Sequence[_Sums],
    more: dict[str, object],
) -> str:
    scores, *differences, regions, costs = tables
    spectra = {
        one.name: list(total.power[0] / np.maximum(total.power[1], 1e-12))
        for one, total in zip(subjects, sums, strict=True)
    }
    top = 2.0 if max(map(max, spectra.values())) > 1.25 else 1.25
    cards = [
        (
            one.name,
            "\n".join(line.strip() for line in training_lines(one.card)),
            json.dumps(one.card, indent=1, ensure_ascii=False),
        )
        for one in subjects
        if one.card
    ]
    worst = sorted(places, key=lambda place: -place.risk)
    inventing = [place for place in worst if place.risk >= DOUBTFUL]
    middle = max(len(inventing[:_SHOWN]), (len(worst) - _SHOWN) // 2)  # none is shown twice
    drawn = {
        "names": [one.name for one in subjects],
        "last": subjects[-1].name,
        "scores": scores,
        "differences": differences,
        "regions": regions,
        "costs": costs,
        "spectrum": curves(spectra, x="0 to 0.5 cycles per pixel", y="power ratio", top=top),
        "inventing": inventing[:_SHOWN],
        "clean": len(worst) - len(inventing),
        "places": len(worst),
        "threshold": DOUBTFUL,
        "typical": worst[middle : middle + _SHOWN],
        "cards": cards,
    }
    return html_page("report.html", drawn | more)


# ---- One image -----------------------------------------------------------------------------------


def _place(made: Sequence[Tensor], hr: Tensor, lr: Tensor, score: Score) -> _Place | None:
    """Return the place of the last result that is least supported; None for a tiny image."""
    try:
        found = inspect(lr, made[-1], scale=score.scale)
    except InputError:  # below 8 x 8
        return None
    height, width = (min(_SIDE, n) for n in hr.shape[-2:])
    top = left = 0
    if found.worst is not None:
        top = found.worst.top + found.worst.height // 2 - height // 2
        left = found.worst.left + found.worst.width // 2 - width // 2
    top, left = min(max(0, top), hr.shape[-2] - height), min(max(0, left), hr.shape[-1] - width)
    box = Box(top, left, height, width)

    def cut(image: Tensor) -> Pixels:
        return from_tensor(box.cut(image).float())

    return _Place(
        image=score.image,
        risk=found.risk,
        psnr=score.psnr,
        hr=cut(hr),
        sr=tuple(cut(image) for image in made),
        overlay=cut(overlay(found, made[-1])),
    )


def _add(total: _Sums, sr: Tensor, hr: Tensor) -> None:
    """Add an image's gradient variances by region, and its power by frequency."""
    total.variance += variances_by_region(sr, hr).numpy()
    first, second = (rgb_to_grey_gv(x.clamp(0, 1)).double() for x in (sr, hr))  # (1, 1, H, W)
    for row, grey in enumerate((first, second)):
        total.power[row] += _power(grey[0, 0].numpy())


def _power(grey: _Floats) -> _Floats:
    """Return the mean power in rings of equal width from 0 to 0.5 cycles per pixel."""
    height, width = grey.shape
    window = np.hanning(height)[:, None] * np.hanning(width)
    # (H, W // 2 + 1): the other half is its mirror image
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    band = np.minimum((radius * 2 * _BANDS).astype(int), _BANDS).ravel()
    sums = np.bincount(band, power.ravel(), _BANDS + 1)
    return (sums / np.maximum(1, np.bincount(band, minlength=_BANDS + 1)))[:_BANDS]


# ---- Tables --------------------------------------------------------------------------------------


def _differences(base: Sequence[Score], other: Sequence[Score], metrics: Sequence[str]) -> Table:
    """Return how another subject differs from the first, set by set, paired by image."""
    cells = []
    for name, pairs in by_set(zip(base, other, strict=True)).items():
        for metric in metrics:
            row = metric_row(pairs, metric=metric, label=name)
            if row.images < 2:
                continue
            title = f"{compared_title(metric)} {SIGNS[direction(metric)]}"
            cell = with_interval(row.difference, digits=DIGITS[metric], sign="always")
            cells.append((name, title, str(row.images), cell, row.verdict))
    columns = ("set", "metric", ">images", ">difference [95 %]", "it is")
    return Table(f"{other[0].model} against {base[0].model}", columns, tuple(cells), keys=2)


def _regions(names: Sequence[str], sums: Sequence[_Sums]) -> Table:
    share = sums[0].variance[:, 1] / max(sums[0].variance[:, 1].sum(), 1e-12)
    columns = [f">{what}, {region}" for region in REGIONS for what in ("ratio", "gap")]
    cells = []
    for name, total in zip(names, sums, strict=True):
        row = [name]
        for sr, hr, gap in total.variance:
            row += [
                number(sr / hr if hr else None, digits=3),
                number(gap / hr if hr else None, digits=3),
            ]
        cells.append(tuple(row))
    shares = ", ".join(f"{region} {part:.0%}" for region, part in zip(REGIONS, share, strict=True))
    note = (
        f"Patches of {REGION_PATCH} pixels; of the originals' variance: {shares}. Flat: mean "
        "squared Sobel gradient below 16 levels² of 255; edges: coherence of the structure tensor "
        "0.5 or more."
    )
    return Table("", ("network", *columns), tuple(cells), (note,))


def _costs(subjects: Sequence[ReportSubject]) -> Table:
    cells = []
    for one in subjects:
        if not isinstance(one.subject, SRModel):
            continue
        taken = measure(one.subject, repeats=3)
        try:
            counted = count(one.subject)
            row = (f"{counted.parameters:,}", f"{counted.macs_per_pixel:,.0f}")
        except UnavailableError:
            row = ("–", "–")
        peak = "–" if taken.peak_bytes is None else f"{taken.peak_bytes / 1e6:.0f}"
        cells.append((one.name, *row, f"{taken.seconds:.3f}", peak))
    columns = ("network", ">parameters", ">MACs per LR pixel", ">seconds", ">peak MB")
    size = f"{TABLE5_SIZE[1]} × {TABLE5_SIZE[0]}"
    note = f"Seconds and memory: this machine, float32, {size} LR pixels."
    return Table("", columns, tuple(cells), (note,))


# ---- Profiles across edges -----------------------------------------------------------------------


def edge_profiles(hr: Tensor, images: list[Tensor]) -> tuple[_Floats, int]:
    """Return sums of profiles (1 + images, 2 REACH + 1) across edges of ``hr``, and their number.

    All are grey (1, 1, H, W) of one size; the first profile is the original's. Each edge rises
    from 0 to 1, the least and the greatest value of the original's profile; below 0 and above 1 is
    overshoot. Lines run across or down, where the gradient is strongest.
    """
    total, number = np.zeros((1 + len(images), 2 * REACH + 1)), 0
    both = torch.cat([hr, *images]).double()[:, 0]  # (1 + images, H, W)
    for stack in (both, both.transpose(1, 2)):
        if min(stack.shape[1:]) < 2 * REACH + 3:
            continue
        slope = torch.zeros_like(stack[0])  # (H, W): central differences along rows
        slope[:, REACH:-REACH] = (stack[0, :, 2:] - stack[0, :, :-2])[:, REACH - 1 : 1 - REACH]
        size = slope.abs()[None, None]
        peaks = torch.where(max_pool2d(size, _APART, 1, _APART // 2) == size, size, 0.0)[0, 0]
        for place in peaks.flatten().topk(min(_EDGES, peaks.numel())).indices.tolist():
            row, column = divmod(place, peaks.shape[1])
            if not peaks[row, column]:
                break
            lines = stack[:, row, column - REACH : column + REACH + 1]
            low, high = lines[0].min(), lines[0].max()
            if high - low < _LEAST:
                break
            scaled = ((lines - low) / (high - low)).numpy()
            total += scaled if slope[row, column] > 0 else scaled[:, ::-1]
            number += 1
    return total, number
