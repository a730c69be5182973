"""What is charged to whom: bytes and FLOPs of work on a GPU whose L2 can be followed by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from costmodel.recordings.case_workload import Dtype
from profiler.instruments import cupti
from profiler.instruments.counters import HOST_SECTORS, HardwareCounters, RangeCounts
from profiler.instruments.cupti import CounterError, UnknownMetricError
from profiler.instruments.ranges import Enter
from tests.profiler.instruments.fake_cupti import FakeCupti, Struct
from tests.profiler.instruments.fake_gpu import BF16, DURATION, LINE, READ, TF32, WRITTEN

LIBRARY = Path("/usr/local/cuda-13.0/lib/libcupti.so.13")
Flush = Literal["reading", "writing"]


def flush_of(fake: FakeCupti, kind: Flush) -> Callable[[], None]:
    """Four times the L2 of eight lines, read or written."""
    move = fake.gpu.read if kind == "reading" else fake.gpu.write
    return lambda: move("flush", 32)


def test_a_step_is_charged_its_reads_and_what_left_l2_and_settles_to_all_its_writes() -> None:
    fake = FakeCupti()

    def run() -> None:
        fake.gpu.read("weights", 5)
        fake.gpu.write("output", 10)
        fake.gpu.multiply(123, BF16)
        fake.gpu.multiply(99, TF32)

    fake.gpu.write("of earlier work", 8)
    with HardwareCounters(dtype="bf16", max_ranges=3, library=fake) as counters:
        counted = counters.step(run, flush=flush_of(fake, "reading"))
    # Of ten lines written, the last eight are in L2 when the step ends.
    assert counted == RangeCounts(
        hbm_read_bytes=5 * LINE,
        hbm_written_bytes=2 * LINE,
        hbm_settled_bytes=10 * LINE,
        tensor_flops=123,
        duration_s=15_000 * 1e-9,  # the fake GPU takes 1000 ns for a line
    )
    assert fake.held == set()


@pytest.mark.parametrize("kind", ["reading", "writing"])
@pytest.mark.parametrize("lines", [0, 3, 8, 20])
def test_settled_bytes_are_the_step_s_own_whatever_the_flush_does(kind: Flush, lines: int) -> None:
    fake = FakeCupti(passes=2)
    with HardwareCounters(dtype="bf16", max_ranges=3, library=fake) as counters:
        counted = counters.step(lambda: fake.gpu.write("output", lines), flush=flush_of(fake, kind))
    assert counted.hbm_settled_bytes == lines * LINE
    if kind == "writing":  # the dirty lines of the flush are charged to the step that pushes them
        assert counted.hbm_written_bytes == lines * LINE
    else:
        assert counted.hbm_written_bytes == max(0, lines - 8) * LINE


def test_every_run_of_a_step_reads_cold_operands() -> None:
    fake = FakeCupti()
    with HardwareCounters(dtype="bf16", max_ranges=3, library=fake) as counters:
        counted = [
            counters.step(lambda: fake.gpu.read("weights", 4), flush=flush_of(fake, "reading"))
            for _ in range(3)
        ]
    assert [each.hbm_read_bytes for each in counted] == [4 * LINE] * 3


def test_ranges_are_charged_in_order_with_l2_as_their_neighbours_leave_it() -> None:
    fake = FakeCupti()

    def step(range_: Enter) -> None:
        with range_("layers.0.norm"):
            fake.gpu.read("x", 2)
            fake.gpu.write("y", 2)
        with range_("layers.0.ffn"):
            fake.gpu.read("y", 2)  # still in L2
            fake.gpu.read("weights", 7)  # pushes out both lines of x and one of y
            fake.gpu.multiply(64)

    with HardwareCounters(dtype="bf16", max_ranges=2, library=fake) as counters:
        (first, norm), (second, ffn) = counters.ranges(step)
    assert (first, second) == ("layers.0.norm", "layers.0.ffn")
    assert (norm.hbm_read_bytes, norm.hbm_written_bytes) == (2 * LINE, 0)
    assert (ffn.hbm_read_bytes, ffn.hbm_written_bytes) == (7 * LINE, LINE)
    assert (norm.tensor_flops, ffn.tensor_flops) == (0, 64)
    assert norm.hbm_settled_bytes is None


def test_fp32_counts_the_tensor_flops_of_tf32() -> None:
    fake = FakeCupti()

    def run() -> None:
        fake.gpu.multiply(11, BF16)
        fake.gpu.multiply(22, TF32)

    with HardwareCounters(dtype="fp32", max_ranges=3, library=fake) as counters:
        assert counters.step(run, flush=flush_of(fake, "reading")).tensor_flops == 22


def test_a_chip_without_the_tensor_counter_still_counts_bytes() -> None:
    fake = FakeCupti(known=[READ, WRITTEN, DURATION])
    with HardwareCounters(dtype="bf16", max_ranges=3, library=fake) as counters:
        counted = counters.step(
            lambda: fake.gpu.read("weights", 4), flush=flush_of(fake, "reading")
        )
    assert counted.tensor_flops is None
    assert counted.hbm_read_bytes == 4 * LINE
    assert fake.calls.count("cuptiProfilerHostDeinitialize") == 2
    assert fake.held == set()


def test_a_chip_without_counters_of_its_memory_is_refused() -> None:
    fake = FakeCupti(known=[DURATION, BF16])
    with pytest.raises(UnknownMetricError, match=READ):
        HardwareCounters(dtype="bf16", max_ranges=3, library=fake)
    assert fake.held == set()


def test_host_memory_is_counted_in_sectors_where_it_is_asked_for() -> None:
    fake = FakeCupti(known=[READ, WRITTEN, DURATION, BF16, TF32, HOST_SECTORS])

    def run() -> None:
        fake.gpu.multiply(9, HOST_SECTORS)

    for host, want in ((True, 9 * 32), (False, None)):
        with HardwareCounters(dtype="bf16", max_ranges=3, host=host, library=fake) as counters:
            assert counters.step(run, flush=flush_of(fake, "reading")).host_read_bytes == want
    with pytest.raises(UnknownMetricError, match=HOST_SECTORS):
        HardwareCounters(dtype="bf16", max_ranges=3, host=True, library=FakeCupti())


def test_a_step_needs_three_ranges() -> None:
    fake = FakeCupti()
    with (
        pytest.raises(CounterError, match="'flush after' is one more than max_ranges=2"),
        HardwareCounters(dtype="bf16", max_ranges=2, library=fake) as counters,
    ):
        counters.step(lambda: None, flush=flush_of(fake, "reading"))
    assert fake.held == set()


class RealHost(FakeCupti):
    """NVIDIA's library answers what needs no GPU: which metrics a chip has, and their passes."""

    def __init__(self, chip: bytes) -> None:
        super().__init__()
        self._chip_name = chip
        self._real = cupti._opened(str(LIBRARY))

    def _cupti(self, name: str, pointer: Struct) -> int:
        if name == "cuptiDeviceGetChipName":
            pointer.contents.pChipName = self._chip_name
            return 0
        if not name.startswith("cuptiProfilerHost"):
            return super()._cupti(name, pointer)
        if name == "cuptiProfilerHostConfigAddMetrics":
            self._add(pointer.contents)  # the fake wants to see them again
        code: int = getattr(self._real, name)(pointer)
        return code


