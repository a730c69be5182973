"""A reference model on one device, whose cases are measured one after another in one kind of run.

The kinds disturb one another: counters serialise kernels and change clocks, and a trace slows down
later replays of CUDA graphs. So a process has benches of one kind only.
"""

import gc
from collections.abc import Callable
from dataclasses import replace

import torch

from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.step import step_costs
from costmodel.errors import WorkError
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend, Workload
from costmodel.layers.dtype import DTYPES
from costmodel.layers.formats import Formats
from costmodel.recordings.case_workload import CaseWorkload, Dtype
from costmodel.recordings.machine import Device
from costmodel.recordings.quantities import RunName
from costmodel.recordings.recording import Check, RunResult
from costmodel.routing.popularity import Uniform
from costmodel.units import capacity
from profiler.runs.base import NO_GPU, CaseFacts, RunMethod
from profiler.runs.case import TORCH_DTYPES, PreparedCase, recorded_paths
from profiler.runs.counters import CounterRun
from profiler.runs.cpu import CpuRun
from profiler.runs.energy import EnergyRun
from profiler.runs.ncu_step import Spec, spec_text
from profiler.runs.tensor_facts import FlopCount
from profiler.runs.time import TimeRun
from profiler.runs.trace import TraceRun
from reference_model.free_memory import free_bytes, needed_bytes
from reference_model.fused.support import device_refusal
from reference_model.model import ReferenceModel, build_model

GPU_METHODS: dict[RunName, Callable[[], RunMethod]] = {
    "time": TimeRun,
    "trace": TraceRun,
    "counters": CounterRun,
    "energy": EnergyRun,
}
MARGIN_BYTES = {"cpu": 2**28, "cuda": 2**31}  # for workspaces and buffers of the measurement


class DoesNotFit(Exception):  # noqa: N818 - no error: this case cannot run here, others may
    """A case is predicted to need more memory than is free."""


def unmeasurable(run: RunName, device: Device) -> str | None:
    """Why a kind of run is impossible on a device, whatever the case; None where it is possible."""
    return NO_GPU if device == "cpu" and run != "time" else None


def self_check(run: RunName, device: Device) -> tuple[Check, ...]:
    """Measure known work in the manner of a kind of run."""
    return _method(run, device).self_check()


def _method(run: RunName, device: Device) -> RunMethod:
    """The method of a kind of run that is not `unmeasurable` on the device."""
    return CpuRun() if device == "cpu" else GPU_METHODS[run]()


_last_flop_count: list[FlopCount] = []


def flop_count_of(model: ReferenceModel) -> FlopCount:
    """The count of a model; that of the last bench where it is the same model.

    Counting takes as long as timing does, and the shapes of a model are the same by any backend.
    """
    if not _last_flop_count or _last_flop_count[0].shadow.config != model.config:
        _last_flop_count[:] = [FlopCount(model)]
    return _last_flop_count[0]


class TorchBench:
    """A reference model built on a device, to be measured in one kind of run."""

    def __init__(
        self,
        model: ModelConfig,
        *,
        run: RunName,
        device: Device,
        dtype: Dtype,
        weights_seed: int,
        backend: Backend = "torch",
    ) -> None:
        """Build the model.

        Raises:
            DoesNotFit: Its weights are predicted not to fit.
            WorkError: The backend has no kernels for this device.
        """
        self.device, self.weights_seed, self.backend = device, weights_seed, backend
        if backend == "fused":
            refusal = device_refusal(torch.device(device), TORCH_DTYPES[dtype])
            if refusal is not None:
                raise WorkError(f"backend=fused: {refusal}")
        self._check_weights(model, dtype)
        self.method = _method(run, device)
        self.model = build_model(
            model, device=device, dtype=TORCH_DTYPES[dtype], seed=weights_seed
        ).fold()
        self.flop_count = flop_count_of(self.model)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the leaves, in the order of the model, and of the backend's regions."""
        return recorded_paths(self.model, self.backend)

    def close(self) -> None:
        """Free the model, so that the next one finds room."""
        del self.model, self.method, self.flop_count
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def measure(self, workload: CaseWorkload, seed: int) -> RunResult:
        """Measure one case; columns are in the order of `paths`.

        Raises:
            DoesNotFit: Its cache and activations are predicted not to fit beside the weights.
        """
        self._place_tables(workload)
        self._check_room(workload)
        case = PreparedCase(self.model, workload, seed, backend=self.backend)
        facts = CaseFacts(
            flops=lambda: self.flop_count.of(workload),
            spec=lambda: spec_text(
                Spec(
                    schema_version=1,
                    model=self.model.config,
                    weights_seed=self.weights_seed,
                    workload=workload,
                    seed=seed,
                    backend=self.backend,
                )
            ),
        )
        return replace(self.method.measure(case, facts), backend=self.backend)

    def _place_tables(self, workload: CaseWorkload) -> None:
        """Put the memory tables where the case has them; the model is built with them in HBM.

        Raises:
            DoesNotFit: They do not fit there.
        """
        place = workload.tables
        if place == self.model.tables:
            return
        if self.device == "cuda":
            tables = sum(table.nbytes for table in self.model.memory_tables())
            if place == "hbm":
                self._check_free("tables", tables)
            else:  # an allocation of pinned memory is rounded up to a power of two
                self._check_free("tables placed in host memory", 2 * tables, "cpu")
        self.model.place_tables(place)
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _check_weights(self, model: ModelConfig, dtype: Dtype) -> None:
        """Check that the weights alone fit, before any is allocated."""
        smallest = Workload(
            context=0, formats=Formats(default=DTYPES[dtype]), kv_dtype=DTYPES[dtype]
        )
        predicted = _footprint(model, smallest)
        self._check_free("weights and buffers", predicted.weights_bytes + predicted.buffers_bytes)

    def _check_room(self, workload: CaseWorkload) -> None:
        """Check that cache and activations fit beside the weights, which are allocated already."""
        config = self.model.config
        # Of all routings uniform touches the most
        step = workload.to_workload(routing=Uniform())
        predicted = _footprint(config, step)
        whole_bytes = needed_bytes(config, step, step, device=self.device)
        weights_bytes = predicted.weights_bytes + predicted.buffers_bytes
        self._check_free("cache and activations", whole_bytes - weights_bytes)

    def _check_free(self, what: str, nbytes: int, device: Device | None = None) -> None:
        device = device or self.device
        needed, free = nbytes + MARGIN_BYTES[device], free_bytes(device)
        if free is not None and device == "cuda":
            free += torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        if free is not None and needed > free:
            raise DoesNotFit(
                f"does not fit: {what} need {capacity(needed)} by the prediction, margin in;"
                f" {capacity(free)} are free"
            )


def _footprint(model: ModelConfig, workload: Workload) -> Footprint:
    """The predicted memory of a model and workload."""
    step = workload.step()
    costs = step_costs(model, step)
    return footprint(costs.operators, step, costs.kv_cache, model.hidden_size, capacity_bytes=0)
