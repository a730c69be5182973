"""Counters of ranges: the right values under the right names, and nothing held after a failure."""

from collections.abc import Callable

import pytest

from profiler.instruments.cupti import (
    CounterError,
    CountersBusyError,
    DeviceLostError,
    PermissionRefusedError,
    UnknownMetricError,
)
from profiler.instruments.cupti_structs import PARAMETERS
from profiler.instruments.ranges import Enter, RangeCounters
from tests.profiler.instruments.fake_cupti import FakeCupti
from tests.profiler.instruments.fake_gpu import BF16, DURATION, LINE, READ, WRITTEN

METRICS = (READ, WRITTEN, BF16, DURATION)
RELEASES = {"cuptiRangeProfilerDisable", "cuptiProfilerHostDeinitialize"}


def two_ranges(fake: FakeCupti) -> Callable[[Enter], None]:
    """Reads 3 cold lines and multiplies, then reads 2 cold lines; 50 more FLOPs in between."""

    def step(range_: Enter) -> None:
        fake.gpu.wait()
        with range_("layers.0.ffn"):
            fake.gpu.read(f"a{len(fake.calls)}", 3)
            fake.gpu.multiply(700)
        fake.gpu.multiply(50)
        with range_("layers.1.ffn"):
            fake.gpu.read(f"b{len(fake.calls)}", 2)

    return step


@pytest.mark.parametrize("passes", [1, 2, 4])
def test_values_stand_under_their_range_and_metric_after_as_many_replays_as_passes(
    passes: int,
) -> None:
    fake = FakeCupti(passes=passes)
    runs = []

    def step(range_: Enter) -> None:
        runs.append(1)
        two_ranges(fake)(range_)

    with RangeCounters(METRICS, max_ranges=2, library=fake) as counters:
        assert counters.passes == passes
        first, second = counters.collect(step)
    assert len(runs) == passes
    assert (first.name, second.name) == ("layers.0.ffn", "layers.1.ffn")
    assert first.values == {READ: 3 * LINE, WRITTEN: 0, BF16: 700, DURATION: 3000}
    assert second.values == {READ: 2 * LINE, WRITTEN: 0, BF16: 0, DURATION: 2000}
    assert fake.held == set()


def test_ranges_of_one_name_stay_apart() -> None:
    fake = FakeCupti()

    def step(range_: Enter) -> None:
        for flops in (10, 20, 30):
            with range_("leaf"):
                fake.gpu.multiply(flops)

    with RangeCounters([BF16], max_ranges=8, library=fake) as counters:
        ranges = counters.collect(step)
    assert [(each.name, each.values[BF16]) for each in ranges] == [
        ("leaf", 10),
        ("leaf", 20),
        ("leaf", 30),
    ]


def test_many_collections_share_one_set_up_and_start_afresh() -> None:
    fake = FakeCupti()
    with RangeCounters(METRICS, max_ranges=2, library=fake) as counters:
        collected = [counters.collect(two_ranges(fake)) for _ in range(5)]
    assert all(each == collected[0] for each in collected)
    once = ("cuptiProfilerHostInitialize", "cuptiRangeProfilerEnable", *RELEASES)
    assert [fake.calls.count(name) for name in once] == [1, 1, 1, 1]


def test_one_range_too_many_is_refused_by_name() -> None:
    fake = FakeCupti()
    with (
        pytest.raises(CounterError, match=r"'layers\.1\.ffn' is one more than max_ranges=1"),
        RangeCounters(METRICS, max_ranges=1, library=fake) as counters,
    ):
        counters.collect(two_ranges(fake))
    assert fake.held == set()


@pytest.mark.parametrize(("dropping", "admitting"), [(1, 1), (1, 0), (0, 1)])
def test_a_lost_range_is_an_error_whether_cupti_admits_it_or_not(
    dropping: int, admitting: int
) -> None:
    fake = FakeCupti(dropping=dropping, admitting=admitting)
    told = f"{2 - dropping} of the 2 ranges and dropped {admitting}"
    with (
        pytest.raises(CounterError, match=told),
        RangeCounters(METRICS, max_ranges=2, library=fake) as counters,
    ):
        counters.collect(two_ranges(fake))
    assert fake.held == set()


def test_a_nested_range_is_an_error() -> None:
    fake = FakeCupti()

    def step(range_: Enter) -> None:
        with range_("outer"), range_("inner"):
            pass

    with (
        pytest.raises(CounterError, match="PushRange"),
        RangeCounters(METRICS, max_ranges=2, library=fake) as counters,
    ):
        counters.collect(step)
    assert fake.held == set()


def test_a_step_that_does_something_else_when_run_again_is_an_error() -> None:
    fake, names = FakeCupti(passes=2), iter(["one", "other"])

    def step(range_: Enter) -> None:
        with range_(next(names)):
            pass

    with (
        pytest.raises(CounterError, match="other ranges when it was run again"),
        RangeCounters(METRICS, max_ranges=2, library=fake) as counters,
    ):
        counters.collect(step)


def test_a_library_that_never_has_enough_passes_does_not_hang() -> None:
    fake = FakeCupti(passes=1)
    with RangeCounters(METRICS, max_ranges=2, library=fake) as counters:
        fake._passes = 99
        with pytest.raises(CounterError, match="more than the 1 passes"):
            counters.collect(two_ranges(fake))


