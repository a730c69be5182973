"""Tables of the Measured page: the machine's state, its self-check, two runs compared."""

from collections.abc import Callable
from typing import Any

from costmodel import units
from costmodel.inputs.measured import Spread
from costmodel.inputs.recording import Case, Recording
from costmodel.join import NO_RUN
from costmodel.quantities import QUANTITIES, RUNS, Unit
from costmodel.repeat import Change, recounted, repeated

FORMS: dict[Unit, Callable[[float], str]] = {
    "s": units.seconds,
    "bytes": units.traffic,
    "flops": units.flops,
    "count": units.count,
    "j": lambda joules: units.scaled(joules, "J"),
    "w": lambda watts: units.scaled(watts, "W"),
}
YES_NO = {True: "yes", False: "no", None: "no spread to tell by"}


def conditions(recording: Recording, case: Case) -> list[dict[str, str]]:
    """The machine's state during each run of the case, or why there is no such run."""
    rows = []
    for name in RUNS:
        run = case.runs.get(name)
        if run is None:
            rows.append(
                {"Run": name, "Started": f"not measured ({case.lacking.get(name, NO_RUN)})"}
            )
            continue
        state = run.conditions
        rows.append(
            {
                "Run": name,
                "Started": state.started,
                "Session": str(run.session),
                "SM clock, MHz": _text(state.sm_clock_mhz),
                "Memory clock, MHz": _text(state.memory_clock_mhz),
                "Temperature, C": _text(state.temperature_c),
                "Why clocks are held": ", ".join(state.event_reasons) or "no reason told",
                "Other processes": _text(state.other_processes),
                "Warm-up runs": _text(state.warm_up),
                "Commit": recording.sessions[run.session].commit or "not known",
            }
        )
    return rows


def sessions(recording: Recording) -> list[dict[str, str]]:
    """Each start of the profiler: the machine and the code."""
    rows = []
    for index, each in enumerate(recording.sessions):
        machine = each.machine
        rows.append(
            {
                "Session": str(index),
                "Started": each.started,
                "Machine": machine.name,
                "Memory, GiB": f"{machine.memory_bytes / 2**30:,.1f}",
                "L2, MiB": _text(machine.l2_bytes and machine.l2_bytes / 2**20),
                "Multiprocessors": _text(machine.multiprocessors),
                "Power limit, W": _text(machine.power_limit_w),
                "Driver": machine.driver or "none",
                "CUDA": machine.cuda or "none",
                "torch": machine.torch,
                "Triton": machine.triton or "none",
                "Python": machine.python,
                "sparsecost": each.sparsecost_version,
                "Commit": each.commit or "not known",
            }
        )
    return rows


def checks(recording: Recording) -> list[dict[str, str]]:
    """Known work that the sessions measured: known, measured, and whether it holds."""
    return [
        {
            "Session": str(index),
            "Check": check.name,
            "Known": _text(check.known),
            "Measured": f"not measured ({check.reason})"
            if check.measured is None
            else _text(check.measured),
            "Tolerance": "exact" if check.tolerance == 0 else f"{100 * check.tolerance:g} %",
            "Passed": {True: "yes", False: "NO", None: "not measured"}[check.passed],
        }
        for index, each in enumerate(recording.sessions)
        for check in each.self_check
    ]


def changes(first: Recording, again: Recording) -> list[dict[str, Any]]:
    """What was read in both runs, over all common cases: how far apart.

    Raises:
        InputError: They are not of one model, weights and data.
    """
    return [
        {
            "Quantity": line.quantity,
            "Run": line.run,
            "Cases": len(line.changes),
            "Median |change|, %": 100 * line.usual,
            "Largest change, %": 100 * line.largest.relative,
            "of the case": line.largest.case,
            "Median spread of the two, %": None
            if line.usual_spread is None
            else 100 * line.usual_spread,
            "Within the spread": "no spread to tell by"
            if line.within is None
            else f"{line.within:,} of {len(line.changes):,}",
        }
        for line in repeated([(first, again)])
    ]


def counts(first: Recording, again: Recording) -> list[dict[str, Any]]:
    """Counts that both runs made, of steps and leaves: how many are equal."""
    return [
        {"Count": line.quantity, "Run": line.run, "Compared": line.compared, "Equal": line.equal}
        for line in recounted([(first, again)])
    ]


def side_by_side(first: Case, again: Recording) -> list[dict[str, str]]:
    """The step's readings of one case in both runs; empty where the second lacks the case."""
    other = next((case for case in again.cases if case.workload == first.workload), None)
    if other is None:
        return []
    rows = []
    for run in RUNS:
        if run not in first.runs or run not in other.runs:
            continue
        for name, one in first.runs[run].step.items():
            two = other.runs[run].step.get(name)
            if not (isinstance(one, Spread) and isinstance(two, Spread) and one.median):
                continue
            change = Change(model="", case="", first=one, again=two)
            form = FORMS[QUANTITIES[name].unit]
            rows.append(
                {
                    "Quantity": name,
                    "Run": run,
                    "First": form(one.median),
                    "Again": form(two.median),
                    "Change": f"{100 * change.relative:+.3g} %",
                    "Within the spread": YES_NO[change.within],
                }
            )
    return rows


def _text(value: float | None) -> str:
    if value is None:
        return "not known"
    return units.count(value) if float(value).is_integer() else units.significant(value)
