"""One model on one device, ready to be measured in one kind of run: what a worker holds.

The four kinds disturb each other (counters serialise kernels and change clocks, a trace slows later
replays of graphs), so each has a process of its own.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch

from costmodel.costs.footprint import Footprint, footprint
from costmodel.costs.predict import step_costs
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.dtype import DTYPES
from costmodel.recordings.machine import Conditions
from costmodel.recordings.recording import Accesses, CaseWorkload, Check, Column, Measured, RunName
from costmodel.routing.popularity import Uniform
from costmodel.units import capacity
from costmodel.validation.counterparts import workload_of
from profiler.runs.case import PreparedCase
from profiler.runs.ncu_step import Spec, spec_text
from profiler.runs.tensor_facts import FlopCount
from reference_model.free_memory import free_bytes, needed_bytes
from reference_model.model import build_model

Device = Literal["cpu", "cuda"]

TORCH_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
MARGIN_BYTES = {"cpu": 2**28, "cuda": 2**31}  # buffers of the measurement, workspaces
NO_GPU = "not measured (no NVIDIA GPU)"


class Unfit(Exception):  # noqa: N818 - no error: a case that cannot be run here, and why
    """The case is predicted not to fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All of a recording's `Run` but its session."""

    conditions: Conditions
    step: dict[str, Measured]
    operators: dict[str, Column] = field(default_factory=dict)
    accesses: dict[str, Accesses] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a case before it is measured."""

    flops: Callable[[], dict[str, int]]  # counted on the meta device, by path
    spec: Callable[[], str]  # the case, as `profiler.runs.ncu_step` reads it


class Method(Protocol):
    """A kind of run: what it measures of a case that is ready to run."""

    def measure(self, case: PreparedCase, known: Known) -> Measurement:
        """Measure it."""

    def self_check(self) -> tuple[Check, ...]:
        """Known work measured in the same way."""


def self_check(run: RunName, device: Device) -> tuple[Check, ...]:
    """Known work measured as cases of this kind of run are."""
    return _method(run, device).self_check()


def _method(run: RunName, device: Device) -> Method:
    """The method of a kind of run on a device that can be measured in it (see `unmeasurable`)."""
    if device == "cpu":
        from profiler.runs.cpu import CpuRun

        return CpuRun()
    if run == "time":
        from profiler.runs.time import TimeRun

        return TimeRun()
    if run == "trace":
        from profiler.runs.trace import TraceRun

        return TraceRun()
    if run == "counters":
        from profiler.runs.counters import CounterRun

        return CounterRun()
    from profiler.runs.energy import EnergyRun

    return EnergyRun()


def unmeasurable(run: RunName, device: Device) -> str | None:
    """Why a kind of run cannot be had on a device, whatever the case."""
    return NO_GPU if device == "cpu" and run != "time" else None


class Bench:
    """A model built on a device, its cases measured one after another."""

    def __init__(
        self,
        model: ModelConfig,
        *,
        run: RunName,
        device: Device,
        dtype: Literal["bf16", "fp32"],
        weights_seed: int,
    ) -> None:
        self.device, self.weights_seed = device, weights_seed
        self._check_weights(model, dtype)
        self.how = _method(run, device)
        self.model = build_model(
            model, device=device, dtype=TORCH_DTYPES[dtype], seed=weights_seed
        ).fold()
        self.flops = FlopCount(self.model)

    @property
    def paths(self) -> tuple[str, ...]:
        """The leaves, in the order of the model."""
        return tuple(self.model.leaves())

    def close(self) -> None:
        """Let go of the model, so that the next one finds room."""
        del self.model, self.how, self.flops
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def measure(self, workload: CaseWorkload, seed: int) -> Measurement:
        """Measure one case.

        Raises:
            Unfit: It is predicted not to fit.
        """
        self._check_room(workload)
        case = PreparedCase(self.model, workload, seed)
        known = Known(
            flops=lambda: self.flops.of(workload),
            spec=lambda: spec_text(
                Spec(
                    schema_version=1,
                    model=self.model.config,
                    weights_seed=self.weights_seed,
                    workload=workload,
                    seed=seed,
                )
            ),
        )
        return self.how.measure(case, known)

    def _check_weights(self, model: ModelConfig, dtype: Literal["bf16", "fp32"]) -> None:
        """The weights alone must fit, before any is made."""
        smallest = Workload(context=0, dtype=DTYPES[dtype], kv_dtype=DTYPES[dtype])
        found = self._footprint(model, smallest)
        self._check_free("weights and buffers", found.weights_bytes + found.buffers_bytes)

    def _check_room(self, workload: CaseWorkload) -> None:
        """The weights are there already; cache and activations must still fit."""
        work = workload_of(workload, Uniform())  # uniform routing touches the most
        config = self.model.config
        there = self._footprint(config, work)
        whole = needed_bytes(config, work, work, device=self.device)
        beside = whole - there.weights_bytes - there.buffers_bytes
        self._check_free("cache and activations", beside)

    @staticmethod
    def _footprint(model: ModelConfig, work: Workload) -> Footprint:
        costs = step_costs(model, work.step())
        return footprint(
            costs.operators, work.step(), costs.kv_cache, model.hidden_size, capacity_bytes=0
        )

    def _check_free(self, what: str, nbytes: int) -> None:
        needed, free = nbytes + MARGIN_BYTES[self.device], free_bytes(self.device)
        if free is not None and self.device == "cuda":
            free += torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        if free is not None and needed > free:
            raise Unfit(
                f"does not fit: {what} need {capacity(needed)} by the prediction, margin in;"
                f" {capacity(free)} are free"
            )
