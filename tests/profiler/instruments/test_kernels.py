"""Kernels go to the leaf that was open when the host launched them, in traces made by hand."""

from dataclasses import dataclass

import pytest
from torch._C._autograd import DeviceType

from profiler.instruments.kernels import STEP_ANNOTATION, KernelSums, sums_by_path

PATHS = {"a", "b"}
NANO = 1e-9


@dataclass(frozen=True, kw_only=True)
class Event:
    """As a kineto event: methods, times in nanoseconds."""

    called: str
    start: int
    end: int
    correlation: int = 0
    on_gpu: bool = False
    annotation: bool = False

    def name(self) -> str:
        return self.called

    def device_type(self) -> DeviceType:
        return DeviceType.CUDA if self.on_gpu else DeviceType.CPU

    def correlation_id(self) -> int:
        return self.correlation

    def start_ns(self) -> int:
        return self.start

    def end_ns(self) -> int:
        return self.end

    def duration_ns(self) -> int:
        return self.end - self.start

    def is_user_annotation(self) -> bool:
        return self.annotation


def host(name: str, start: int, end: int) -> Event:
    """An annotation, as the host saw it."""
    return Event(called=name, start=start, end=end, annotation=True)


def work(
    correlation: int, *, launched: int, took: int, call: str = "cudaLaunchKernel", lag: int = 5000
) -> list[Event]:
    """A call of the host, and what the GPU did for it some time later."""
    begun = launched + lag
    return [
        Event(called=call, start=launched, end=launched + 3, correlation=correlation),
        Event(
            called="some kernel",
            start=begun,
            end=begun + took,
            correlation=correlation,
            on_gpu=True,
        ),
    ]


def sums(*events: Event | list[Event]) -> list[KernelSums]:
    flat = [each for group in events for each in (group if isinstance(group, list) else [group])]
    sums_of_steps = sums_by_path(flat, PATHS)
    assert sums_by_path(reversed(flat), PATHS) == sums_of_steps, "the order of a trace says nothing"
    return sums_of_steps


ONE = (host(STEP_ANNOTATION, 1000, 2000), host("a", 1100, 1200), host("b", 1300, 1400))


def test_a_kernel_belongs_to_the_leaf_that_launched_it_however_late_it_runs() -> None:
    (of_step,) = sums(
        *ONE,
        work(1, launched=1110, took=40, lag=220),  # runs while the host is in b
        work(2, launched=1120, took=60),
        work(3, launched=1310, took=7),
    )
    assert of_step.seconds == pytest.approx({"a": 100 * NANO, "b": 7 * NANO})
    assert of_step.launches == {"a": 2, "b": 1}
    assert (of_step.outside_seconds, of_step.outside_launches) == (0.0, 0)
    assert of_step.step_seconds == pytest.approx(107 * NANO)
    assert of_step.step_launches == 3


@pytest.mark.parametrize(
    ("launched", "leaf"),
    [(1099, None), (1100, "a"), (1200, "a"), (1201, None), (1300, "b"), (1400, "b"), (1401, None)],
)
def test_a_launch_on_a_border_is_within(launched: int, leaf: str | None) -> None:
    (of_step,) = sums(*ONE, work(1, launched=launched, took=9))
    assert of_step.launches == ({} if leaf is None else {leaf: 1})
    assert of_step.outside_launches == (1 if leaf is None else 0)
    assert of_step.step_seconds == pytest.approx(9 * NANO)


def test_where_leaves_touch_the_later_one_has_the_border() -> None:
    (of_step,) = sums(
        host(STEP_ANNOTATION, 0, 90),
        host("a", 10, 20),
        host("b", 20, 30),
        work(1, launched=20, took=1),
    )
    assert of_step.launches == {"b": 1}


def test_what_no_leaf_launched_is_the_steps_own() -> None:
    (of_step,) = sums(*ONE, work(1, launched=1250, took=30), work(2, launched=1000, took=20))
    assert of_step.seconds == {}
    assert of_step.outside_seconds == pytest.approx(50 * NANO)
    assert of_step.outside_launches == 2
    assert of_step.step_launches == 2


def test_what_no_step_launched_counts_nowhere() -> None:
    orphan = Event(called="left over", start=1150, end=1190, correlation=99, on_gpu=True)
    (of_step,) = sums(*ONE, work(1, launched=999, took=30), work(2, launched=2001, took=30), orphan)
    assert of_step == KernelSums()


def test_each_step_has_its_own_sums_in_the_order_of_time() -> None:
    first, second = sums(
        host(STEP_ANNOTATION, 3000, 4000),
        host("a", 3100, 3200),
        *ONE,
        work(1, launched=1150, took=10),
        work(2, launched=3150, took=30),
        work(3, launched=2500, took=50),  # between them
    )
    assert first.seconds == pytest.approx({"a": 10 * NANO})
    assert second.seconds == pytest.approx({"a": 30 * NANO})
    assert (first.step_launches, second.step_launches) == (1, 1)


@pytest.mark.parametrize(
    "call",
    [
        "cudaLaunchKernel",
        "cudaLaunchKernelExC",
        "cuLaunchKernel",
        "cuLaunchKernelEx",
        "cudaLaunchCooperativeKernel",
        "cudaMemcpyAsync",
        "cudaMemsetAsync",
        "cuMemcpyDtoDAsync_v2",
        "cuMemsetD32Async",
    ],
)
def test_kernels_copies_and_fills_count_alike(call: str) -> None:
    (of_step,) = sums(*ONE, work(1, launched=1150, took=8, call=call))
    assert of_step.launches == {"a": 1}


def test_a_leaf_as_the_gpu_shows_it_is_no_kernel() -> None:
    shown = Event(called="a", start=6000, end=6500, correlation=1, on_gpu=True, annotation=True)
    (of_step,) = sums(*ONE, work(1, launched=1150, took=8), shown)
    assert of_step.seconds == pytest.approx({"a": 8 * NANO})
    assert of_step.launches == {"a": 1}


def test_a_torch_operation_launches_nothing_itself() -> None:
    """Its number is of another sequence than that of launches, and may equal one."""
    operation = Event(called="aten::mm", start=1320, end=1330, correlation=1)
    (of_step,) = sums(*ONE, work(1, launched=1150, took=8), operation)
    assert of_step.launches == {"a": 1}


def test_a_trace_without_steps_has_no_sums() -> None:
    assert sums(work(1, launched=1150, took=8)) == []


def test_a_graphs_kernels_belong_to_the_leaf_that_replayed_it_and_keep_their_names() -> None:
    launch, first, second = (
        Event(called="cudaGraphLaunch", start=1110, end=1120, correlation=7),
        Event(called="gemm", start=5000, end=5300, correlation=7, on_gpu=True),
        Event(called="add", start=5300, end=5400, correlation=7, on_gpu=True),
    )
    (of_step,) = sums(*ONE, launch, first, second)
    assert of_step.seconds == {"a": pytest.approx(400 * NANO)}
    assert of_step.launches == {"a": 2}
    assert of_step.names == {"a": {"gemm": 1, "add": 1}}
