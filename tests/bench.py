"""How fast the core starts and answers, against its targets: `python -m tests.bench`.

Exit code 1 when a target of the project, or the dashboard's for a sweep of designs, is missed.
Tests judge nothing by the clock: they count the work that is behind these seconds.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from costmodel.costs.calibrations import calibrated
from costmodel.costs.predict import predict
from costmodel.costs.step import step_costs
from costmodel.errors import InputError
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig, load_model_toml
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh
from costmodel.questions.designs.evaluate import evaluate
from costmodel.questions.match import match
from costmodel.questions.request import Request, serve
from costmodel.questions.sweep import sweep
from costmodel.recordings.folders import shipped_names
from costmodel.routing.popularity import Uniform
from dashboard.pages.tradeoffs import data as tradeoffs
from dashboard.pages.tradeoffs.pareto import pareto_front

PRESETS = Path(__file__).parents[1] / "costmodel" / "presets" / "models"
SWEPT = ("olmoe-227m-1.2b", "ultramemv2-227m-1.2b")
IMPORT_S, PREDICTION_S, MESHED_S, POINTS_PER_S = 0.3, 1e-3, 2e-3, 1e6  # the targets, for medians
BATCHES, CONTEXTS = range(1, 1001), range(128, 128_128, 128)  # a million points
LOOPED = 500  # points of the plain loop
DESIGNED_S = 2.0  # for 100,000 designs x workloads
DESIGNED: dict[str, dict[str, range]] = {  # 1,000 designs, or 5,000 with the widths of `WIDER`
    "olmoe-1b-7b": {
        "num_experts": range(16, 116, 10),
        "num_experts_per_tok": range(1, 11),
        "moe_intermediate_size": range(256, 1276, 102),
    },
    "ultramemv2-1b-7b": {
        "knum": range(200, 800, 60),
        "knn": range(8, 88, 8),
        "pre_value_dim": range(128, 1408, 128),
    },
}
WIDER = {
    "olmoe-1b-7b": {"moe_intermediate_size": range(256, 5356, 102)},
    "ultramemv2-1b-7b": {"pre_value_dim": range(128, 6528, 128)},
}
MESHED = {
    "deepseek-v3": Mesh(dp=64, ep=64),
    "nemotron-3-ultra": Mesh(tp=8, ep=8),
    "ultramemv2-2.5b-120b": Mesh(dp=8),
    "llama-3.1-70b": Mesh(tp=2, pp=4),
}
SERVED_S, MATCHED_S, VALIDATED_S = 0.02, 2.0, 5.0
SERVED = ("ultramemv2-227m-1.2b", "olmoe-1b-7b", "deepseek-v3", "gpt-oss-120b")
MATCHED: tuple[tuple[str, str, dict[str, int] | None], ...] = (
    ("deepseek-v3", "ultramemv2-2.5b-60b", None),
    # sizes of nearly the same effect; one that FLOPs alone depend on, of a target out of reach
    ("moe-2.5b-120b", "ultramemv2-2.5b-120b", {"knum": 1, "pre_value_dim": 32}),
    ("llama-3.1-70b", "memory-plus-227m-1.2b", {"knn": 1, "intermediate_size": 64}),
)

GPU = load_hardware("h200")
WORKLOAD = Workload(phase="decode", batch=16, context=2048)


def main() -> int:
    """Print all measurements; 1 if a target is missed."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(
        f"one core, Python {sys.version.split()[0]}; minimum, median and maximum of the repeats\n"
    )
    results = [_starts(), _predictions(), _answers(), _sweeps(), _designs()]
    print("\nall targets met" if all(results) else "\nA TARGET IS MISSED")
    return 0 if all(results) else 1


def _starts() -> bool:
    """In fresh processes: the import by itself, and the whole command."""
    program = "import time; t = time.perf_counter(); import costmodel.costs.predict as p;"
    program += " print(time.perf_counter() - t)"

    environment = dict(os.environ)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def imported() -> float:
        command = [sys.executable, "-c", program]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return float(run.stdout)

    imported()  # which writes the bytecode that pip writes for an installed package
    met = _line("import costmodel.costs.predict", [imported() for _ in range(5)], target=IMPORT_S)
    command = Path(sys.executable).with_name("sparsecost")
    if command.exists():

        def started() -> None:
            subprocess.run([command, "--help"], capture_output=True, check=True)

        _line("sparsecost --help", _timed(started, repeats=5))
    print()
    return met


def _predictions() -> bool:
    """Every preset, from the most parameters to the least."""
    models = [load_model_toml(path) for path in sorted(PRESETS.glob("*.toml"))]
    models.sort(key=_parameters, reverse=True)
    met = True
    for model in models:
        times = _timed(partial(predict, model, WORKLOAD, GPU), repeats=51)
        name = f"predict {model.name} ({_parameters(model) / 1e9:,.1f} B)"
        met &= _line(name, times, target=PREDICTION_S)
    print()
    for name, mesh in MESHED.items():
        work = replace(WORKLOAD, batch=128, mesh=mesh)
        times = _timed(partial(predict, _preset(name), work, GPU), repeats=51)
        met &= _line(f"predict {name} on {mesh.label}", times, target=MESHED_S)
    print()
    return met


