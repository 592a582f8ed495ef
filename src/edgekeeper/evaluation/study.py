"""A blind preference study: one HTML file for participants, one key for whoever analyses it."""

import base64
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyvips
from torch import Tensor

from edgekeeper.errors import DataError, InputError
from edgekeeper.evaluation.evaluate import results
from edgekeeper.evaluation.tables import Table, with_interval
from edgekeeper.files import parse_json
from edgekeeper.image import from_tensor
from edgekeeper.metrics.preference import (
    Answer,
    consistency,
    preference_scores,
    wilson_interval,
)
from edgekeeper.models import SRModel
from edgekeeper.ops.box import Box
from edgekeeper.ops.resize import imresize

ORIGINAL, BICUBIC = "original", "bicubic"
"""What attention checks show: the original beside the interpolated image."""

_REPEATED = 0.1  # share of the pairs that come twice, sides exchanged


def make_study(
    subjects: Mapping[str, SRModel | str | Path],
    *,
    sets: Sequence[str | Path],
    scale: int,
    data_root: str | Path,
    question: str = "Which do you prefer?",
    side: int = 192,
    checks: int = 3,
    seed: int = 0,
) -> tuple[str, dict[str, Any]]:
    """Return the page with all pairs of subjects on every image, and the key to it.

    Shown is a square of ``side`` pixels at a place drawn by ``seed``. Each pair has either
    subject on the left equally often; one in ten comes twice; ``checks`` pairs show the original
    beside bicubic. Nothing in the page names a subject or an image.

    Raises:
        InputError: fewer than two subjects; those of ``evaluate``.
    """
    if len(subjects) < 2:
        raise InputError("A study compares two subjects or more.")
    rng = np.random.Generator(np.random.Philox(seed))
    tokens: dict[str, dict[str, str]] = {}
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
    trials: list[tuple[str, str]] = []
    tests: list[tuple[str, str]] = []
    for number, made in enumerate(zip(*runs, strict=True)):
        hr, of = made[0].pair.hr(), f"{made[0].set}/{made[0].pair.name}"
        height, width = (min(side, n) for n in hr.shape[-2:])
        top, left = (
            int(rng.integers(n - part + 1))
            for n, part in zip(hr.shape[-2:], (height, width), strict=True)
        )
        box = Box(top, left, height, width)
        mine = [
            shown(one.image, box, name=name, of=of)
            for name, one in zip(subjects, made, strict=True)
        ]
        pairs = combinations(range(len(mine)), 2)
        trials += [
            (mine[i], mine[j]) if (number + i + j) % 2 else (mine[j], mine[i]) for i, j in pairs
        ]
        if len(tests) < checks:
            low = imresize(made[0].pair.lr(), size=(hr.shape[-2], hr.shape[-1]))
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
        "trials": [{"left": left, "right": right} for left, right in everything],
        "images": images,
    }
    page = Path(__file__).with_name("study.html").read_text(encoding="utf-8")
    packed = json.dumps(study).replace("<", "\\u003c")
    key = {"study": study["id"], "methods": list(subjects), "tokens": tokens}
    return page.replace("/*STUDY*/null", packed), key


def _packed(image: Tensor) -> str:
    """Return an image (1, 3, h, w) as the address of a PNG that holds it."""
    pixels = pyvips.Image.new_from_array(from_tensor(image))
    return "data:image/png;base64," + base64.b64encode(pixels.pngsave_buffer(keep="none")).decode()


# ---- Analysis ------------------------------------------------------------------------------------


def read_answers(lines: Iterable[str], key: Mapping[str, Any]) -> tuple[list[Answer], list[Answer]]:
    """Return the answers to pairs of subjects and those to attention checks.

    A question that was answered twice by one participant, in two files, counts once.

    Raises:
        DataError: a line is no answer, or one of another study.
    """
    answers: dict[tuple[str, str, str], Answer] = {}
    for number, line in enumerate(filter(str.strip, lines), start=1):
        try:
            given = parse_json(line)
            sides = [key["tokens"][given[side]] for side in ("left", "right")]
            chosen: dict[str, Literal["first", "second"] | None] = {
                "left": "first",
                "right": "second",
                "none": None,
            }
            preferred = chosen[given["choice"]]
            where = (str(given["participant"]), given["left"], given["right"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"Answer {number} is none of this study ({error}).") from None
        answers[where] = Answer(
            participant=where[0],
            image=sides[0]["image"],
            first=sides[0]["method"],
            second=sides[1]["method"],
            preferred=preferred,
        )
    checks = [a for a in answers.values() if ORIGINAL in (a.first, a.second)]
    return [a for a in answers.values() if ORIGINAL not in (a.first, a.second)], checks


def analyse_study(
    answers: Sequence[Answer], checks: Sequence[Answer], *, methods: Sequence[str], seed: int = 0
) -> tuple[Table, Table]:
    """Return the scores of the methods, and the rates of their pairs.

    Participants who fail more than half of their attention checks are left out.
    """
    kept, out = _attentive(answers, checks)
    once, repeated = _repeated(kept)
    people = len({answer.participant for answer in once})
    scores = preference_scores(once, methods, seed=seed)
    ranked = sorted(zip(methods, scores, strict=True), key=lambda pair: -pair[1].mean)
    rates, rows = [], []
    for a, b in combinations([name for name, _ in ranked], 2):
        asked = [x for x in once if {x.first, x.second} == {a, b}]
        if not asked:
            continue
        ties = sum(x.preferred is None for x in asked)
        wins = ties / 2 + sum(
            x.preferred is not None and getattr(x, x.preferred) == a for x in asked
        )
        rate = wilson_interval(wins, len(asked))
        assert rate.low is not None
        verdict = a if rate.low > 0.5 else "not distinguishable"
        cell = with_interval(rate, digits=3)
        rates.append((a, b, cell, str(ties), str(len(asked)), verdict))
    for name, score in ranked:
        rows.append((name, with_interval(score, digits=2)))
    same = consistency(repeated)
    told = "not asked" if same is None else f"{same:.0%} of {len(repeated)}"
    notes = (
        f"{people} participants, {len(once)} answers; left out for failed attention checks: {out}. "
        f"The same answer when asked again: {told}. Scores: Bradley-Terry, natural logarithms, "
        "95 % by bootstrap over participants; ties are half a win.",
    )
    pair_note = "95 % by Wilson's score, which takes answers as independent of each other."
    columns = ("preferred", "to", ">rate [95 %]", ">ties", ">answers", "better")
    return (
        Table("Scores", ("method", ">score [95 %]"), tuple(rows), notes),
        Table("Pairs", columns, tuple(rates), (pair_note,), keys=2),
    )


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
