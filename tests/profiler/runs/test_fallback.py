"""Where CUPTI is refused: what ncu says, what GPM says, and what is missing and why."""

import getpass
import sys
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from costmodel.recordings.measured import Exact, Measured, Missing, Spread
from profiler.instruments.cupti import CounterError, PermissionRefusedError
from profiler.instruments.ncu import KernelMetrics, NcuProfile
from profiler.instruments.nvml import NvmlGpu
from profiler.runs import fallback
from profiler.runs.case import PreparedCase
from profiler.runs.fallback import counts_without_cupti, gpm_bytes
from tests.profiler.instruments.fake_nvml import NO_PERMISSION, PEAK_BYTES_PER_S, FakeGpu, FakeNvml
from tests.profiler.runs.cases import case_of

READ, WRITTEN = "dram__bytes_read.sum", "dram__bytes_write.sum"
BF16 = "sm__ops_path_tensor_src_bf16_dst_fp32.sum"
TF32 = "sm__ops_path_tensor_src_tf32_dst_fp32.sum"
BY_NCU = {"hbm_read_bytes", "hbm_written_bytes", "flops_tensor"}
QUEUE = 1000  # launches that CUDA takes before the host must wait


@pytest.fixture
def case() -> PreparedCase:
    return case_of("dense", dtype="bf16")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """A GPU whose time is also the host's, and torch's view of it."""
    fake = FakeGpu(step_s=0.004)

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at_s = max(fake.time_s, fake.end_s)

        def synchronize(self) -> None:
            fake.time_s = max(fake.time_s, self.at_s)

        def elapsed_time(self, later: "Event") -> float:
            assert fake.time_s >= later.at_s, "it has not happened yet"
            return (later.at_s - self.at_s) * 1e3

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", fake.synchronize)
    monkeypatch.setattr(fallback, "time", SimpleNamespace(perf_counter=lambda: fake.time_s))
    return FakeNvml(fake)


def gpu(nvml: FakeNvml) -> NvmlGpu:
    return NvmlGpu(nvml, "handle", frozenset())


def counted(
    case: PreparedCase, nvml: FakeNvml, refused: str = "the driver refused"
) -> dict[str, Measured]:
    def step() -> None:
        nvml.gpu.run(1)

    return counts_without_cupti(case, step, "the case", gpu(nvml), PermissionRefusedError(refused))


def kernel(read: float | None, written: float, flops: float, name: str = BF16) -> KernelMetrics:
    return KernelMetrics(name="k", values={READ: read, WRITTEN: written, name: flops})


def ncu_finds(monkeypatch: pytest.MonkeyPatch, *kernels: KernelMetrics) -> list[Sequence[str]]:
    """The commands that it was given."""
    commands: list[Sequence[str]] = []

    def profile(command: Sequence[str], *, metrics: Sequence[str], timeout_s: float) -> NcuProfile:
        assert set(metrics) == set(kernels[0].values)
        assert timeout_s < 600, "the profiler would take this worker for lost"
        commands.append(command)
        return NcuProfile(kernels=kernels)

    monkeypatch.setattr(fallback, "profile_command", profile)
    return commands


def ncu_fails(monkeypatch: pytest.MonkeyPatch, reason: str = "ncu is not on the PATH") -> None:
    def profile(*_: object, **__: object) -> NcuProfile:
        raise CounterError(reason)

    monkeypatch.setattr(fallback, "profile_command", profile)


