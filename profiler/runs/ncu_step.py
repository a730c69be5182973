"""One eager step in a process that ncu watches: `python -m profiler.runs.ncu_step SPEC`.

SPEC is the case as JSON. ncu counts the kernels between profiler start and stop, which are those of
one warm step.
"""

import json
import sys
from typing import Literal

import torch
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.recording import Seed
from costmodel.strict import STRICT, validated
from profiler.runs.case import TORCH_DTYPES, PreparedCase
from reference_model.model import build_model


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Spec:
    """A case, its model, the seeds of both, and whose kernels run."""

    schema_version: Literal[1]
    model: ModelConfig
    weights_seed: Seed
    workload: CaseWorkload
    seed: Seed
    backend: Backend


def spec_text(spec: Spec) -> str:
    """The specification as the command's argument."""
    return TypeAdapter(Spec).dump_json(spec).decode()


def main() -> None:
    """Build the model and run a step to warm up, then run the step that ncu counts."""
    spec = validated(Spec, json.loads(sys.argv[1]), where="spec")
    dtype = TORCH_DTYPES[spec.workload.dtype]
    model = build_model(spec.model, device="cuda", dtype=dtype, seed=spec.weights_seed).fold()
    model.place_tables(spec.workload.tables)
    case = PreparedCase(model, spec.workload, spec.seed, backend=spec.backend)
    case.run()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    case.run()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


if __name__ == "__main__":
    main()
