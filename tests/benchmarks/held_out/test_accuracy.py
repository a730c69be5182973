"""Statistics of held-out predictions, against values worked out by hand."""

from statistics import fmean

import numpy as np
import pytest

from benchmarks.held_out.accuracy import (
    PairedRow,
    Row,
    cluster_bootstrap,
    coverage,
    crossover_interval,
    crossovers,
)


def row(measured: float, predicted: float, low: float | None, high: float | None) -> Row:
    return Row(measured=measured, predicted=predicted, low=low, high=high)


def test_coverage_counts_ends_and_leaves_out_rows_without_an_interval() -> None:
    rows = [row(9, 10, 9, 11), row(11.1, 10, 9, 11), row(10, 10, None, None), row(10, 10, 9, 11)]
    assert coverage(rows) == (2, 3)


def test_half_width() -> None:
    assert row(1, 10, 9, 12).half_width == pytest.approx(0.15)
    assert row(1, 10, None, None).half_width is None


def test_the_bootstrap_of_one_cluster_is_its_statistic() -> None:
    assert cluster_bootstrap({"a": [1.0, 3.0]}, fmean) == (2.0, 2.0)


def test_the_bootstrap_of_two_clusters_spans_them() -> None:
    """Means of draws are 0, 1/2, 1 with chances 1/4, 1/2, 1/4: 2.5 % and 97.5 % are the ends."""
    assert cluster_bootstrap({"a": [0.0, 0.0], "b": [1.0, 1.0]}, fmean) == (0.0, 1.0)


def test_the_bootstrap_draws_clusters_and_not_values() -> None:
    """20 clusters of 0 or 1: the mean's deviation is sqrt(0.25 / 20) however large clusters are."""
    clusters = {str(i): [float(i % 2)] * 50 for i in range(20)}
    low, high = cluster_bootstrap(clusters, fmean)
    expected = 1.96 * np.sqrt(0.25 / 20)
    assert (low, high) == pytest.approx((0.5 - expected, 0.5 + expected), abs=0.04)


def paired(batch: int, moe: float, memory: float, spread: float = 0.0) -> PairedRow:
    """As measured and as predicted; intervals of plus and minus `spread`."""
    one = row(moe, moe, moe * (1 - spread), moe * (1 + spread))
    two = row(memory, memory, memory * (1 - spread), memory * (1 + spread))
    return PairedRow(batch=batch, moe=one, memory=two)


def test_who_wins() -> None:
    wrong = PairedRow(batch=1, moe=row(2, 1, None, None), memory=row(1, 2, None, None))
    assert (wrong.measured_ratio, wrong.predicted_ratio) == (2, 0.5)
    assert wrong.decided
    assert not wrong.named
    assert not paired(1, 1.04, 1).decided
    assert paired(1, 1, 1.06).decided
    assert paired(1, 1, 1.06).named


def test_a_crossover_lies_between_batches_on_logarithmic_axes() -> None:
    """ln ratio goes from -ln 2 to +ln 2 between batches 4 and 16: it is 0 at 8."""
    assert crossovers([1, 4, 16], [0.25, 0.5, 2.0]) == pytest.approx((8.0,))
    assert crossovers([1, 4], [2.0, 3.0]) == ()
    assert len(crossovers([1, 4, 16], [0.5, 2.0, 0.5])) == 2


def test_the_interval_of_a_crossover() -> None:
    exact = [paired(1, 1, 2), paired(8, 1, 2), paired(40, 2, 1)]
    assert crossover_interval(exact) == (8.0, 40.0)
    loose = [paired(1, 1, 2, 0.1), paired(8, 1, 1.1, 0.1), paired(40, 2, 1, 0.1)]
    assert crossover_interval(loose) == (1.0, 40.0)
    assert crossover_interval([paired(1, 1, 2), paired(8, 1, 2)]) is None
    without = PairedRow(batch=1, moe=row(1, 1, None, None), memory=row(1, 1, None, None))
    assert crossover_interval([without]) is None