needs_library = pytest.mark.skipif(not LIBRARY.exists(), reason="needs CUPTI of CUDA 13.0")


@needs_library
@pytest.mark.parametrize(
    ("chip", "dtype", "passes"),
    [
        (b"GH100", "bf16", 1),
        (b"GH100", "fp32", 1),
        (b"GA100", "bf16", 1),
        (b"GB100", "bf16", 1),
        (b"GB100", "fp32", 2),
    ],
)
def test_nvidia_s_library_has_every_metric_of_data_centre_chips(
    chip: bytes, dtype: Dtype, passes: int
) -> None:
    with HardwareCounters(dtype=dtype, max_ranges=3, library=RealHost(chip)) as counters:
        assert counters._ranges.passes == passes
        assert counters._tensor is not None


@needs_library
def test_nvidia_s_library_has_no_tensor_counter_of_bf16_before_ampere() -> None:
    with HardwareCounters(dtype="bf16", max_ranges=3, library=RealHost(b"TU102")) as counters:
        assert counters._tensor is None


@needs_library
def test_nvidia_s_library_names_the_unknown_metric_and_the_unknown_chip() -> None:
    with pytest.raises(UnknownMetricError, match=rf"\(GB202\) has no metric '{READ}'"):
        HardwareCounters(dtype="bf16", max_ranges=3, library=RealHost(b"GB202"))
    with pytest.raises(cupti.CountersUnavailableError, match="does not know the GPU"):
        HardwareCounters(dtype="bf16", max_ranges=3, library=RealHost(b"XY100"))
