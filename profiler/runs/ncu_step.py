"""One eager step for ncu to watch: `python -m profiler.runs.ncu_step SPEC`, the case as JSON."""

import json
import sys
from typing import Annotated, Literal

import torch
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from costmodel.inputs.model import ModelConfig
from costmodel.recordings.recording import CaseWorkload
from costmodel.strict import STRICT, validated
from profiler.runs.case import PreparedCase
from reference_model.model import build_model

Seed = Annotated[int, Field(ge=0, lt=2**63)]
TORCH_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)
class Spec:
    """A case, and the model it is of."""

    schema_version: Literal[1]
    model: ModelConfig
    weights_seed: Seed
    workload: CaseWorkload
    seed: Seed


def spec_text(spec: Spec) -> str:
    """The argument that `main` reads."""
    return TypeAdapter(Spec).dump_json(spec).decode()


def main() -> None:
    """Build and warm up unwatched, then run one step between profiler start and stop."""
    spec = validated(Spec, json.loads(sys.argv[1]), where="spec")
    dtype = TORCH_DTYPES[spec.workload.dtype]
    model = build_model(spec.model, device="cuda", dtype=dtype, seed=spec.weights_seed).fold()
    case = PreparedCase(model, spec.workload, spec.seed)
    case.run()
    torch.cuda.synchronize()
    torch.cuda.profiler.start()
    case.run()
    torch.cuda.synchronize()
    torch.cuda.profiler.stop()


if __name__ == "__main__":
    main()
