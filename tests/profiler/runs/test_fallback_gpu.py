"""On a real GPU: ncu and GPM see what CUPTI sees."""

import time

import pytest
import torch

from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.measured import Exact, Missing, Spread
from profiler.instruments.counters import HardwareCounters
from profiler.instruments.cupti import CounterError, PermissionRefusedError
from profiler.instruments.flush import L2Flush
from profiler.instruments.nvml import open_gpu
from profiler.runs.case import PreparedCase
from profiler.runs.fallback import counts_without_cupti, gpm_bytes
from profiler.runs.ncu_step import Spec, spec_text
from reference_model.model import build_model
from tests.profiler.session.test_gpu import MODELS, SEED

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

WORK = CaseWorkload(
    phase="decode", batch=64, context=2048, new_tokens=1, dtype="bf16", routing="uniform"
)


@pytest.fixture(scope="module")
def case() -> PreparedCase:
    return PreparedCase(build_model(MODELS["dense"], device="cuda").fold(), WORK, SEED)


def counted(case: PreparedCase) -> tuple[int, int | None]:
    """Bytes and tensor FLOPs by CUPTI, in process."""
    try:
        with HardwareCounters(dtype="bf16", max_ranges=3) as counters:
            case.run()
            counts = counters.step(case.run, flush=L2Flush())
    except CounterError as error:
        pytest.skip(f"no counters here: {error}")
    return counts.hbm_read_bytes, counts.tensor_flops


def test_ncu_reads_as_cupti_does(case: PreparedCase) -> None:
    spec = Spec(
        schema_version=1,
        model=MODELS["dense"],
        weights_seed=0,
        workload=WORK,
        seed=SEED,
        backend="torch",
    )
    started = time.perf_counter()
    quantities = counts_without_cupti(
        case, case.run, spec_text(spec), open_gpu(), PermissionRefusedError("as if refused")
    )
    print(f"{time.perf_counter() - started:.1f} s: {quantities}")
    read, flops = quantities["hbm_read_bytes"], quantities["flops_tensor"]
    assert isinstance(read, Exact), read
    assert isinstance(flops, Exact), flops
    want_read, want_flops = counted(case)
    assert read.value == pytest.approx(want_read, rel=0.05)  # L2 is as the kernel before leaves it
    assert flops.value == want_flops


def test_gpm_sees_a_steady_load(case: PreparedCase) -> None:
    step_bytes = gpm_bytes(case.captured(), open_gpu())
    print(step_bytes)
    if isinstance(step_bytes, Missing):
        pytest.skip(step_bytes.reason)
    assert isinstance(step_bytes, Spread)
    want, _ = counted(case)
    assert step_bytes.median == pytest.approx(want, rel=0.1)
