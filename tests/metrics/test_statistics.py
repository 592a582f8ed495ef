import itertools

import numpy as np
import pytest
from scipy import stats

from edgekeeper.errors import InputError
from edgekeeper.metrics.statistics import interval, paired_difference, wilcoxon


def scores(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(30, 3, shape)


def test_interval_agrees_with_scipy() -> None:
    values = scores(40)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    found = interval(values, draws=20_000)
    assert found.mean == pytest.approx(values.mean())
    # Two runs of 20,000 draws differ by a few hundredths of the interval's width (1.9).
    assert found.low == pytest.approx(expected.low, abs=0.05)
    assert found.high == pytest.approx(expected.high, abs=0.05)


def test_two_values_have_a_closed_form() -> None:
    # Means of two draws from {0, 1}: 0, 1/2, 1 with probabilities 1/4, 1/2, 1/4.
    found = interval([0.0, 1.0], draws=4000, level=0.4)
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)
    found = interval([0.0, 1.0], draws=4000, level=0.6)
    assert (found.low, found.high) == (0.0, 1.0)


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for k in range(400):
        found = interval(rng.normal(1.0, 1.0, 40), seed=k, draws=500)
        inside += found.low <= 1.0 <= found.high
    # 93.5 % expected for 40 normal values (percentile interval); 4 standard errors are 5 %.
    assert 0.885 <= inside / 400 <= 0.98


def test_two_levels_add_the_spread_of_seeds() -> None:
    # Variance of the mean: between seeds 1/4 (8 seeds of deviation sqrt(2)), images hardly any.
    rng = np.random.default_rng(3)
    seeds = rng.normal(0, 1, (8, 1))
    seeds = np.sqrt(2) * (seeds - seeds.mean()) / seeds.std()
    values = seeds + 1e-6 * rng.normal(0, 1, (8, 50))
    found = interval(values, draws=20_000)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5, rel=0.05)
    # The same values, each image's mean over seeds only: no spread is left.
    assert np.ptp([interval(values.mean(axis=0)).low, interval(values.mean(axis=0)).high]) < 1e-5


def test_pairing_removes_the_spread_of_images() -> None:
    a = scores(100)
    b = a - 0.1 + np.random.default_rng(5).normal(0, 0.05, 100)
    found = paired_difference(a, b)
    assert found.mean == pytest.approx((a - b).mean())
    assert 0.08 < found.low < found.mean < found.high < 0.12
    assert found.verdict == "better"
    assert paired_difference(b, a).verdict == "worse"
    assert paired_difference(a, b, best="lowest").verdict == "worse"
    assert paired_difference(a, scores(100, seed=9)).verdict == "not distinguishable"


def test_one_level_equals_the_interval_of_differences() -> None:
    a, b = scores(30), scores(30, seed=1)
    found, alone = paired_difference(a, b, seed=7), interval(a - b, seed=7)
    assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=1e-12)


def test_seeds_of_both_methods_count() -> None:
    images = scores(60)
    seeds_a, seeds_b = np.array([[0.3], [-0.3], [0.1]]), np.array([[0.2], [-0.2]])
    assert (
        paired_difference(images + seeds_a + 0.1, images + seeds_b).verdict == "not distinguishable"
    )
    assert paired_difference(images + 0 * seeds_a + 0.1, images + 0 * seeds_b).verdict == "better"


def test_equal_methods_and_equal_seeds() -> None:
    a = scores(3, 20)
    found = paired_difference(a[0], a[0])
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert found.verdict == "not distinguishable"
    assert paired_difference(a, a[:2], seed=4) == paired_difference(a, a[:2], seed=4)
    assert paired_difference(a, a[:2], seed=4) != paired_difference(a, a[:2], seed=5)


def test_many_images_are_drawn_in_blocks() -> None:
    values = scores(3000)
    found = interval(values, draws=2000)
    half = 1.96 * values.std() / np.sqrt(3000)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="a has 4, b 5"):
        paired_difference(scores(4), scores(5))
    with pytest.raises(InputError, match="of two images or more"):
        interval([1.0])
    with pytest.raises(InputError, match="a holds numbers that are not finite"):
        paired_difference([1.0, np.inf], [1.0, 2.0])
    with pytest.raises(InputError, match="level"):
        interval([1.0, 2.0], level=95)
    with pytest.raises(InputError, match="draws"):
        interval([1.0, 2.0], draws=0)
    with pytest.raises(InputError, match="best"):
        paired_difference([1.0, 2.0], [1.0, 2.0], best="best")  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [1, 2, 5, 14, 100, 500])
def test_the_signed_rank_test_is_exact(images: int) -> None:
    a, b = scores(images), scores(images, seed=1) - 0.2
    found = wilcoxon(a, b)
    expected = stats.wilcoxon(a, b, method="exact")
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert min(found.above, found.below) == expected.statistic
    assert found.above + found.below == images * (images + 1) / 2


def test_ties_are_counted_exactly_and_equal_pairs_left_out() -> None:
    difference = np.array([1.0, -1.0, 2.0, 2.0, 2.0, -3.0, 4.0, 0.0, 0.0, 5.0])
    found = wilcoxon(difference, np.zeros(10))
    ranks = stats.rankdata(np.abs(difference[difference != 0]))
    # All 2^8 ways to sign the ranks.
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=8)])
    assert found.pairs == 8
    assert found.below == 1.5 + 6
    assert found.p == pytest.approx(2 * (sums <= found.below).mean(), abs=1e-12)
    assert wilcoxon(-difference, np.zeros(10)).p == found.p


def test_many_pairs_use_the_normal_distribution() -> None:
    rng = np.random.default_rng(4)
    for values in (rng.normal(0.05, 1, 900), rng.integers(-3, 4, 700).astype(float)):
        expected = stats.wilcoxon(values, method="asymptotic", zero_method="wilcox")
        assert wilcoxon(values, 0 * values).p == pytest.approx(expected.pvalue, rel=1e-9)


def test_equal_and_wrong_pairs() -> None:
    found = wilcoxon([1.0, 2.0], [1.0, 2.0])
    assert (found.p, found.pairs) == (1.0, 0)
    with pytest.raises(InputError, match="equally long lists"):
        wilcoxon([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="finite"):
        wilcoxon([1.0, np.inf], [1.0, 2.0])