def test_what_ncu_counts_of_all_kernels_is_the_steps(
    case: PreparedCase, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = ncu_finds(monkeypatch, kernel(4096.0, 128.0, 2e6), kernel(904.0, 0.0, 64.0))
    assert counted(case, nvml) == {
        "hbm_read_bytes": Exact(value=5000, source="ncu"),
        "hbm_written_bytes": Exact(value=128, source="ncu"),
        "flops_tensor": Exact(value=2_000_064, source="ncu"),
    }
    assert commands == [[sys.executable, "-m", "profiler.runs.ncu_step", "the case"]]
    assert nvml.gpu.busy == [], "GPM was not asked"


def test_products_of_float32_are_counted_as_tf32(
    nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None where TF32 is off, which is a count like any other."""
    for flops in (64, 0):
        ncu_finds(monkeypatch, kernel(1.0, 2.0, float(flops), TF32))
        quantity = counted(case_of("dense", dtype="fp32"), nvml)
        assert quantity["flops_tensor"] == Exact(value=flops, source="ncu")


def test_a_kernel_without_a_value_leaves_the_sum_unknown_and_the_others_known(
    case: PreparedCase, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    ncu_finds(monkeypatch, kernel(4096.0, 128.0, 64.0), kernel(None, 32.0, 64.0))
    assert counted(case, nvml) == {
        "hbm_read_bytes": Missing(reason="not measured (ncu gave no value for some kernel)"),
        "hbm_written_bytes": Exact(value=160, source="ncu"),
        "flops_tensor": Exact(value=128, source="ncu"),
    }


def test_without_ncu_gpm_gives_the_bytes_and_the_rest_says_both_reasons(
    case: PreparedCase, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    ncu_fails(monkeypatch)
    quantities = counted(case, nvml)
    reason = "not measured (CUPTI: the driver refused; ncu: ncu is not on the PATH)"
    assert {name: quantities[name] for name in BY_NCU} == dict.fromkeys(
        BY_NCU, Missing(reason=reason)
    )
    assert set(quantities) == BY_NCU | {"hbm_bytes"}
    assert isinstance(quantities["hbm_bytes"], Spread)
    assert quantities["hbm_bytes"].source == "nvml_gpm"


def test_long_reasons_are_cut_and_both_are_told(
    case: PreparedCase, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    ncu_fails(monkeypatch, "n" * 5000)
    quantity = counted(case, nvml, "c" * 5000)["flops_tensor"]
    assert isinstance(quantity, Missing)
    assert len(quantity.reason) == 600
    assert quantity.reason.startswith("not measured (CUPTI: ccc")
    assert "; ncu: nnn" in quantity.reason


def test_what_ncus_command_printed_is_told_without_who_and_where(
    case: PreparedCase, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    ncu_fails(monkeypatch, 'exit code 1:\n  File "/scratch/venv/torch.py"\nalice ran out of memory')
    quantity = counted(case, nvml)["flops_tensor"]
    assert quantity == Missing(
        reason="not measured (CUPTI: the driver refused;"
        ' ncu: exit code 1: File "[path]" [user] ran out of memory)'
    )


@pytest.mark.parametrize("step_s", [0.0001, 0.004, 0.3, 2.0])
def test_gpm_times_the_seconds_of_a_step_is_the_bytes_of_a_step(
    nvml: FakeNvml, step_s: float
) -> None:
    """Memory is half busy while a step runs, so an idle moment in a window would make it less."""
    fake = nvml.gpu
    fake.step_s = step_s
    waiting = 0.0

    def step() -> None:
        nonlocal waiting
        fake.run(1)
        waiting = max(waiting, (fake.end_s - fake.time_s) / step_s)

    step_bytes = gpm_bytes(step, gpu(nvml))
    assert isinstance(step_bytes, Spread)
    assert step_bytes.median == pytest.approx(0.5 * PEAK_BYTES_PER_S * step_s, rel=1e-5)
    assert waiting < QUEUE


def test_gpms_first_window_is_dropped_and_the_others_have_a_spread(nvml: FakeNvml) -> None:
    """Shares of the peak over steps of 4 ms; quartiles lie halfway between three readings.

    A window lasts as long as its steps, of which nearly 0.5 s are queued.
    """
    shares = [0.9, 0.2, 0.0, 0.6]
    metrics = nvml.answers["nvmlGpmMetricsGet"]

    def next_share(request: SimpleNamespace) -> SimpleNamespace:
        assert request.sample2.time_s - request.sample1.time_s > 0.4
        nvml.dram_share = shares.pop(0)
        step_bytes: SimpleNamespace = metrics(request)
        return step_bytes

    nvml.answers["nvmlGpmMetricsGet"] = next_share
    step_bytes = gpm_bytes(lambda: nvml.gpu.run(1), gpu(nvml))
    assert isinstance(step_bytes, Spread)
    assert (step_bytes.repeats, step_bytes.source, shares) == (3, "nvml_gpm", [])
    peak = PEAK_BYTES_PER_S * 0.004
    wanted = [0.1 * peak, 0.2 * peak, 0.4 * peak]
    assert [step_bytes.q1, step_bytes.median, step_bytes.q3] == pytest.approx(wanted, rel=1e-5)


def test_a_gpu_without_gpm_says_so(
    case: PreparedCase, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    ncu_fails(monkeypatch)
    nvml.gpm = False
    quantity = counted(case, nvml)["hbm_bytes"]
    assert quantity == Missing(reason="not measured (this GPU has no GPM)")


def test_a_refusal_of_nvml_says_so(
    case: PreparedCase, nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    ncu_fails(monkeypatch)
    nvml.failing["nvmlGpmSampleGet"] = NO_PERMISSION
    reason = "the driver refused the permission to read the GPU through NVML"
    assert counted(case, nvml)["hbm_bytes"] == Missing(reason=f"not measured ({reason})")
    assert nvml.samples == 0
