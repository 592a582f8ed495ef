"""A blind preference study: one HTML file for participants, one key for whoever analyses it."""

import base64
import json
import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyvips
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from edgekeeper.errors import DataError, InputError
from edgekeeper.evaluation.evaluate import results
from edgekeeper.evaluation.tables import TITLES, Table, with_interval
from edgekeeper.files import parse_json
from edgekeeper.image import from_tensor
from edgekeeper.metrics.perceptual import measure_perceptual
from edgekeeper.metrics.preference import (
    Answer,
    Rated,
    agreement,
    consistency,
    preference_rate,
    preference_scores,
    wilson_interval,
)
from edgekeeper.metrics.psnr import psnr
from edgekeeper.metrics.risk import structure_risk
from edgekeeper.metrics.statistics import Interval
from edgekeeper.models import SRModel
from edgekeeper.ops.box import Box
from edgekeeper.ops.resize import imresize

ORIGINAL, BICUBIC = "original", "bicubic"
"""What attention checks show: the original beside the interpolated image."""

Ask = Literal["pairs", "rankings"]
Crops = Literal["random", "differ"]

STUDY_MEASURES = {"psnr": 1, "lpips": -1, "risk": -1}
"""What answers are compared with, and whether more (1) or less (-1) of it is better."""

_REPEATED = 0.1  # share of the pairs that come twice, sides exchanged


