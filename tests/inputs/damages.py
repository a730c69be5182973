"""A good recording as JSON, and what may be wrong with one: place, value, and what must be said."""

import copy
import json
from typing import Any

from costmodel.recordings.recording import recording_text
from tests.recording_values import everything, workload
from tests.steps import tiny_model

GOOD: dict[str, Any] = json.loads(
    recording_text(everything(tiny_model(), [workload(), workload(batch=2)]))
)
LEAVES = len(GOOD["paths"])

Place = tuple[str | int, ...]
CASE: Place = ("cases", 0)
TIME: Place = (*CASE, "runs", "time")
STEP: Place = (*TIME, "step")
COLUMNS: Place = (*TIME, "operators")
TRACE: Place = (*CASE, "runs", "trace")
COUNTS: Place = (*TRACE, "operators", "launches", "values")
LAUNCHES: Place = (*TRACE, "step", "launches")
KERNELS: Place = (*TRACE, "operators", "kernel_s")
MACHINE: Place = ("sessions", 0, "machine")
ACCESSES = {"population": 4, "trials": 1, "draws": 2, "counts": [[1, 2], [0, 2]]}
DROPPED = object()


def damaged(place: Place, value: object) -> dict[str, Any]:
    """The good recording with another value at one place."""
    whole = copy.deepcopy(GOOD)
    *parents, last = place
    within: Any = whole
    for key in parents:
        within = within[key]
    if value is DROPPED:
        del within[last]
    else:
        within[last] = value
    return whole


