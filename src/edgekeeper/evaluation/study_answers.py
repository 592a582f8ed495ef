"""What the answers to a study say: scores, rates of preference, and measures that agree."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

from edgekeeper.errors import DataError, InputError
from edgekeeper.evaluation.study import ORIGINAL, STUDY_MEASURES
from edgekeeper.evaluation.tables import TITLES, Table, with_interval
from edgekeeper.files import parse_json
from edgekeeper.metrics.preference import (
    Answer,
    Rated,
    agreement,
    consistency,
    preference_rate,
    preference_scores,
    wilson_interval,
)
from edgekeeper.metrics.statistics import Interval


def read_answers(lines: Iterable[str], key: Mapping[str, Any]) -> tuple[list[Answer], list[Answer]]:
    """Return the answers to pairs of subjects and those to attention checks.

    A ranking is an answer to each of its pairs. A question that was answered twice by one
    participant, in two files, counts once.
    Raises DataError: a line is no answer, or one of another study.
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
    Raises InputError: fewer than two are left.
    """
    methods = list(key["methods"])
    kept, out = _attentive(answers, checks)
    once, repeated = _repeated(kept)
    people = len({answer.participant for answer in once})
    if out and people < 2:
        raise InputError(
            f"{people} participants are left, and intervals need two; {out} failed more than half "
            "of their attention checks and are left out."
        )
    scores = preference_scores(once, methods)
    ranked = sorted(zip(methods, scores, strict=True), key=lambda pair: -pair[1].mean)
    pairs = []
    for a, b in combinations([name for name, _ in ranked], 2):
        asked = [x for x in once if {x.first, x.second} == {a, b}]
        if not asked:
            continue
        ties = sum(x.preferred is None for x in asked)
        won = sum(x.preferred is not None and getattr(x, x.preferred) == a for x in asked)
        rate = wilson_interval(won + ties / 2, len(asked))
        clustered = preference_rate(asked, (a, b))
        pairs.append(PairVotes(a, b, (won, ties, len(asked) - won - ties), rate, clustered))
    same = consistency(repeated)
    told = "not asked" if same is None else f"{same:.0%} of {len(repeated)}"
    notes = (
        f"{people} participants, {len(once)} answers; left out for failed attention checks: {out}. "
        f"The same answer when asked again: {told}. Scores: Bradley-Terry, natural logarithms, "
        "95 % over other participants and images; ties are half a win.",
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
        "95 % over other participants and images, from which follows what is better; beside it by "
        "Wilson's score, which takes answers as independent of each other."
    )
    columns = ("preferred", "to", ">rate", ">95 %", ">Wilson", ">ties", ">answers", "better")
    return Table("Pairs", columns, tuple(rows), (note,), keys=2)


def _agreements(answers: Sequence[Answer], *, key: Mapping[str, Any], seed: int) -> Table | None:
    """Return how far each measure goes with the answers; None for a key without measures."""
    tokens = (token for token in key["tokens"].values() if "measures" in token)  # not of checks
    known = {(token["image"], token["method"]): token["measures"] for token in tokens}
    rows = []
    for name, sign in STUDY_MEASURES.items():
        rated = [
            Rated(answer, sign * (first[name] - second[name]))
            for answer in answers
            if name in (first := known.get((answer.image, answer.first), {}))
            and name in (second := known.get((answer.image, answer.second), {}))
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
        "answers, without ties, that chose the better. 95 % by bootstrap over images, of the share "
        "over participants too."
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