def make_study(
    subjects: Mapping[str, SRModel | str | Path],
    *,
    sets: Sequence[str | Path],
    scale: int,
    data_root: str | Path,
    question: str = "Which do you prefer?",
    ask: Ask = "pairs",
    crops: Crops = "random",
    side: int = 192,
    checks: int = 3,
    seed: int = 0,
    weights: str | Path | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return the page that asks about every image, and the key to it.

    Asked is for all pairs of subjects or, of "rankings", for the order of all of them. Shown is a
    square of ``side`` pixels at a place drawn by ``seed``, or of "differ" where the results differ
    most. Each subject stands in each place equally often, and the page exchanges the sides for
    every second participant; one question in ten comes twice; ``checks`` pairs show the original
    beside bicubic. Nothing in the page names a subject or an image, and each part of the files of
    a question is as long. The key has PSNR, structure risk and, with its weights, LPIPS of what
    is shown.

    Raises:
        InputError: fewer than two subjects, more than nine to be ranked; those of ``evaluate``.
    """
    if len(subjects) < 2 or (ask == "rankings" and len(subjects) > 9):
        raise InputError("A study compares two subjects or more, and ranks nine at most.")
    if ORIGINAL in subjects:
        raise InputError(f"'{ORIGINAL}' is what attention checks show; rename that subject.")
    rng = np.random.Generator(np.random.Philox(seed))
    tokens: dict[str, dict[str, Any]] = {}
    images: dict[str, str] = {}

    def shown(image: Tensor, box: Box, *, name: str, of: str) -> str:
        token = secrets.token_hex(6)
        tokens[token] = {"method": name, "image": of}
        images[token] = _packed(box.cut(image).float())
        return token

    runs = [
        results(subject, sets=sets, scale=scale, data_root=data_root)
        for subject in subjects.values()
    ]
    trials: list[tuple[str, ...]] = []
    tests: list[tuple[str, ...]] = []
    for number, made in enumerate(zip(*runs, strict=True)):
        hr, of = made[0].pair.hr(), f"{made[0].set}/{made[0].pair.name}"
        lr = made[0].pair.lr()
        box = _place(hr, [one.image for one in made], scale, side=side, crops=crops, rng=rng)
        small = Box(box.top // scale, box.left // scale, box.height // scale, box.width // scale)
        mine = []
        for name, one in zip(subjects, made, strict=True):
            mine.append(shown(one.image, box, name=name, of=of))
            crop = [box.cut(one.image).float(), box.cut(hr).float(), small.cut(lr).float()]
            tokens[mine[-1]]["measures"] = _measures(*crop, scale=scale, weights=weights)
        if ask == "rankings":  # a Latin square: each subject stands in each place equally often
            trials.append(tuple(mine[(number + k) % len(mine)] for k in range(len(mine))))
        else:
            trials += [
                (mine[i], mine[j]) if (number + i + j) % 2 else (mine[j], mine[i])
                for i, j in combinations(range(len(mine)), 2)
            ]
        if len(tests) < checks:
            low = imresize(lr, size=(hr.shape[-2], hr.shape[-1]))
            both = [
                shown(hr, box, name=ORIGINAL, of=of),
                shown(low, box, name=BICUBIC, of=of),
            ]
            tests.append((both[number % 2], both[1 - number % 2]))
    again = rng.permutation(len(trials))[: max(1, round(_REPEATED * len(trials)))]
    everything = [*trials, *(trials[k][::-1] for k in again), *tests]
    study = {
        "id": secrets.token_hex(4),
        "question": question,
        "trials": [
            {"images": one} if len(one) > 2 else {"left": one[0], "right": one[1]}
            for one in everything
        ],
        "images": {token: images[token] for token in sorted(images)},
    }
    page = Path(__file__).with_name("study.html").read_text(encoding="utf-8")
    packed = json.dumps(study).replace("<", "\\u003c")
    key = {"study": study["id"], "methods": list(subjects), "tokens": tokens}
    return page.replace("/*STUDY*/null", packed), key


def _place(
    hr: Tensor,
    results: Sequence[Tensor],
    scale: int,
    *,
    side: int,
    crops: Crops,
    rng: np.random.Generator,
) -> Box:
    """Return the square to show, on the grid of the LR pixels."""
    high, wide = (n // scale for n in hr.shape[-2:])
    height, width = (min(max(1, side // scale), n) for n in (high, wide))
    if crops == "random":
        top, left = int(rng.integers(high - height + 1)), int(rng.integers(wide - width + 1))
    else:
        spread = torch.stack(list(results)).float().var(dim=0).mean(dim=1, keepdim=True)
        spread = avg_pool2d(spread, scale)  # (1, 1, h, w)
        found = avg_pool2d(spread, (height, width), stride=1)
        top, left = divmod(int(found.argmax()), found.shape[-1])
    return Box(top * scale, left * scale, height * scale, width * scale)


def _measures(
    sr: Tensor, hr: Tensor, lr: Tensor, *, scale: int, weights: str | Path | None
) -> dict[str, float]:
    """Return those of ``STUDY_MEASURES`` that can be taken of what is shown."""
    values = {"psnr": psnr(sr, hr, scale=scale).item()}
    values |= measure_perceptual(sr, hr, metrics=("lpips",), folder=weights).values
    if min(lr.shape[-2:]) >= 8:
        values["risk"] = structure_risk(lr, sr, scale=scale).score.item()
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _packed(image: Tensor) -> str:
    """Return the address of an image (1, 3, h, w) as a PNG whose parts are as long for any image.

    Sharper results compress less, so nothing is compressed: filling the others up would tell by
    how much.
    """
    pixels = pyvips.Image.new_from_array(from_tensor(image))
    png = pixels.pngsave_buffer(keep="none", compression=0, filter="none")
    return "data:image/png;base64," + base64.b64encode(png).decode()


# ---- Analysis ------------------------------------------------------------------------------------


def read_answers(lines: Iterable[str], key: Mapping[str, Any]) -> tuple[list[Answer], list[Answer]]:
    """Return the answers to pairs of subjects and those to attention checks.

    A ranking is an answer to each of its pairs. A question that was answered twice by one
    participant, in two files, counts once.

    Raises:
        DataError: a line is no answer, or one of another study.
    """
    answers: dict[tuple[str, ...], list[Answer]] = {}
    for number, line in enumerate(filter(str.strip, lines), start=1):
        try:
            given = parse_json(line)
            person = str(given["participant"])
            if "images" in given:
                shown, order = list(given["images"]), list(given["order"])
                if order and sorted(order) != sorted(shown):
                    raise ValueError("not every image has a rank")
            else:
                shown = [given["left"], given["right"]]
                chosen = {"left": shown, "right": shown[::-1], "none": []}
                order = chosen[given["choice"]]
            known = {token: key["tokens"][token] for token in shown}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"Answer {number} is none of this study ({error}).") from None
        rank = {token: place for place, token in enumerate(order)}
        answers[person, *shown] = [
            Answer(
                participant=person,
                image=known[a]["image"],
                first=known[a]["method"],
                second=known[b]["method"],
                preferred=None if not order else "first" if rank[a] < rank[b] else "second",
            )
            for a, b in combinations(shown, 2)
        ]
    flat = [answer for some in answers.values() for answer in some]
    checks = [a for a in flat if ORIGINAL in (a.first, a.second)]
    return [a for a in flat if ORIGINAL not in (a.first, a.second)], checks


class PairVotes(NamedTuple):
    """How often ``a`` was preferred to ``b``, neither, and ``b``; the rate has ties as halves.

    The interval of ``rate`` takes answers as independent (Wilson), that of ``clustered`` does not.
    """

    a: str
    b: str
    votes: tuple[int, int, int]
    rate: Interval
    clustered: Interval


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """What a study found: scores from the best, pairs of methods, and both as tables."""

    scores: tuple[tuple[str, Interval], ...]
    pairs: tuple[PairVotes, ...]
    tables: tuple[Table, ...]


def analyse_study(
    answers: Sequence[Answer], checks: Sequence[Answer], *, key: Mapping[str, Any], seed: int = 0
) -> StudyResult:
    """Return the scores of the methods, the rates of their pairs, and what measures agree.

    Participants who fail more than half of their attention checks are left out.
    """
    methods = list(key["methods"])
    kept, out = _attentive(answers, checks)
    once, repeated = _repeated(kept)
    people = len({answer.participant for answer in once})
    scores = preference_scores(once, methods, seed=seed)
    ranked = sorted(zip(methods, scores, strict=True), key=lambda pair: -pair[1].mean)
    pairs = []
    for a, b in combinations([name for name, _ in ranked], 2):
        asked = [x for x in once if {x.first, x.second} == {a, b}]
        if not asked:
            continue
        ties = sum(x.preferred is None for x in asked)
        won = sum(x.preferred is not None and getattr(x, x.preferred) == a for x in asked)
        rate = wilson_interval(won + ties / 2, len(asked))
        clustered = preference_rate(asked, (a, b), seed=seed)
        pairs.append(PairVotes(a, b, (won, ties, len(asked) - won - ties), rate, clustered))
    same = consistency(repeated)
    told = "not asked" if same is None else f"{same:.0%} of {len(repeated)}"
    notes = (
        f"{people} participants, {len(once)} answers; left out for failed attention checks: {out}. "
        f"The same answer when asked again: {told}. Scores: Bradley-Terry, natural logarithms, "
        "95 % by cluster bootstrap over participants and images; ties are half a win.",
    )
    rows = tuple((name, with_interval(score, digits=2)) for name, score in ranked)
    tables = [Table("Scores", ("method", ">score [95 %]"), rows, notes), _pair_table(pairs)]
    if measured := _agreements(once, key=key, seed=seed):
        tables.append(measured)
    return StudyResult(scores=tuple(ranked), pairs=tuple(pairs), tables=tuple(tables))


def _pair_table(pairs: Sequence[PairVotes]) -> Table:
    rows = []
    for a, b, votes, rate, clustered in pairs:
        assert clustered.low is not None and clustered.high is not None
        better = a if clustered.low > 0.5 else b if clustered.high < 0.5 else "not distinguishable"
        spans = (f"[{one.low:.3f}, {one.high:.3f}]" for one in (clustered, rate))
        count = (str(votes[1]), str(sum(votes)))
        rows.append((a, b, f"{rate.mean:.3f}", *spans, *count, better))
    note = (
        "95 % by cluster bootstrap over participants and images, from which follows what is "
        "better; beside it by Wilson's score, which takes answers as independent of each other."
    )
    columns = ("preferred", "to", ">rate", ">95 %", ">Wilson", ">ties", ">answers", "better")
    return Table("Pairs", columns, tuple(rows), (note,), keys=2)


def _agreements(answers: Sequence[Answer], *, key: Mapping[str, Any], seed: int) -> Table | None:
    """Return how far each measure goes with the answers; None for a key without measures."""
    known = {(t["image"], t["method"]): t.get("measures", {}) for t in key["tokens"].values()}
    rows = []
    for name, sign in STUDY_MEASURES.items():
        rated = [
            Rated(answer, sign * (first[name] - second[name]))
            for answer in answers
            if name in (first := known[answer.image, answer.first])
            and name in (second := known[answer.image, answer.second])
        ]
        if not rated:
            continue
        found = agreement(rated, seed=seed)
        cells = (with_interval(x, digits=2) for x in (found.rank, found.share))
        rows.append((TITLES.get(name, "structure risk"), *cells))
    if not rows:
        return None
    note = (
        "Of what was shown. Spearman's correlation of the difference of two results in a measure, "
        "the better above 0, with how often the one was preferred to the other; and the share of "
        "answers, without ties, that chose the better. 95 % by bootstrap over images, and Wilson's."
    )
    columns = ("measure", ">correlation [95 %]", ">agrees [95 %]")
    return Table("Measures", columns, tuple(rows), (note,))


def _attentive(answers: Sequence[Answer], checks: Sequence[Answer]) -> tuple[list[Answer], int]:
    failed: dict[str, list[bool]] = {}
    for check in checks:
        right = check.preferred is not None and getattr(check, check.preferred) == ORIGINAL
        failed.setdefault(check.participant, []).append(not right)
    out = {person for person, wrong in failed.items() if sum(wrong) > len(wrong) / 2}
    return [answer for answer in answers if answer.participant not in out], len(out)


def _repeated(answers: Sequence[Answer]) -> tuple[list[Answer], list[tuple[Answer, Answer]]]:
    """Return the first answers to each question, and the questions that were asked twice."""
    first: dict[tuple[str, str, frozenset[str]], Answer] = {}
    twice = []
    for answer in answers:
        question = (answer.participant, answer.image, frozenset((answer.first, answer.second)))
        if question in first:
            twice.append((first[question], answer))
        else:
            first[question] = answer
    return list(first.values()), twice