def _answers() -> bool:
    """Served requests, matches, and the whole command that validates the committed recordings."""
    met, curves = True, calibrated("h200")
    asked = Request(prompt=2048, output=1024, batch=16, price_per_hour=3.0)
    for name in SERVED:
        answer = partial(serve, _preset(name), asked, Workload(), GPU, curves)
        met &= _line(f"request {name}", _timed(answer, repeats=9), target=SERVED_S)
    for target, template, vary in MATCHED:

        def matched(
            target: str = target, template: str = template, vary: dict[str, int] | None = vary
        ) -> None:
            with suppress(InputError):  # out of reach, which takes the longest to say
                match(_preset(target), _preset(template), vary=vary)

        met &= _line(
            f"match   {target} to {template}", _timed(matched, repeats=3), target=MATCHED_S
        )
    command = Path(sys.executable).with_name("sparsecost")
    if command.exists():

        def validated() -> None:
            subprocess.run([command, "validate"], capture_output=True, check=True)

        title = f"sparsecost validate ({len(shipped_names())} recordings)"
        met &= _line(title, _timed(validated, repeats=3), target=VALIDATED_S)
    print()
    return met


def _preset(name: str) -> ModelConfig:
    return load_model_toml(PRESETS / f"{name}.toml")


def _sweeps() -> bool:
    """All columns of a grid of batch x context, beside a plain loop over single predictions."""
    met = True
    for name in SWEPT:
        model = _preset(name)

        def grid(model: ModelConfig = model) -> None:
            sweep(
                model,
                WORKLOAD,
                batches=BATCHES,
                contexts=CONTEXTS,
                routings=[Uniform()],
                hardwares=[GPU],
            )

        def loop(model: ModelConfig = model) -> None:
            for batch in BATCHES[:LOOPED]:
                predict(model, replace(WORKLOAD, batch=batch), GPU)

        points = len(BATCHES) * len(CONTEXTS)
        met &= _rate(f"sweep   {name}", points, _timed(grid, repeats=5), target=POINTS_PER_S)
        _rate(f"  loop  {name}", LOOPED, _timed(loop, repeats=5))
    return met


def _designs() -> bool:
    """100,000 designs x workloads with predicted times: designs, costs and front, as on the page.

    All components of all designs differ: nothing is costed twice.
    """
    met = True
    curves = calibrated("h200")
    print()
    for name, ranges in DESIGNED.items():
        base = _preset(name)
        for swept, batches in ((ranges, 10), (ranges | WIDER[name], 2)):
            grid = [2**i for i in range(batches)], [512 * i for i in range(10)]

            def answer(
                base: ModelConfig = base,
                swept: dict[str, range] = swept,
                grid: tuple[list[int], list[int]] = grid,
            ) -> None:
                models = tradeoffs.designs(base, swept).models
                found = evaluate(
                    models, WORKLOAD, GPU, curves, batches=grid[0], contexts=grid[1]
                ).columns
                times = found["time.predicted_s"]
                assert times.size == 100_000
                pareto_front(found["memory.total_bytes"].ravel(), times.ravel())

            count = 100_000 // (10 * batches)
            title = f"designs {name} ({count:,} x {10 * batches})"
            met &= _line(title, _timed(answer, repeats=3), target=DESIGNED_S)
    return met


def _parameters(model: ModelConfig) -> int:
    return step_costs(model, WORKLOAD.step()).parameters.total


def _timed(action: Callable[[], object], *, repeats: int) -> list[float]:
    """Seconds of each run, after one that warms the caches."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times


def _line(name: str, times: list[float], *, target: float | None = None) -> bool:
    spread = " ".join(
        f"{seconds * 1e3:9.3f}" for seconds in (min(times), statistics.median(times), max(times))
    )
    met = target is None or statistics.median(times) < target
    goal = "" if target is None else f"  (target < {target * 1e3:g} ms{'' if met else ': MISSED'})"
    print(f"{name:62} {spread} ms{goal}")
    return met


def _rate(name: str, points: int, times: list[float], *, target: float | None = None) -> bool:
    rates = [points / seconds for seconds in times]
    spread = " ".join(
        f"{rate:12,.0f}" for rate in (min(rates), statistics.median(rates), max(rates))
    )
    met = target is None or statistics.median(rates) >= target
    goal = "" if target is None else f"  (target >= {target:,.0f}{'' if met else ': MISSED'})"
    print(f"{name:32} {spread} points/s{goal}")
    return met


if __name__ == "__main__":
    sys.exit(main())