def test_a_value_that_is_no_count_is_an_error() -> None:
    fake = FakeCupti()

    def step(range_: Enter) -> None:
        with range_("leaf"):
            fake.gpu.multiply(-1)

    with (
        pytest.raises(CounterError, match=f"CUPTI gives -1.0 for {BF16}"),
        RangeCounters([BF16], max_ranges=1, library=fake) as counters,
    ):
        counters.collect(step)


@pytest.mark.parametrize("function", ["cuptiRangeProfilerEnable", "cuptiRangeProfilerStart"])
def test_a_refused_permission_is_told_wherever_the_driver_refuses_it(function: str) -> None:
    fake = FakeCupti(failing={function: 35})
    with (
        pytest.raises(PermissionRefusedError, match="administrators"),
        RangeCounters(METRICS, max_ranges=2, library=fake) as counters,
    ):
        counters.collect(two_ranges(fake))
    assert fake.held == set()


def test_busy_counters_are_told() -> None:
    fake = FakeCupti(failing={"cuptiRangeProfilerEnable": 26})
    with pytest.raises(CountersBusyError, match="another profiler"):
        RangeCounters(METRICS, max_ranges=2, library=fake)
    assert fake.held == set()


def test_an_unknown_metric_is_named_and_the_host_object_given_back() -> None:
    fake = FakeCupti(known=[READ, WRITTEN])
    with pytest.raises(UnknownMetricError, match=rf"\(GH100\) has no metric '{BF16}'"):
        RangeCounters(METRICS, max_ranges=2, library=fake)
    assert fake.calls[-1] == "cuptiProfilerHostDeinitialize"
    assert fake.held == set()


@pytest.mark.parametrize("function", sorted(set(PARAMETERS) - RELEASES))
def test_whichever_call_fails_everything_is_given_back(function: str) -> None:
    fake = FakeCupti(failing={function: 999}, passes=2)
    with (
        pytest.raises(CounterError, match=function),
        RangeCounters(METRICS, max_ranges=2, library=fake) as counters,
    ):
        counters.collect(two_ranges(fake))
    assert fake.held == set()
    pushes, pops = (fake.calls.count(f"cuptiRangeProfiler{name}Range") for name in ("Push", "Pop"))
    assert pushes - pops == (function == "cuptiRangeProfilerPushRange")


@pytest.mark.parametrize("function", sorted(RELEASES))
def test_a_release_that_fails_is_told_and_the_other_still_tried(function: str) -> None:
    fake = FakeCupti(failing={function: 999})
    with (
        pytest.raises(CounterError, match=function),
        RangeCounters(METRICS, max_ranges=2, library=fake),
    ):
        pass
    assert set(fake.calls) >= RELEASES


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("inside", [True, False])
def test_an_error_of_the_step_passes_through_and_everything_is_given_back(
    error: type[BaseException], *, inside: bool
) -> None:
    fake = FakeCupti()

    def step(range_: Enter) -> None:
        with range_("leaf"):
            if inside:
                raise error("of the step")
        raise error("of the step")

    with (
        pytest.raises(error, match="of the step"),
        RangeCounters(METRICS, max_ranges=2, library=fake) as counters,
    ):
        counters.collect(step)
    assert fake.held == set()
    ends = ["PopRange", "Stop", "Disable"]
    expected = [f"cuptiRangeProfiler{end}" for end in ends] + ["cuptiProfilerHostDeinitialize"]
    assert fake.calls[-4:] == expected


def test_after_a_failed_step_the_counters_can_be_used_again() -> None:
    fake = FakeCupti(passes=2)

    def failing(range_: Enter) -> None:
        with range_("leaf"):
            raise ValueError

    with RangeCounters(METRICS, max_ranges=2, library=fake) as counters:
        with pytest.raises(ValueError):  # noqa: PT011 - it carries no message
            counters.collect(failing)
        assert [each.values[BF16] for each in counters.collect(two_ranges(fake))] == [700, 0]


def test_a_device_lost_at_any_moment_is_told_and_everything_is_tried_to_be_given_back() -> None:
    whole = FakeCupti(passes=2)
    with RangeCounters(METRICS, max_ranges=2, library=whole) as counters:
        counters.collect(two_ranges(whole))
    for moment in range(len(whole.calls)):
        fake = FakeCupti(passes=2, lost_after=moment)
        with (
            pytest.raises(DeviceLostError, match="CUDA_ERROR_LAUNCH_FAILED"),
            RangeCounters(METRICS, max_ranges=2, library=fake) as counters,
        ):
            counters.collect(two_ranges(fake))
        made = {
            "cuptiProfilerHostDeinitialize": "cuptiProfilerHostInitialize",
            "cuptiRangeProfilerDisable": "cuptiRangeProfilerEnable",
            "cuptiRangeProfilerStop": "cuptiRangeProfilerStart",
            "cuptiRangeProfilerPopRange": "cuptiRangeProfilerPushRange",
        }
        for end, begin in made.items():
            assert fake.calls.count(end) == fake.calls[:moment].count(begin)
