"""Self-checks: known work, measured to see how far counters and power readings can be trusted.

Operands are random, since zeros run faster and draw less power. A measurement that fails gives a
check without a number, with the reason.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear

from costmodel.recordings.measured import Missing
from costmodel.recordings.recording import Check
from costmodel.routing.sectors import SECTOR_BYTES
from profiler.instruments.cupti import CounterError
from profiler.instruments.energy import Clock, Mark, cuda_mark, measure_energy
from profiler.instruments.flush import L2Flush
from profiler.instruments.nvml import NvmlError, NvmlGpu
from reference_model.value_tables import placed, row_values

COPY_BYTES = 2**30
STREAMED_ROWS, STREAMED_COLUMNS = 28672, 8192  # of a weight that multiplies one token
GEMM = 4096  # rows and columns
HOST_ROWS, HOST_ROW_BYTES = 24_576, 264  # read of a table of 21 times as many
HOST_TABLE_ROWS = 2**19
HOST_ROW_SECTORS = 9  # wherever a row of 264 bytes begins, at a multiple of 8 bytes
BYTES_TOLERANCE = 0.01
POWER_TOLERANCE = 0.03
NO_COUNTER = "this GPU has no such counter"


class StepCounts(Protocol):
    """Counts of a step; None where the GPU has no such counter."""

    @property
    def hbm_read_bytes(self) -> float | None: ...  # noqa: D102 - names say it
    @property
    def hbm_settled_bytes(self) -> float | None: ...  # noqa: D102
    @property
    def tensor_flops(self) -> float | None: ...  # noqa: D102
    @property
    def host_read_bytes(self) -> float | None: ...  # noqa: D102


class StepCounters(Protocol):
    """What counts a step, such as `profiler.instruments.counters.HardwareCounters`."""

    def step(self, run: Callable[[], object], *, flush: Callable[[], object]) -> StepCounts:
        """Count `run`; `flush` empties L2 before and after it."""


def counter_checks(counters: StepCounters, device: torch.device | str) -> tuple[Check, ...]:
    """Count a copy, a product of one token with a large weight, and a square product, in bf16.

    Bytes that the copy wrote include those that leave L2 after its end.
    """
    flush = L2Flush(device)
    checks = []
    copy = copying(device)
    for name, run, field, known, tolerance in (
        ("copy: bytes read", copy, "hbm_read_bytes", COPY_BYTES, BYTES_TOLERANCE),
        ("copy: bytes written", copy, "hbm_settled_bytes", COPY_BYTES, BYTES_TOLERANCE),
        (
            "streaming linear: bytes read",
            _streaming(device),
            "hbm_read_bytes",
            STREAMED_ROWS * STREAMED_COLUMNS * torch.bfloat16.itemsize,
            BYTES_TOLERANCE,
        ),
        ("square GEMM: tensor FLOPs", multiplying(device), "tensor_flops", 2 * GEMM**3, 0.0),
    ):
        measured, reason = None, NO_COUNTER
        try:
            run()  # libraries load and choose their kernels before the count
            measured = getattr(counters.step(run, flush=flush), field)
        except CounterError as error:
            reason = str(error)
        checks.append(_check(name, known=known, measured=measured, tol=tolerance, reason=reason))
    return tuple(checks)


def host_check(counters: StepCounters, device: torch.device | str) -> Check:
    """Count a gather of rows from a table in pinned host memory.

    No two of the rows stand side by side, so that they share no sector: a row of 264 bytes begins
    at byte 0, 8, 16 or 24 of a sector of 32 bytes, and touches 9 of them.
    """
    measured, reason = None, NO_COUNTER
    try:
        gather = _gather(device)
        gather()
        measured = counters.step(gather, flush=L2Flush(device)).host_read_bytes
    except CounterError as error:
        reason = str(error)
    return _check(
        "gather of rows from host memory: bytes over the link",
        known=HOST_ROWS * HOST_ROW_SECTORS * SECTOR_BYTES,
        measured=measured,
        tol=BYTES_TOLERANCE,
        reason=reason,
    )


def energy_checks(
    gpu: NvmlGpu,
    device: torch.device | str = "cuda",
    *,
    synchronize: Callable[[], object] = torch.cuda.synchronize,
    mark: Callable[[], Mark] = cuda_mark,
    clock: Clock | None = None,
) -> tuple[Check, ...]:
    """Divide mean power by the energy counter by the mean of power readings, over two loops.

    The loops repeat a copy and a matrix product. The ratio should be 1.
    """
    checks = []
    for name, make in (("copy", copying), ("GEMM", multiplying)):
        measured, reason = None, "this GPU has no power reading"
        try:
            energy = measure_energy(
                gpu, _repeated(make(device)), synchronize, mark=mark, clock=clock
            )
        except NvmlError as error:
            reason = str(error)
        else:
            if isinstance(energy, Missing):
                reason = energy.reason
            elif energy.sampled_power_w:
                measured = energy.power_w / energy.sampled_power_w
        label = f"{name} loop: counter power over power readings"
        checks.append(
            _check(label, known=1.0, measured=measured, tol=POWER_TOLERANCE, reason=reason)
        )
    return tuple(checks)


def copying(device: torch.device | str, nbytes: int = COPY_BYTES) -> Callable[[], Tensor]:
    """What copies random bytes within the device's memory."""
    source = torch.empty(nbytes, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _gather(device: torch.device | str) -> Callable[[], Tensor]:
    table = torch.empty(HOST_TABLE_ROWS, HOST_ROW_BYTES, dtype=torch.uint8).random_()
    table = placed(table, "host", torch.device(device))
    every_other = 2 * torch.randperm(HOST_TABLE_ROWS // 2)[:HOST_ROWS]
    rows = every_other.to(device)
    return lambda: row_values(table, rows)


def _streaming(device: torch.device | str) -> Callable[[], Tensor]:
    x = _random(1, STREAMED_COLUMNS, device)
    weight = _random(STREAMED_ROWS, STREAMED_COLUMNS, device)
    return lambda: linear(x, weight)


def multiplying(device: torch.device | str) -> Callable[[], Tensor]:
    """What multiplies two square matrices of `GEMM` rows in bf16."""
    left, right = _random(GEMM, GEMM, device), _random(GEMM, GEMM, device)
    product = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=product)


def _random(rows: int, columns: int, device: torch.device | str) -> Tensor:
    return torch.randn(rows, columns, dtype=torch.bfloat16, device=device)


def _repeated(step: Callable[[], object]) -> Callable[[int], None]:
    def run(times: int) -> None:
        for _ in range(times):
            step()

    return run


def _check(name: str, *, known: float, measured: float | None, tol: float, reason: str) -> Check:
    return Check(
        name=name,
        known=known,
        measured=measured,
        tolerance=tol,
        reason=reason if measured is None else None,
    )
