"""Preference rates and Bradley-Terry scores, on simulated participants of known preference."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from scipy import optimize, stats

from edgekeeper.errors import InputError
from edgekeeper.metrics import preference
from edgekeeper.metrics.preference import (
    Answer,
    bradley_terry,
    consistency,
    preference_rate,
    preference_scores,
    wilson_interval,
    win_cells,
)
from edgekeeper.metrics.statistics import Interval

METHODS = ("a", "b", "c")
TRUE = np.array([0.6, 0.1, -0.7])


def simulated(
    rng: np.random.Generator,
    *,
    people: int,
    images: int,
    ties: float,
    own: float = 0.3,
    spread: float = 0.0,
) -> list[Answer]:
    """Participants who prefer by TRUE; some see no difference.

    To every participant the methods are worth something else, by ``own``, and on every image, by
    ``spread``.
    """
    answers = []
    here = rng.normal(0, spread, (images, 3))
    for person in range(people):
        mine = TRUE + rng.normal(0, own, 3)
        for image in range(images):
            worth = mine + here[image]
            for i, j in ((0, 1), (1, 2), (2, 0)):
                likely = 1 / (1 + np.exp(worth[j] - worth[i]))
                chosen = "first" if rng.random() < likely else "second"
                answers.append(
                    Answer(
                        participant=str(person),
                        image=str(image),
                        first=METHODS[i],
                        second=METHODS[j],
                        preferred=None if rng.random() < ties else chosen,
                    )
                )
    return answers


def test_wilson_is_scipy_s_and_covers() -> None:
    for wins, total in ((0, 5), (3, 7), (50, 100), (9, 9)):
        theirs = stats.binomtest(wins, total).proportion_ci(method="wilson")
        ours = wilson_interval(wins, total)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    rng = np.random.default_rng(0)
    found = [wilson_interval(int(wins), 120) for wins in rng.binomial(120, 0.62, 3000)]
    assert 0.93 <= np.mean([i.low <= 0.62 <= i.high for i in found]) <= 0.97
    for wins, total in ((1, 0), (3, 2), (-1, 2)):
        with pytest.raises(InputError):
            wilson_interval(wins, total)


def test_scores_have_the_greatest_likelihood() -> None:
    answers = simulated(np.random.default_rng(1), people=20, images=30, ties=0.2)
    wins = win_cells(answers, METHODS).sum(axis=(0, 1))
    assert wins.sum() == len(answers)

    def loss(free: np.ndarray) -> float:
        scores = np.array([*free, -sum(free)])
        return float((wins * np.log1p(np.exp(scores[None, :] - scores[:, None]))).sum())

    best = optimize.minimize(loss, np.zeros(2), tol=1e-12).x
    assert bradley_terry(wins) == pytest.approx([*best, -sum(best)], abs=2e-3)


def test_a_method_that_never_wins_has_a_score() -> None:
    scores = bradley_terry(np.array([[0.0, 10, 10], [0, 0, 5], [0, 5, 0]]))
    assert np.isfinite(scores).all() and scores[0] > scores[1] + 2
    assert scores[1] == pytest.approx(scores[2])


def test_rates_vary_with_participants_and_with_images() -> None:
    def answered(of: Callable[[int, int], bool]) -> list[Answer]:
        return [
            Answer(
                participant=str(p),
                image=str(i),
                first="a",
                second="b",
                preferred="first" if of(p, i) else "second",
            )
            for p, i in product(range(20), range(10))
        ]

    def wide(found: Interval) -> float:
        assert found.low is not None and found.high is not None
        return found.high - found.low

    rng = np.random.default_rng(5)
    wilson = wide(wilson_interval(120, 200))
    # Everybody's answers are all the same: 20 independent ones; or those on an image: 10.
    for by, count in ((lambda p, _: p < 12, 20), (lambda _, i: i < 6, 10)):
        found = preference_rate(answered(by), ("a", "b"))
        assert found.mean == pytest.approx(0.6)
        alone = wide(wilson_interval(0.6 * count, count))
        assert alone * 0.9 < wide(found) < alone * 1.25, (count, wide(found), alone)
        other = preference_rate(answered(by), ("b", "a"))
        assert (other.low, other.high) == pytest.approx((1 - found.high, 1 - found.low))
    free = preference_rate(answered(lambda *_: rng.random() < 0.6), ("a", "b"))
    assert wilson * 0.9 < wide(free) < wilson * 1.3
    always = preference_rate(answered(lambda *_: True), ("a", "b"))
    assert always == wilson_interval(200, 200)
    with pytest.raises(InputError, match="no rate"):
        preference_rate([], ("a", "b"))


@pytest.mark.slow
def test_intervals_cover_the_truth_in_95_of_100_studies() -> None:
    rng, studies = np.random.default_rng(2), 1000
    for people, images, own, spread, ties in (
        *((30, 4, 0.3, 0.0, 0.0), (30, 4, 0.3, 0.5, 0.0), (20, 10, 0.0, 0.0, 0.0)),
        *((20, 10, 0.3, 0.5, 0.0), (25, 6, 0.15, 0.15, 0.2), (8, 6, 0.0, 0.0, 0.0)),
        *((8, 40, 0.5, 0.5, 0.0), (30, 4, 0.3, 1.0, 0.0), (20, 3, 0.3, 0.5, 0.0)),
    ):
        truth, rate = _marginal(own, spread, ties)
        found = np.zeros(3)
        for _ in range(studies):
            answers = simulated(
                rng, people=people, images=images, own=own, spread=spread, ties=ties
            )
            # What differs between people and images makes the scores of all smaller than TRUE.
            scores = preference_scores(answers, METHODS)
            asked = [a for a in answers if {a.first, a.second} == {"a", "b"}]
            one = preference_rate(asked, ("a", "b"))
            plain = wilson_interval(one.mean * len(asked), len(asked))
            found += (
                np.mean([_holds(i, true) for i, true in zip(scores, truth, strict=True)]),
                _holds(one, rate),
                _holds(plain, rate),
            )
        found /= studies
        print(f"{people} x {images}, {own}, {spread}, {ties}: {found.round(3)}")
        assert (abs(found[:2] - 0.95) < 0.02).all(), found
        assert found[2] < 0.85 if max(own, spread) >= 0.5 else True


def _holds(found: Interval, truth: float) -> bool:
    assert found.low is not None and found.high is not None
    return found.low <= truth <= found.high


def _marginal(own: float, spread: float, ties: float) -> tuple[np.ndarray, float]:
    """The scores that infinitely many of the simulated people have together, and a's rate to b."""
    worth = TRUE + np.random.default_rng(9).normal(0, np.hypot(own, spread), (200_000, 3))
    likely = 1 / (1 + np.exp(worth[:, None] - worth[:, :, None]))  # (N, 3, 3)
    wins = (1 - ties) * likely.mean(axis=0) + ties / 2
    np.fill_diagonal(wins, 0)
    return bradley_terry(1e4 * wins), float(wins[0, 1])


