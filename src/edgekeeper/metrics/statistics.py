"""Is a difference between methods real: paired bootstrap over images and seeds, Wilcoxon's test.

Images differ far more from each other than methods do, so two methods are compared image
by image. Percentile intervals; Efron and Tibshirani, "An Introduction to the Bootstrap",
1993, chapter 13. Draws come from a counter-based generator (Philox): the same seed gives the
same interval on every machine. The test: Wilcoxon, "Individual Comparisons by Ranking Methods",
Biometrics Bulletin 1(6), 1945.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgekeeper.errors import InputError, check_choice

DRAWS = 10_000
LEVEL = 0.95
EXACT_PAIRS = 500  # up to so many, the test counts all ways to give ranks their signs
_BLOCK = 2**22  # numbers drawn at once: 32 MB

DifferenceVerdict = Literal["better", "worse", "not distinguishable", "too few images"]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its bootstrap interval, None where there is none."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Difference(Interval):
    """Mean of a - b, the ends of its interval, and whether ``a`` is the better one.

    "better" or "worse" where the interval leaves out 0.
    """

    verdict: DifferenceVerdict = "too few images"


def interval(
    values: ArrayLike, *, seed: int = 0, draws: int = DRAWS, level: float = LEVEL
) -> Interval:
    """Mean of ``values`` (images,) or (seeds, images), and its bootstrap interval.

    With two axes both are resampled; with few seeds (two or three) the interval is too narrow.
    """
    table = _table("values", values)
    means = _resampled_means([table], seed=seed, draws=draws)[0]
    return Interval(float(table.mean()), *_ends(means, level=level))


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, best: Literal["highest", "lowest"] = "highest", seed: int = 0
) -> Difference:
    """Return how much ``a`` is above ``b``, image by image, with a bootstrap interval.

    a, b: (images,) in the same order, or (seeds, images). One set of images is drawn for both
    (paired), seeds for each on its own. best: which numbers are good ones (PSNR: "highest", GMSD:
    "lowest"). Leave out an image that is reproduced exactly (PSNR inf) and say so.
    Raises InputError.
    """
    first, second = _table("a", a), _table("b", b)
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"The same images are needed: a has {first.shape[1]}, b {second.shape[1]}."
        )
    check_choice("best", best, known=("highest", "lowest"))
    means = _resampled_means([first, second], seed=seed, draws=DRAWS)
    # Per image first: equal images then give exactly 0.
    mean = float((first.mean(axis=0) - second.mean(axis=0)).mean())
    low, high = _ends(means[0] - means[1], level=LEVEL)
    return Difference(mean, low, high, _verdict(low, high, best=best))


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test: both sums of ranks, two-sided p, and how many pairs differ."""

    above: float
    below: float
    p: float
    pairs: int


def wilcoxon(a: ArrayLike, b: ArrayLike) -> SignedRank:
    """Return the signed-rank test of ``a`` against ``b``, each (images,) in the same order.

    Pairs without a difference are left out; equal sizes share their mean rank. p is two-sided:
    exact, ties included, up to 500 pairs, by the normal distribution above; 1 without any
    difference. Raises InputError.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(f"Two equally long lists are needed; got {np.shape(a)}, {np.shape(b)}.")
    difference = first - second
    if not np.isfinite(difference).all():
        raise InputError("The signed-rank test needs finite numbers; leave the others out.")
    difference = difference[difference != 0]
    ranks, counts = _ranks(np.abs(difference))
    above = float(ranks[difference > 0].sum())
    below = float(ranks[difference < 0].sum())
    smaller, pairs = min(above, below), len(difference)
    if pairs == 0:
        p = 1.0
    elif pairs <= EXACT_PAIRS:
        p = _exact_p(smaller, ranks=ranks)
    else:
        ties = float((counts**3 - counts).sum()) / 48
        variance = pairs * (pairs + 1) * (2 * pairs + 1) / 24 - ties
        p = math.erfc((pairs * (pairs + 1) / 4 - smaller) / math.sqrt(2 * variance))
    return SignedRank(above=above, below=below, p=p, pairs=pairs)


def _ranks(sizes: _Floats) -> tuple[_Floats, _Floats]:
    """Ranks from 1 on, equal sizes sharing their mean rank, and how often each size comes up."""
    _, place, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place], counts.astype(np.float64)


def _exact_p(smaller: float, *, ranks: _Floats) -> float:
    """Twice the share of all signs whose positive ranks add up to ``smaller`` or less."""
    doubled = np.rint(2 * ranks).astype(np.int64)  # whole, whatever is shared
    share = np.zeros(int(doubled.sum()) + 1)  # of the ways that give each sum
    share[0] = 1.0
    for rank in doubled:
        share[rank:] = (share[rank:] + share[: len(share) - rank]) / 2
        share[:rank] /= 2
    return min(1.0, 2 * float(share[: round(2 * smaller) + 1].sum()))


def _verdict(low: float, high: float, *, best: Literal["highest", "lowest"]) -> DifferenceVerdict:
    if low <= 0 <= high:
        return "not distinguishable"
    return "better" if (low > 0) == (best == "highest") else "worse"


def _ends(means: _Floats, *, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise InputError(f"level lies between 0 and 1, for example 0.95; got {level!r}.")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled_means(tables: Sequence[_Floats], *, seed: int, draws: int) -> _Floats:
    """Means (tables, draws) of resampled seeds x images; one draw of images for all tables."""
    if draws < 1:
        raise InputError(f"draws must be at least 1; got {draws}.")
    images = tables[0].shape[1]
    # One stream for the images, one for each table's seeds.
    streams = [np.random.Generator(np.random.Philox(key=[seed, k])) for k in range(len(tables) + 1)]
    means = np.empty((len(tables), draws))
    # A draw is written as counts, so that a mean is a product: counts / n @ values.
    block = max(1, _BLOCK // max(images, *(len(table) for table in tables)))
    for start in range(0, draws, block):
        count = min(block, draws - start)
        image_counts = _counts(streams[0], size=images, draws=count)
        for k, table in enumerate(tables):
            seed_counts = _counts(streams[k + 1], size=len(table), draws=count)
            sums = np.einsum("dp,dp->d", seed_counts @ table, image_counts)
            means[k, start : start + count] = sums / table.size
    return means


def _counts(generator: np.random.Generator, *, size: int, draws: int) -> _Floats:
    """Return how often each item comes up in ``size`` draws with replacement, (draws, size)."""
    if size == 1:
        return np.ones((draws, 1))
    return generator.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64)


def _table(name: str, values: ArrayLike) -> _Floats:
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if table.ndim != 2 or table.shape[1] < 2:
        raise InputError(f"{name} must be (images,) or (seeds, images), of two images or more.")
    if not np.isfinite(table).all():
        raise InputError(f"{name} holds numbers that are not finite; leave those images out.")
    return table
