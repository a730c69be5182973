"""The self-check: the work it does is the work it claims, and a failure is a check that says so.

The work runs on the meta device; the fake counters count, from shapes, what is really asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from profiler.instruments.cupti import PermissionRefusedError
from profiler.instruments.flush import L2Flush
from profiler.instruments.nvml import NvmlGpu
from profiler.runs.self_check import counter_checks, energy_checks, host_check
from tests.profiler.instruments.fake_nvml import GPU_IS_LOST, NOT_SUPPORTED, FakeGpu, FakeNvml


@pytest.fixture(autouse=True)
def h200(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    properties = SimpleNamespace(L2_cache_size=60 * 2**20)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    return properties


class Traffic(TorchDispatchMode):
    """Bytes that operations must read and write, each operand once."""

    def __init__(self) -> None:
        super().__init__()
        self.read_bytes = 0
        self.written_bytes = 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> Tensor:
        del types
        out: Tensor = func(*args, **(kwargs or {}))
        operands = [one for one in args if isinstance(one, Tensor)]
        if func is torch.ops.aten.copy_.default:
            operands = operands[1:]  # the first is written
        if not func.is_view:
            self.read_bytes += sum(one.nbytes for one in operands)
            self.written_bytes += out.nbytes
        return out


@dataclass
class FakeCounters:
    """Counts bytes off by factors, and FLOPs by some."""

    read_factor: float = 1.0
    settled_factor: float = 1.0
    padding_flops: int = 0
    refused: bool = False
    flushes: int = 0

    def step(self, run: Callable[[], object], *, flush: Callable[[], object]) -> SimpleNamespace:
        if self.refused:
            raise PermissionRefusedError("only administrators may read counters")
        flush()
        self.flushes += 1
        with FlopCounterMode(display=False) as flops, Traffic() as traffic:
            run()
        return SimpleNamespace(
            hbm_read_bytes=traffic.read_bytes * self.read_factor,
            hbm_settled_bytes=traffic.written_bytes * self.settled_factor,
            tensor_flops=flops.get_total_flops() + self.padding_flops,
        )


def test_the_work_is_what_the_checks_claim_of_it() -> None:
    counters = FakeCounters()
    checks = {check.name: check for check in counter_checks(counters, "meta")}
    known = {name: (check.known, check.tolerance) for name, check in checks.items()}
    assert known == {
        "copy: bytes read": (1_073_741_824, 0.01),
        "copy: bytes written": (1_073_741_824, 0.01),
        "streaming linear: bytes read": (469_762_048, 0.01),  # 28672 x 8192 x 2
        "square GEMM: tensor FLOPs": (137_438_953_472, 0),  # 2 x 4096^3
    }
    assert all(check.passed for check in checks.values())
    assert checks["copy: bytes read"].measured == 2**30
    # the weight, and the 16384 bytes of one token
    assert checks["streaming linear: bytes read"].measured == 469_762_048 + 16_384
    assert counters.flushes == 4


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_bytes_off_by_two_percent_fail(factor: float) -> None:
    checks = counter_checks(FakeCounters(read_factor=factor), "meta")
    assert [check.passed for check in checks] == [False, True, False, True]
    checks = counter_checks(FakeCounters(settled_factor=factor), "meta")
    assert [check.passed for check in checks] == [True, False, True, True]


def test_tensor_flops_are_exact_or_fail() -> None:
    *of_bytes, of_flops = counter_checks(FakeCounters(padding_flops=1), "meta")
    assert all(check.passed for check in of_bytes)
    assert of_flops.passed is False


def test_refused_counters_are_checks_without_numbers() -> None:
    checks = counter_checks(FakeCounters(refused=True), "meta")
    assert len(checks) == 4
    for check in checks:
        assert (check.measured, check.passed) == (None, None)
        assert check.reason == "only administrators may read counters"


def test_a_gpu_without_a_tensor_counter_still_checks_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    step = FakeCounters.step

    def without_flops(
        self: FakeCounters, run: Callable[[], object], *, flush: Callable[[], object]
    ) -> SimpleNamespace:
        counts = step(self, run, flush=flush)
        counts.tensor_flops = None
        return counts

    monkeypatch.setattr(FakeCounters, "step", without_flops)
    *of_bytes, of_flops = counter_checks(FakeCounters(), "meta")
    assert all(check.passed for check in of_bytes)
    assert of_flops.reason == "this GPU has no such counter"


@pytest.mark.parametrize(("l2_mib", "mib"), [(4, 256), (60, 256), (128, 512)])
def test_a_flush_reads_four_times_l2_and_leaves_nothing_to_write(
    h200: SimpleNamespace, l2_mib: int, mib: int
) -> None:
    h200.L2_cache_size = l2_mib * 2**20
    flush = L2Flush("meta")
    with Traffic() as traffic:
        flush()
    assert traffic.read_bytes == mib * 2**20 == flush.nbytes
    assert traffic.written_bytes == 4


def power_checks(nvml: FakeNvml) -> list[tuple[float | None, bool | None, str | None]]:
    """Checks of loops whose steps are those of the fake GPU."""
    fake = nvml.gpu
    checks = energy_checks(
        NvmlGpu(nvml, "handle", frozenset()),
        "meta",
        synchronize=fake.synchronize,
        mark=fake.mark,
        clock=fake.clock(),
    )
    assert [check.name for check in checks] == [
        "copy loop: counter power over power readings",
        "GEMM loop: counter power over power readings",
    ]
    assert {(check.known, check.tolerance) for check in checks} == {(1.0, 0.03)}
    return [(check.measured, check.passed, check.reason) for check in checks]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """A GPU on which every copy and every product takes a step."""
    fake = FakeNvml(FakeGpu())

    def repeated(step: Callable[[], object]) -> Callable[[int], None]:
        def run(times: int) -> None:
            step()
            fake.gpu.run(times)

        return run

    monkeypatch.setattr("profiler.runs.self_check._repeated", repeated)
    return fake


def test_counter_and_power_readings_agree(nvml: FakeNvml) -> None:
    for measured, passed, _ in power_checks(nvml):
        assert measured == pytest.approx(1.0, rel=0.005)
        assert passed


def test_an_energy_counter_that_is_four_percent_off_fails(nvml: FakeNvml) -> None:
    true = nvml.energy_mj
    nvml.energy_mj = lambda: int(true() * 1.04)
    for measured, passed, _ in power_checks(nvml):
        assert measured == pytest.approx(1.04, rel=0.005)
        assert passed is False


@pytest.mark.parametrize(
    ("question", "code", "words"),
    [
        ("nvmlDeviceGetTotalEnergyConsumption", NOT_SUPPORTED, "no energy counter"),
        ("nvmlDeviceGetTotalEnergyConsumption", GPU_IS_LOST, "the GPU is lost"),
        ("nvmlDeviceGetTotalEnergyConsumption", 4, "refused the permission"),
        ("nvmlDeviceGetFieldValues", GPU_IS_LOST, "the GPU is lost"),
    ],
)
def test_energy_that_cannot_be_read_is_a_check_with_the_reason(
    nvml: FakeNvml, question: str, code: int, words: str
) -> None:
    nvml.failing[question] = code
    for measured, _, reason in power_checks(nvml):
        assert measured is None
        assert words in str(reason)


def test_without_power_readings_there_is_nothing_to_compare_with(nvml: FakeNvml) -> None:
    nvml.failing = {"nvmlDeviceGetFieldValues": NOT_SUPPORTED, "nvmlDeviceGetPowerUsage": 3}
    assert power_checks(nvml) == [(None, None, "this GPU has no power reading")] * 2


def test_the_rows_of_the_gather_touch_the_sectors_that_the_check_knows() -> None:
    """Sector by sector, of the rows that are really read: none is shared by two of them."""

    class Sectors(TorchDispatchMode):
        bytes = 0

        def __torch_dispatch__(
            self,
            func: OpOverload,
            types: object,
            args: tuple[object, ...] = (),
            kwargs: dict[str, object] | None = None,
        ) -> Tensor:
            del types
            if func is torch.ops.aten.embedding.default:
                table, rows = args
                assert isinstance(table, Tensor)
                assert isinstance(rows, Tensor)
                first = rows * table[0].nbytes
                touched = [(first + byte) // 32 for byte in range(0, table[0].nbytes, 8)]
                self.bytes = 32 * int(torch.cat(touched).unique().numel())
            out: Tensor = func(*args, **(kwargs or {}))
            return out

    class Counters:
        def step(self, run: Callable[[], object], *, flush: Callable[[], object]) -> Any:  # noqa: ANN401
            del flush
            with Sectors() as sectors:
                run()
            return SimpleNamespace(host_read_bytes=sectors.bytes)

    check = host_check(Counters(), "cpu")
    assert check.known == check.measured == 7_077_888  # 24,576 rows x 9 sectors x 32 bytes
    assert host_check(FakeCounters(refused=True), "cpu").reason is not None
