"""What people preferred: rates with Wilson intervals, Bradley-Terry scores, ties as half a win.

Bradley and Terry, "Rank Analysis of Incomplete Block Designs", Biometrika 39, 1952; fitted by
Hunter's MM iteration, Annals of Statistics 32(1), 2004. Participants and images differ, so that
intervals are robust to clusters of both. Wilson, JASA 22(158), 1927.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgekeeper.errors import InputError
from edgekeeper.metrics.statistics import Interval

_Z = 1.959963984540054  # of the normal distribution at 97.5 %
_ITERATIONS = 200
_DRAWS = 20_000
_DRAWN = 0.94  # of the draws: chosen so that 95 of 100 simulated studies hold the truth
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


def wilson_interval(wins: float, total: float) -> Interval:
    """Return a rate and its 95 % interval by Wilson's score; a tie is half a win.

    Raises InputError for no answers, or more wins than answers.
    """
    if not 0 <= wins <= total or total <= 0:
        raise InputError(f"{wins} wins of {total} answers have no rate.")
    rate, z = wins / total, _Z**2 / total
    middle = (rate + z / 2) / (1 + z)
    half = _Z * math.sqrt(rate * (1 - rate) / total + z / (4 * total)) / (1 + z)
    return Interval(rate, middle - half, middle + half)


def win_cells(answers: Sequence[Answer], methods: Sequence[str]) -> _Floats:
    """Return (P, I, M, M), of each participant on each image: how often a row's method won.

    Over a column's; ties are halves.
    """
    number = {name: k for k, name in enumerate(methods)}
    people, images = (
        {name: k for k, name in enumerate(sorted({getattr(a, field) for a in answers}))}
        for field in ("participant", "image")
    )
    wins = np.zeros((len(people), len(images), len(methods), len(methods)))
    for answer in answers:
        cell = wins[people[answer.participant], images[answer.image]]
        a, b = number[answer.first], number[answer.second]
        share = {"first": 1.0, "second": 0.0, None: 0.5}[answer.preferred]
        cell[a, b] += share
        cell[b, a] += 1 - share
    return wins


@lru_cache(maxsize=16)
def _errors(*free: int) -> _Floats:
    """Return (F + 1, D): one over chi squares of mean 1, by degrees of freedom (F,), and |z|."""
    generator = np.random.Generator(np.random.Philox(0))
    squares = [n / generator.chisquare(n, _DRAWS) for n in free]
    return np.stack([*squares, np.abs(generator.standard_normal(_DRAWS))])


def _half_width(parts: _Floats, answers: _Floats) -> _Floats:
    """Return half the 95 % interval of figures (K,), from what each cell adds to their error.

    parts: (P, I, K), linearised; answers: (P, I), how many a cell has. Participants and images are
    two crossed samples: the variance is the mean square of people plus that of images less that of
    single answers (Searle, Casella and McCulloch, "Variance Components", 1992). Of how much those
    of few people or images could be off, chi squares are drawn: a generalised confidence interval
    (Weerahandi, JASA 88(423), 1993).
    """
    asked = answers > 0
    count, (people, images) = int(asked.sum()), asked.shape
    parts = np.where(asked[..., None], parts - parts.sum(axis=(0, 1)) / count, 0)
    squares = [
        (parts.sum(axis=k) ** 2 / np.maximum(1, asked.sum(axis=k))[:, None]).sum(axis=0)
        for k in (1, 0)
    ]
    squares.append(np.maximum((parts**2).sum(axis=(0, 1)) - sum(squares), 0))
    free = [max(1, n) for n in (people - 1, images - 1, count - people - images + 1)]
    *drawn, z = _errors(*free)
    a, b, rest = (np.outer(s / n, d) for s, n, d in zip(squares, free, drawn, strict=True))
    whole = np.maximum(a + b - rest, squares[2][:, None] / free[2] / 10)  # (K, D)
    return np.asarray(np.quantile(z * np.sqrt(count * whole), _DRAWN, axis=1))


def preference_rate(answers: Sequence[Answer], methods: tuple[str, str]) -> Interval:
    """Return how often the first method was preferred to the second; a tie is half a win.

    The 95 % interval is Wilson's for as many independent answers as would vary as much as these
    do over participants and images. Raises InputError for no answers.
    """
    if not answers:
        return wilson_interval(0, 0)
    cells = win_cells(answers, methods)
    asked: _Floats = cells.sum(axis=(2, 3))
    rate = float(cells[..., 0, 1].sum() / asked.sum())
    parts = (cells[..., 0, 1] - rate * asked) / asked.sum()
    (half,) = _half_width(parts[..., None], asked)
    total = rate * (1 - rate) * (_Z / half) ** 2 if half else len(answers)
    return wilson_interval(rate * total, total)


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


def preference_scores(answers: Sequence[Answer], methods: Sequence[str]) -> list[Interval]:
    """Return the Bradley-Terry score of each method, with a 95 % interval over other studies.

    It is robust to clusters of participants and of images. Raises InputError for fewer than two
    participants or a method that nobody was shown.
    """
    cells = win_cells(answers, methods)
    if len(cells) < 2:
        raise InputError("Intervals need the answers of two participants or more.")
    wins = cells.sum(axis=(0, 1))
    shown = wins + wins.T
    if not shown.any(axis=0).all():
        raise InputError(f"Nobody was shown {methods[int(shown.sum(axis=0).argmin())]}.")
    scores = bradley_terry(wins)
    likely = 1 / (1 + np.exp(scores - scores[:, None]))  # (M, M), of the row over the column
    slope = shown * likely * (1 - likely)
    inverse = np.linalg.pinv(np.diag(slope.sum(axis=0)) - slope)
    each = cells + np.swapaxes(cells, -1, -2)  # (P, I, M, M)
    parts = (cells - each * likely).sum(axis=-1) @ inverse
    spread = _half_width(parts, each.sum(axis=(2, 3)))
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
    is called the first. Intervals: bootstrap over images, of Fisher's z; and ``preference_rate``'s.
    """
    pairs: dict[str, dict[tuple[str, str], list[tuple[float, float]]]] = {}
    chosen: list[Answer] = []
    for answer, better in rated:
        preferred = {"first": 1.0, "second": 0.0, None: 0.5}[answer.preferred]
        if answer.preferred is not None and better:
            right = (better > 0) == (preferred == 1)
            whose = {"first": "measure", "second": "other"}
            chosen.append(replace(answer, **whose, preferred="first" if right else "second"))
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
        rank = Interval(whole, *_fisher_ends(whole, found, of=len(means)))
    names = ("measure", "other")
    share = preference_rate(chosen, names) if chosen else None
    return MeasureFit(rank, share)


def _fisher_ends(
    whole: float, found: Sequence[float], *, of: int
) -> tuple[float | None, float | None]:
    """Return the ends of a correlation's interval from bootstrap values over so many images."""
    if of < 2:
        return None, None
    spread = np.nanstd(_fisher(found)) * math.sqrt(of / (of - 1))
    chi, z = _errors(of - 1)
    middle, half = _fisher(whole), np.quantile(z * np.sqrt(chi), 0.95) * spread  # Student's t
    return float(np.tanh(middle - half)), float(np.tanh(middle + half))


def _fisher(correlation: float | Sequence[float]) -> _Floats:
    return np.arctanh(np.clip(correlation, -0.9999, 0.9999))
