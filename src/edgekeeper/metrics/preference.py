"""What people preferred: rates with Wilson intervals, Bradley-Terry scores, ties as half a win.

Bradley and Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 39, 1952; fitted by
Hunter's MM iteration, Annals of Statistics 32(1), 2004. Participants differ, so that intervals of
scores come from a bootstrap over participants. Wilson, JASA 22(158), 1927.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgekeeper.errors import InputError
from edgekeeper.metrics.statistics import Interval

_Z = 1.959963984540054  # of the normal distribution at 97.5 %
_ITERATIONS = 200
_PRIOR = 0.1  # answers added to every pair, so that a method that never wins has a score

_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer: which of two methods a participant preferred on an image; None: neither."""

    participant: str
    image: str
    first: str
    second: str
    preferred: Literal["first", "second"] | None


def wilson_interval(wins: float, total: int) -> Interval:
    """Return a rate and its 95 % interval by Wilson's score; a tie is half a win.

    Raises InputError for no answers, or more wins than answers.
    """
    if not 0 <= wins <= total or total < 1:
        raise InputError(f"{wins} wins of {total} answers have no rate.")
    rate, z = wins / total, _Z**2 / total
    middle = (rate + z / 2) / (1 + z)
    half = _Z * math.sqrt(rate * (1 - rate) / total + z / (4 * total)) / (1 + z)
    return Interval(rate, middle - half, middle + half)


def win_matrix(answers: Sequence[Answer], methods: Sequence[str]) -> _Floats:
    """Return (M, M): how often a row's method was preferred to a column's; ties are halves."""
    number = {name: k for k, name in enumerate(methods)}
    wins = np.zeros((len(methods), len(methods)))
    for answer in answers:
        a, b = number[answer.first], number[answer.second]
        share = {"first": 1.0, "second": 0.0, None: 0.5}[answer.preferred]
        wins[a, b] += share
        wins[b, a] += 1 - share
    return wins


def bradley_terry(wins: _Floats) -> _Floats:
    """Return the scores (..., M) of win matrices (..., M, M), natural logarithms of mean 0.

    A method is preferred to another with probability 1 / (1 + exp(score of it - its score)).
    """
    asked = wins + np.swapaxes(wins, -1, -2)  # (..., M, M)
    wins = wins + _PRIOR / 2 * (asked > 0)
    asked = asked + _PRIOR * (asked > 0)
    won = wins.sum(axis=-1)  # (..., M)
    strength = np.ones(won.shape)
    for _ in range(_ITERATIONS):
        # Hunter's step: W_i / sum over j of N_ij / (s_i + s_j), then of geometric mean 1
        shares = asked / (strength[..., :, None] + strength[..., None, :])
        strength = won / np.maximum(shares.sum(axis=-1), 1e-12)
        strength /= np.exp(np.log(strength).mean(axis=-1, keepdims=True))
    return np.asarray(np.log(strength))


def preference_scores(
    answers: Sequence[Answer], methods: Sequence[str], *, seed: int = 0, draws: int = 1000
) -> list[Interval]:
    """Return the Bradley-Terry score of each method with a 95 % bootstrap over participants.

    Raises InputError for fewer than two participants or a method that nobody was shown.
    """
    people = sorted({answer.participant for answer in answers})
    if len(people) < 2:
        raise InputError("Intervals need the answers of two participants or more.")
    each = np.stack(
        [win_matrix([a for a in answers if a.participant == one], methods) for one in people]
    )  # (P, M, M)
    shown = (each + np.swapaxes(each, 1, 2)).sum(axis=(0, 2))
    if not shown.all():
        raise InputError(f"Nobody was shown {methods[int(shown.argmin())]}.")
    generator = np.random.Generator(np.random.Philox(seed))
    taken = generator.multinomial(len(people), np.full(len(people), 1 / len(people)), size=draws)
    found = bradley_terry(np.tensordot(taken.astype(np.float64), each, axes=1))  # (draws, M)
    # The spread of means of P is sqrt((P - 1) / P) of what it should be.
    wide = math.sqrt(len(people) / (len(people) - 1))
    scores = bradley_terry(each.sum(axis=0))
    spread = found.std(axis=0) * wide * _Z
    return [
        Interval(float(s), float(s - w), float(s + w)) for s, w in zip(scores, spread, strict=True)
    ]


def consistency(repeated: Sequence[tuple[Answer, Answer]]) -> float | None:
    """Return how often a question that was asked twice, sides exchanged, got the same answer."""
    if not repeated:
        return None
    flipped = {"first": "second", "second": "first", None: None}
    same = [
        (a.preferred if a.first == b.first else flipped[a.preferred]) == b.preferred
        for a, b in repeated
    ]
    return sum(same) / len(same)


# ---- Whether a measure goes with what people prefer ----------------------------------------------


class Rated(NamedTuple):
    """An answer, and by how much a measure finds its first method better than its second."""

    answer: Answer
    better: float


class MeasureFit(NamedTuple):
    """``rank``: the correlation over pairs of results; ``share``: of answers that chose as it."""

    rank: Interval | None
    share: Interval | None


def spearman(a: Sequence[float] | _Floats, b: Sequence[float] | _Floats) -> float:
    """Return the correlation of the ranks, equal values sharing theirs; NaN without any spread."""
    ranks = []
    for values in (np.asarray(a), np.asarray(b)):
        above = values[:, None] - values[None]  # (N, N)
        ranks.append((above > 0).sum(axis=1) + (above == 0).sum(axis=1) / 2)
    if any(np.ptp(rank) == 0 for rank in ranks):
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def agreement(rated: Sequence[Rated], *, seed: int = 0, draws: int = 1000) -> MeasureFit:
    """Return how far a measure goes with the answers.

    Each pair of results on an image counts in both directions, so that it does not matter which
    is called the first. Intervals: bootstrap over images, and Wilson's.
    """
    pairs: dict[str, dict[tuple[str, str], list[tuple[float, float]]]] = {}
    right = total = 0
    for answer, better in rated:
        preferred = {"first": 1.0, "second": 0.0, None: 0.5}[answer.preferred]
        if answer.preferred is not None and better:
            total += 1
            right += (better > 0) == (preferred == 1)
        one = pairs.setdefault(answer.image, {})
        one.setdefault((answer.first, answer.second), []).append((better, preferred))
        one.setdefault((answer.second, answer.first), []).append((-better, 1 - preferred))
    means = [np.array([np.mean(some, axis=0) for some in one.values()]) for one in pairs.values()]
    generator = np.random.Generator(np.random.Philox(seed))

    def correlation(taken: Sequence[_Floats]) -> float:
        both = np.concatenate(taken)
        return spearman(both[:, 0], both[:, 1])

    rank, whole = None, correlation(means)
    if not math.isnan(whole):
        found = [
            correlation([means[k] for k in generator.integers(len(means), size=len(means))])
            for _ in range(draws if len(means) > 1 else 0)
        ]
        ends = np.nanpercentile(found, (2.5, 97.5)) if found else (None, None)
        rank = Interval(whole, *(None if end is None else float(end) for end in ends))
    return MeasureFit(rank, wilson_interval(right, total) if total else None)