def test_ties_pull_together_and_sides_do_not_matter() -> None:
    rng = np.random.default_rng(3)
    clear, tied = (simulated(rng, people=30, images=20, ties=t) for t in (0.0, 0.6))
    spread = [np.ptp([i.mean for i in preference_scores(a, METHODS)]) for a in (clear, tied)]
    assert 0 < spread[1] < spread[0]
    other = {"first": "second", "second": "first", None: None}
    turned = [
        Answer(
            participant=a.participant,
            image=a.image,
            first=a.second,
            second=a.first,
            preferred=other[a.preferred],  # type: ignore[arg-type]
        )
        for a in clear
    ]
    assert preference_scores(turned, METHODS) == preference_scores(clear, METHODS)
    assert consistency(list(zip(clear, turned, strict=True))) == 1
    assert consistency([]) is None


def test_too_few_are_refused() -> None:
    answers = simulated(np.random.default_rng(4), people=1, images=2, ties=0)
    with pytest.raises(InputError, match="two participants"):
        preference_scores(answers, METHODS)
    answers = simulated(np.random.default_rng(4), people=2, images=2, ties=0)
    with pytest.raises(InputError, match="shown d"):
        preference_scores(answers, (*METHODS, "d"))


def test_scores_are_choix_s_and_correlations_scipy_s(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        a, b = rng.integers(0, 6, 30), rng.normal(size=30)  # with ties in one
        assert preference.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert np.isnan(preference.spearman([1.0, 1.0], [1.0, 2.0]))
    choix = pytest.importorskip("choix")
    monkeypatch.setattr(preference, "_PRIOR", 0.0)
    wins = rng.integers(3, 40, (4, 4)) * (1 - np.eye(4, dtype=int))
    data = [(i, j) for i in range(4) for j in range(4) for _ in range(wins[i, j])]
    theirs = choix.opt_pairwise(4, data, tol=1e-9)
    ours = preference.bradley_terry(wins.astype(float))
    assert np.allclose(ours, theirs - theirs.mean(), atol=1e-4), (ours, theirs)
