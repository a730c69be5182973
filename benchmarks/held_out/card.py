"""The card's own energy anchors: loops of three seconds of nothing, copies and products.

`python -m benchmarks.held_out.card` measures them in a process of its own and prints them. They are
the loops of the calibration by the same names, from which `energy_fit.of_card` scales its
coefficients.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter

from costmodel.costs.energy_fit import COPY, NOTHING, PRODUCT
from costmodel.recordings.energy_loop import EnergyLoop
from costmodel.strict import validated
from profiler.instruments.process import LineProcess, WorkerLostError

TIMEOUT_S = 120.0
COMMAND = (sys.executable, "-m", "benchmarks.held_out.card")  # from the root of the project
NAMED = (NOTHING, COPY, PRODUCT)

Loop = Mapping[str, Any]  # an `EnergyLoop` as JSON


def is_anchor(name: str) -> bool:
    """Whether a loop is one of the three, by its name; products are not "4 products of"."""
    return NOTHING in name.partition(", then")[0] or name == COPY or name.startswith(PRODUCT)


def loops_of(values: Sequence[Loop]) -> list[EnergyLoop]:
    """The loops that JSON values hold.

    Raises:
        InputError: One is not as `main` prints it.
    """
    return [validated(EnergyLoop, dict(value), where="card") for value in values]


def read_card(command: Sequence[str] = COMMAND) -> list[Loop]:
    """Measure the loops in a process of their own; none where it was lost, or has no counter."""
    try:
        with LineProcess(command, timeout_s=TIMEOUT_S) as process:
            line = process.read()
            process.wait()
    except WorkerLostError:
        return []
    loops: list[Loop] = json.loads(line or "[]")
    return loops


def main() -> None:
    """Measure the loops, and print them as JSON."""
    from costmodel.recordings.measured import Missing
    from profiler.calibrate.leaves.energy_loops import loads, measured
    from profiler.instruments.nvml import open_gpu
    from profiler.instruments.process import end_with_parent

    end_with_parent()
    gpu = open_gpu()
    found = [measured(load, gpu) for load in loads() if is_anchor(load.name)]
    of_type = TypeAdapter(EnergyLoop)
    loops = [of_type.dump_python(one, mode="json") for one in found if not isinstance(one, Missing)]
    sys.stdout.write(json.dumps(loops) + "\n")


if __name__ == "__main__":
    main()
