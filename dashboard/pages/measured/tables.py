"""Tables of the Measured page: the machine's state, its self-check, two runs compared."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from costmodel import units
from costmodel.recordings.measured import Spread
from costmodel.recordings.quantities import QUANTITIES, RUNS, RunName
from costmodel.recordings.recording import Case, Recording
from costmodel.validation.join import NO_RUN
from costmodel.validation.repeatability import Change, count_agreements, quantity_changes
from dashboard.app.widgets import not_measured

DIGITS = 12  # of a commit
PERCENT_DIGITS = 3  # significant ones
NO_SPREAD = "no spread stated"
YES_NO = {True: "yes", False: "no", None: NO_SPREAD}


def turned(rows: Iterable[Mapping[str, str]], head: str) -> list[dict[str, str]]:
    """The transposed table: a column for each row, named by the row's field `head`."""
    named = [(f"{head} {row[head]}" if row[head].isdigit() else row[head], row) for row in rows]
    fields = dict.fromkeys(field for _, row in named for field in row if field != head)
    return [{head: field, **{name: row.get(field, "") for name, row in named}} for field in fields]


def conditions(recording: Recording, case: Case) -> list[dict[str, str]]:
    """The machine's state during each run of the case, or why there is no such run."""
    rows = []
    for name in RUNS:
        run = case.runs.get(name)
        if run is None:
            rows.append({"Run": name, "Started": not_measured(case.lacking.get(name, NO_RUN))})
            continue
        state = run.conditions
        rows.append(
            {
                "Run": name,
                "Started": state.started,
                "Backend": run.backend,
                "Session": str(run.session),
                "SM clock, MHz": _text(state.sm_clock_mhz),
                "Memory clock, MHz": _text(state.memory_clock_mhz),
                "Temperature, C": _text(state.temperature_c),
                "Why clocks are held": ", ".join(state.event_reasons) or "no reason reported",
                "Other processes": _text(state.other_processes),
                "Warm-up runs": _text(state.warm_up),
                "Commit": _commit(recording.sessions[run.session].commit),
            }
        )
    return rows


def disturbed(case: Case) -> str:
    """A warning that names the runs which shared the GPU with other processes, or nothing."""
    shared = [
        f"{name} ({run.conditions.other_processes:,})"
        for name, run in case.runs.items()
        if run.conditions.other_processes
    ]
    return f"Other processes used the GPU in the runs: {', '.join(shared)}" if shared else ""


def sessions(recording: Recording) -> list[dict[str, str]]:
    """Each start of the profiler: the machine and the code."""
    rows = []
    for index, session in enumerate(recording.sessions):
        machine = session.machine
        rows.append(
            {
                "Session": str(index),
                "Started": session.started,
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
                "sparsecost": session.sparsecost_version,
                "Commit": _commit(session.commit),
            }
        )
    return rows


def checks(recording: Recording) -> list[dict[str, str]]:
    """The self-checks of the sessions: known work, the measurement, and whether they agree."""
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
        for index, session in enumerate(recording.sessions)
        for check in session.self_check
    ]


def changes(first: Recording, again: Recording) -> list[dict[str, Any]]:
    """The differences of the readings of both runs, over all common cases.

    Raises:
        InputError: The runs differ in model, weights or data.
    """
    return [
        {
            "Quantity": QUANTITIES[line.quantity].title,
            "Cases": len(line.changes),
            "Median |change|, %": units.rounded(100 * line.usual, PERCENT_DIGITS),
            "Largest change, %": units.rounded(100 * line.largest.relative, PERCENT_DIGITS),
            "of the case": line.largest.case,
            "Median spread of the two, %": None
            if line.usual_spread is None
            else units.rounded(100 * line.usual_spread, PERCENT_DIGITS),
            "Within the spread": NO_SPREAD
            if line.within is None
            else f"{line.within:,} of {len(line.changes):,}",
            "Run": line.run,
        }
        for line in quantity_changes([(first, again)])
    ]


def counts(first: Recording, again: Recording) -> list[dict[str, Any]]:
    """The counts of steps and leaves in both runs, and how many of them are equal."""
    return [
        {
            "Count": QUANTITIES[line.quantity].title,
            "Compared": line.compared,
            "Equal": line.equal,
            "Run": line.run,
        }
        for line in count_agreements([(first, again)])
    ]


def case_changes(first: Case, again: Recording) -> dict[tuple[RunName, str], Change]:
    """The readings of one case in both runs, by run and quantity; empty without a second one."""
    other = next((case for case in again.cases if case.workload == first.workload), None)
    if other is None:
        return {}
    changes: dict[tuple[RunName, str], Change] = {}
    for run in RUNS:
        if run not in first.runs or run not in other.runs:
            continue
        for name, one in first.runs[run].step.items():
            two = other.runs[run].step.get(name)
            if not (isinstance(one, Spread) and isinstance(two, Spread) and one.median):
                continue
            changes[run, name] = Change(model="", case="", first=one, again=two)
    return changes


def verdict(changes: Mapping[tuple[RunName, str], Change]) -> str:
    """A sentence: how many readings of the second run agree with the first within the spread."""
    spread = {key: change for key, change in changes.items() if change.within is not None}
    if not spread:
        return "Neither run states a spread of this case, so that agreement cannot be judged."
    within = sum(change.within is True for change in spread.values())
    text = f"The second run agrees within the stated spread in {within} of {len(spread)} readings."
    off = {key: change for key, change in spread.items() if not change.within}
    if off:
        (_, name), worst = max(off.items(), key=lambda item: abs(item[1].relative))
        text += (
            f" The largest difference beyond it: {QUANTITIES[name].title},"
            f" {_signed(worst.relative)}, where the spread allows {_percent(worst.spread)}."
        )
    return text


def side_by_side(changes: Mapping[tuple[RunName, str], Change]) -> list[dict[str, str]]:
    """The step's readings of one case in both runs, as rows."""
    return [
        {
            "Quantity": QUANTITIES[name].title,
            "Change": _signed(change.relative),
            "Spread allows": _percent(change.spread),
            "Agrees": YES_NO[change.within],
            "First": units.formatted(change.first.median, QUANTITIES[name].unit),
            "Again": units.formatted(change.again.median, QUANTITIES[name].unit),
            "Run": run,
        }
        for (run, name), change in changes.items()
    ]


def failed(recording: Recording) -> Sequence[str]:
    """The names of the self-checks that failed."""
    return [
        check.name
        for session in recording.sessions
        for check in session.self_check
        if check.passed is False
    ]


def _signed(relative: float) -> str:
    return f"{100 * relative:+.3g} %"


def _percent(share: float | None) -> str:
    return NO_SPREAD if share is None else f"{100 * share:.3g} %"


def _commit(commit: str | None) -> str:
    """The first digits of a commit, and the mark of uncommitted changes."""
    if not commit:
        return "not known"
    digits, plus, changes = commit.partition("+")
    return digits[:DIGITS] + plus + changes


def _text(value: float | None) -> str:
    if value is None:
        return "not known"
    return units.count(value) if float(value).is_integer() else units.significant(value)