# Place, value, and what the message must say
DAMAGES: dict[str, tuple[Place, object, str]] = {
    "no schema": (("schema_version",), DROPPED, "schema_version: is missing"),
    "schema of tomorrow": (("schema_version",), 2, "schema_version=2: Input should be less"),
    "schema as text": (("schema_version",), "1", "schema_version='1': Input should be a valid int"),
    "schema as truth": (
        ("schema_version",),
        True,
        "schema_version=True: Input should be a valid int",
    ),
    "no model": (("model",), DROPPED, "model: is missing"),
    "model by name": (("model",), "olmoe-1b-7b", "model='olmoe-1b-7b': Input should be an object"),
    "model of 2^20 layers": (("model", "num_hidden_layers"), 2**20, "num_hidden_layers=1048576"),
    "unknown layer kind": (("model", "ffn", "kind"), "lookup", "model.ffn"),
    "unknown field": (("comment",), "hello", "comment='hello': Unexpected keyword argument"),
    "no paths": (("paths",), [], "paths=[]"),
    "paths as text": (("paths",), "embed", "paths='embed'"),
    "a path twice": (("paths", 1), "embed", "paths: hold a path twice"),
    "a path upwards": (("paths", 0), "../../etc/passwd", "paths.0='../../etc/passwd'"),
    "an absolute path": (("paths", 0), "/etc/passwd", "paths.0='/etc/passwd'"),
    "a path of HTML": (("paths", 0), "<script>alert(1)</script>", "paths.0='<script>"),
    "a path of a formula": (("paths", 0), "=cmd|' /C calc'!A0", "paths.0="),
    "a path with a line": (("paths", 0), "embed\nerror: all is well", r"paths.0='embed\nerror"),
    "a path with an escape": (("paths", 0), "\x1b[2Jembed", r"paths.0='\x1b[2Jembed'"),
    "a path that turns round": (("paths", 0), "\u202egnp", "paths.0="),
    "a long path": (("paths", 0), "a" * 201, "at most 200 characters"),
    "a path of a number": (("paths", 0), 3, "paths.0=3"),
    "no sessions": (("sessions",), [], "sessions=[]"),
    "a session of nobody": ((*TIME, "session"), 1, "cases.0.runs.time.session=1: there are 1"),
    "a session before all": ((*TIME, "session"), -1, "session=-1"),
    "a machine with a serial": ((*MACHINE, "serial"), "1654023", "serial='1654023': Unexpected"),
    "a machine unnamed": ((*MACHINE, "name"), "", "machine.name=''"),
    "a machine in escapes": ((*MACHINE, "name"), "\x1b]0;H200\x07", "machine.name="),
    "a machine of no kind": ((*MACHINE, "device"), "tpu", "machine.device='tpu'"),
    "L2 below nothing": ((*MACHINE, "l2_bytes"), -1, "machine.l2_bytes=-1"),
    "a commit with a path": (("sessions", 0, "commit"), "/home/me", "commit='/home/me'"),
    "a moment in words": (("sessions", 0, "started"), "today", "started='today'"),
    "a moment of no calendar": (
        ("sessions", 0, "started"),
        "9999-99-99T99:99:99Z",
        "sessions.0.started='9999-99-99T99:99:99Z'",
    ),
    "30 February": (
        ("sessions", 0, "started"),
        "2026-02-30T00:00:00Z",
        "2026-02-30T00:00:00Z is no date and time of the calendar",
    ),
    "a leap second": (
        (*TIME, "conditions", "started"),
        "2026-06-30T23:59:60Z",
        "is no date and time of the calendar",
    ),
    "hour 24": ((*TIME, "conditions", "started"), "2026-06-30T24:00:00Z", "started='2026"),
    "digits of another script": (
        ("sessions", 0, "started"),
        "\uff12026-01-01T00:00:00Z",
        "should match pattern",
    ),
    "cases as an object": (("cases",), {}, "cases={}: Input should be a valid array"),
    "a case of null": (CASE, None, "cases.0=None"),
    "a case twice": (("cases", 1), GOOD["cases"][0], "cases.1.workload: stands twice"),
    "a seed beyond 2^63": ((*CASE, "seed"), 2**63, "seed=9223372036854775808"),
    "batch 0": ((*CASE, "workload", "batch"), 0, "workload.batch=0"),
    "batch of a fraction": ((*CASE, "workload", "batch"), 1.5, "workload.batch=1.5"),
    "context of 10^4000": ((*CASE, "workload", "context"), 10**4000, "an integer of 13288 bits"),
    "decode of two tokens": (
        (*CASE, "workload", "new_tokens"),
        2,
        "new_tokens=2: is 1 in a decode",
    ),
    "routing by a file": ((*CASE, "workload", "routing"), "/etc/passwd", "routing='/etc/passwd'"),
    "routing too steep": (
        (*CASE, "workload", "routing"),
        "zipf:99",
        "the exponent must be a number from 0 to 10",
    ),
    "a run of no kind": ((*CASE, "runs", "guess"), {}, "cases.0.runs.guess"),
    "a reason of nothing": ((*CASE, "lacking"), {"energy": ""}, "lacking.energy=''"),
    "an unknown quantity": (
        (*STEP, "speed"),
        {"value": 1, "source": "nvml"},
        "'speed' is no quantity",
    ),
    "an energy in the time run": (
        (*STEP, "energy_j"),
        {"value": 1, "source": "nvml"},
        "'energy_j' is no quantity of this run; known: parameters",
    ),
    "a formula as a quantity": ((*STEP, "=1+1"), {"reason": "x"}, "'=1+1' is no quantity"),
    "a quantity of the step by leaf": (
        (*COLUMNS, "graph_s"),
        {"reason": "x"},
        "operators: 'graph_s' is no quantity",
    ),
    "a count below 0": ((*LAUNCHES, "value"), -1, "launches.exact.value=-1"),
    "a count of a fraction": ((*LAUNCHES, "value"), 1.5, "launches.exact.value=1.5"),
    "a count as text": ((*LAUNCHES, "value"), "5", "launches.exact.value='5'"),
    "a count beyond 2^63": ((*LAUNCHES, "value"), 2**63, "launches.exact.value="),
    "a count from nowhere": ((*LAUNCHES, "source"), "me", "launches.exact.source='me'"),
    "a time below 0": ((*STEP, "eager_s", "q1"), -1.0, "eager_s.spread.q1=-1.0"),
    "a time beyond all": ((*STEP, "eager_s", "q3"), 1e22, "eager_s.spread.q3=1e+22"),
    "quartiles crossed": ((*STEP, "eager_s", "q1"), 9.0, "lies outside q1=9.0"),
    "no repeats": ((*STEP, "eager_s", "repeats"), 0, "eager_s.spread.repeats=0"),
    "a bare number": ((*STEP, "eager_s"), 0.25, "step.eager_s"),
    "an empty object": ((*STEP, "eager_s"), {}, "eager_s.exact.value: is missing"),
    "a reason and a number": ((*STEP, "eager_s"), {"reason": "x", "value": 1}, "missing.value=1"),
    "a short column": (
        COUNTS,
        [1],
        f"operators.launches: holds 1 values; paths hold {LEAVES}",
    ),
    "a short quartile": ((*KERNELS, "q1"), [], "median, q1, q3: differ in length"),
    "a column crossed": ((*KERNELS, "q3", 4), 0.0, "median.4="),
    "half a column": ((*KERNELS, "q3", 4), None, "median.4: only some of median, q1 and q3"),
    "a column of text": ((*KERNELS, "median", 4), "fast", "kernel_s.spread.median.4='fast'"),
    "a column of lists": ((*KERNELS, "median", 4), [[]], "kernel_s.spread.median.4=[[]]"),
    "accesses of no leaf": ((*TIME, "accesses"), {"nowhere": ACCESSES}, "'nowhere' is not one of"),
    "accesses of too many": (
        (*TIME, "accesses"),
        {"embed": {**ACCESSES, "draws": 5}},
        "draws=5: exceeds population=4",
    ),
    "accesses that do not add up": (
        (*TIME, "accesses"),
        {"embed": {**ACCESSES, "trials": 2}},
        "hold 2 accesses; trials * draws = 4",
    ),
    "an item in every draw and more": (
        (*TIME, "accesses"),
        {"embed": {"population": 2, "trials": 2, "draws": 2, "counts": [[3, 1], [1, 1]]}},
        "counts: hold an item of 3 accesses; trials=2",
    ),
    "items that do not add up": (
        (*TIME, "accesses"),
        {"embed": {**ACCESSES, "population": 5}},
        "hold 4 items; population=5",
    ),
    "a check with no outcome": (
        ("sessions", 0, "self_check"),
        [{"name": "copy", "known": 1.0, "measured": None, "tolerance": 0.01}],
        "reason: stands exactly where nothing was measured",
    ),
    "a clock of minus one": ((*TIME, "conditions", "sm_clock_mhz"), -1.0, "sm_clock_mhz=-1.0"),
    "a temperature of the sun": ((*TIME, "conditions", "temperature_c"), 5778.0, "temperature_c="),
    "a host name": ((*TIME, "conditions", "host"), "node17", "host='node17': Unexpected"),
}
