"""The committed held-out models and cases: files that the draw wrote, and what is measured of them.

`models/NAME.toml` is a model as `sparsecost predict` reads it; `plan.json` has the groups of
models, their cases, and which of the cases have their energy measured. In a group with memory
models the first model is the MoE that each of them is paired with.
"""

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from benchmarks.held_out.draw import drawn_groups
from costmodel.backends import kernels_of
from costmodel.costs.operators import build_operators
from costmodel.inputs.catalog import load_model
from costmodel.inputs.files import read_json_object
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.model_toml import model_toml
from costmodel.inputs.workload import Backend
from costmodel.recordings.case_workload import CaseWorkload
from costmodel.recordings.quantities import RunName
from costmodel.strict import validated
from profiler.session.plan import PlannedCase
from profiler.session.session import PlannedModel

FOLDER = Path(__file__).parent
PLAN, MODELS = FOLDER / "plan.json", FOLDER / "models"
BACKENDS: tuple[Backend, ...] = ("torch", "fused")
ENERGY_CASES = (2, 5, 6)  # of a group's eight: two decode steps of many sequences, and a prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutModel:
    """A model, its group, its cases, and the MoE that it is paired with, if it is."""

    name: str
    group: str
    model: ModelConfig
    cases: tuple[CaseWorkload, ...]
    energy: tuple[CaseWorkload, ...]
    pair: str | None


def write_shapes(folder: Path = FOLDER) -> None:
    """Draw the models and cases anew, and write their files."""
    models = folder / MODELS.name
    models.mkdir(parents=True, exist_ok=True)
    plan: dict[str, object] = {}
    for name, group in drawn_groups().items():
        for model_name, model in group.models.items():
            (models / f"{model_name}.toml").write_text(model_toml(model), encoding="utf-8")
        cases = [_case_table(case) for case in group.cases]
        energy = [index in ENERGY_CASES for index in range(len(cases))]
        plan[name] = {"models": [*group.models], "cases": cases, "energy": energy}
    text = json.dumps({"groups": plan}, indent=1) + "\n"
    (folder / PLAN.name).write_text(text, encoding="utf-8")


def _case_table(case: CaseWorkload) -> dict[str, object]:
    table = asdict(case)
    del table["placement"]  # tables stand in HBM
    return table


@cache
def held_out_models(folder: Path = FOLDER) -> tuple[HeldOutModel, ...]:
    """The committed models with their cases, in the order of the plan.

    Raises:
        InputError: A file is not as the draw writes it.
    """
    models = []
    for group, table in read_json_object(folder / PLAN.name)["groups"].items():
        cases = tuple(validated(CaseWorkload, case, where=PLAN.name) for case in table["cases"])
        measured = zip(cases, table["energy"], strict=True)
        energy = tuple(case for case, has_energy in measured if has_energy)
        first, *others = table["models"]
        models += [
            HeldOutModel(
                name=name,
                group=group,
                model=load_model(str(folder / MODELS.name / f"{name}.toml")),
                cases=cases,
                energy=energy,
                pair=first if name in others else None,
            )
            for name in table["models"]
        ]
    return tuple(models)


def planned(run: RunName, models: tuple[HeldOutModel, ...]) -> tuple[PlannedModel, ...]:
    """What one kind of run measures: each model by each backend that has kernels for its cases."""
    plans = []
    for held_out in models:
        for backend in BACKENDS:
            cases = tuple(
                PlannedCase(workload=case, runs=(run,))
                for case in (held_out.energy if run == "energy" else held_out.cases)
                if refusal(held_out.model, case, backend) is None
            )
            if cases:
                plans.append(
                    PlannedModel(
                        name=held_out.name,
                        preset=None,
                        model=held_out.model,
                        backend=backend,
                        plan=cases,
                    )
                )
    return tuple(plans)


def refusal(model: ModelConfig, case: CaseWorkload, backend: Backend) -> str | None:
    """Why a backend has no kernels for a case; None: it has."""
    step = case.to_workload(backend=backend).step()
    return kernels_of(backend, build_operators(model, step), step).refusal
