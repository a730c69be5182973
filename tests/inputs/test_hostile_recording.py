"""Recordings that nobody means well with: each is refused in one line, soon."""

import copy
import io
import json
import os
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.inputs.recording import load_recording, recording_text
from tests.commands import refusal
from tests.recordings import everything, workload
from tests.steps import tiny_model

SECONDS = 2.0
GOOD: dict[str, Any] = json.loads(
    recording_text(everything(tiny_model(), [workload(), workload(batch=2)]))
)
LEAVES = len(GOOD["paths"])

Place = tuple[str | int, ...]
CASE: Place = ("cases", 0)
TIME: Place = (*CASE, "runs", "time")
STEP: Place = (*TIME, "step")
COLUMNS: Place = (*TIME, "operators")
KERNELS: Place = (*COLUMNS, "kernel_s")
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
    "routing too steep": ((*CASE, "workload", "routing"), "zipf:99", "the exponent is at most 10"),
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
    "a count below 0": ((*STEP, "launches", "value"), -1, "launches.exact.value=-1"),
    "a count of a fraction": ((*STEP, "launches", "value"), 1.5, "launches.exact.value=1.5"),
    "a count as text": ((*STEP, "launches", "value"), "5", "launches.exact.value='5'"),
    "a count beyond 2^63": ((*STEP, "launches", "value"), 2**63, "launches.exact.value="),
    "a count from nowhere": ((*STEP, "launches", "source"), "me", "launches.exact.source='me'"),
    "a time below 0": ((*STEP, "eager_s", "q1"), -1.0, "eager_s.spread.q1=-1.0"),
    "a time beyond all": ((*STEP, "eager_s", "q3"), 1e22, "eager_s.spread.q3=1e+22"),
    "quartiles crossed": ((*STEP, "eager_s", "q1"), 9.0, "lies outside q1=9.0"),
    "no repeats": ((*STEP, "eager_s", "repeats"), 0, "eager_s.spread.repeats=0"),
    "a bare number": ((*STEP, "eager_s"), 0.25, "step.eager_s"),
    "an empty object": ((*STEP, "eager_s"), {}, "eager_s.exact.value: is missing"),
    "a reason and a number": ((*STEP, "eager_s"), {"reason": "x", "value": 1}, "missing.value=1"),
    "a short column": (
        (*COLUMNS, "launches", "values"),
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


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_recording_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    place, value, said = DAMAGES[name]
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(damaged(place, value)))
    line = refused(path)
    assert line.startswith("recording 'bad.json': ")
    assert said in line


def refused(path: Path) -> str:
    """What the command says of a file that it refuses, in time."""
    start = time.process_time()
    line = refusal("validate", str(path))
    assert time.process_time() - start < SECONDS
    assert len(line) < 3000
    return line


TEXT = json.dumps(GOOD)
ONE_KEY = '"schema_version": 1'


def zipped() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("recording.json", TEXT)
    return held.getvalue()


# Bytes of a file, and what the message must say
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is not JSON: Expecting value"),
    "blank": (lambda: b" \n" * 100, "is not JSON: Expecting value"),
    "a zip": (zipped, "is not "),
    "a pickle": (lambda: pickle.dumps(GOOD), "is not "),
    "a pickle of text": (lambda: pickle.dumps(GOOD, protocol=0), "is not JSON"),
    "binary": (lambda: bytes(range(256)), "is not UTF-8 text"),
    "UTF-16": (lambda: TEXT.encode("utf-16"), "is not UTF-8 text (byte 0)"),
    "a byte-order mark": (lambda: b"\xef\xbb\xbf" + TEXT.encode(), "is not JSON"),
    "truncated": (TEXT[: len(TEXT) // 2].encode, "is not JSON"),
    "two documents": ((TEXT + TEXT).encode, "is not JSON: Extra data"),
    "a list": (lambda: b"[1, 2]", "holds a list; an object is expected"),
    "a number": (lambda: b"17", "holds a int; an object is expected"),
    "another JSON": (lambda: b'{"hello": "world"}', "schema_version: is missing"),
    "NaN": (lambda: TEXT.replace('"seed": 0', '"seed": NaN').encode(), "'NaN' is not finite"),
    "infinity": (lambda: TEXT.replace('"seed": 0', '"seed": -Infinity').encode(), "is not finite"),
    "1e999": (lambda: TEXT.replace('"seed": 0', '"seed": 1e999').encode(), "is not finite"),
    "a field twice": (
        lambda: TEXT.replace(ONE_KEY, f"{ONE_KEY}, {ONE_KEY}").encode(),
        "field 'schema_version' stands twice in one object",
    ),
    "half a character": (
        lambda: TEXT.replace('"source": "a test"', r'"source": "\ud800"').encode(),
        "ends in half a character",
    ),
    "deep lists": (lambda: b'{"a":' + b"[" * 100_000, "is nested deeper than 32 levels"),
    "deep objects": (lambda: b'{"a":' * 100_000, "is nested deeper than 32 levels"),
    "an integer of 5000 digits": (
        lambda: TEXT.replace('"seed": 0', f'"seed": {"9" * 5000}').encode(),
        "is not JSON: Exceeds the limit",
    ),
    "50 MB": (lambda: b" " * 50_000_000, "holds 50,000,000 bytes; at most 16,777,216 are read"),
    "16 MB of numbers": (
        lambda: b'{"a":[' + b"0," * 8_000_000 + b"0]}",
        "holds over 1,200,000 values",
    ),
    "many lists": (lambda: b'{"a":[' + b"[]," * 500_000 + b"0]}", "holds over 400,000 lists"),
    "many fields": (
        lambda: json.dumps(dict.fromkeys(map(str, range(200_000)))).encode(),
        "holds over 100,000 fields",
    ),
    "as many fields as are read": (
        lambda: json.dumps(dict.fromkeys(map(str, range(99_900)))).encode(),
        "and 99,899 more broken rules",
    ),
    "as many wrong notes as are read": (
        lambda: json.dumps(damaged(("model", "notes"), [0] * 1_190_000)).encode(),
        "breaks 1,190,000 rules",
    ),
    "a column of a million": (
        lambda: json.dumps(damaged((*COLUMNS, "launches", "values"), [-1] * 1_000_000)).encode(),
        "launches.exact.values.0=-1",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_recording_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    made, said = FILES[name]
    path = tmp_path / "bad.json"
    path.write_bytes(made())
    assert said in refused(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    folder, fifo, loop = tmp_path / "folder.json", tmp_path / "fifo.json", tmp_path / "loop.json"
    folder.mkdir()
    os.mkfifo(fifo)
    loop.symlink_to(loop)
    assert "is a directory; a file is expected" in refused(folder)
    assert "is not a regular file" in refused(fifo)
    assert "does not exist" in refused(loop)
    assert "does not exist" in refused(tmp_path / "none.json")
    assert "does not exist" in refused(Path("a\x1b[2Jb\n.json"))


def test_more_work_than_a_moment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"

    def line(**changes: object) -> str:
        path.write_text(json.dumps(GOOD | changes))
        return refused(path)

    def cases(count: int, routing: str = "uniform") -> list[Any]:
        bare = {"seed": 0, "runs": {}}
        return [
            {**bare, "workload": {**GOOD["cases"][0]["workload"], "batch": 1 + i, "routing": r}}
            for i, r in enumerate([routing.format(i) for i in range(count)])
        ]

    deep = GOOD["model"] | {"num_hidden_layers": 1024}
    assert "cases: hold 9 routings; at most 8 are read" in line(cases=cases(9, "zipf:0.{}"))
    # 16 cases x (27 paths + 16 x 1024 layers) = 262,576, over 2^18
    assert "cases: hold 262,576 leaves in all" in line(model=deep, cases=cases(16))
    sorts = [{"layers": str(i), "ffn": GOOD["model"]["ffn"]} for i in range(100)]
    odd = GOOD["model"] | {"num_hidden_layers": 100, "overrides": sorts}
    assert "cases: hold 1,111 layer kinds in all" in line(model=odd, cases=cases(11))


def test_a_good_file_beside_a_bad_one_does_not_help(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(TEXT)
    bad.write_text("{}")
    assert "recording 'bad.json'" in refusal("validate", str(good), str(bad))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 4)
    | st.sampled_from([2**31, 2**53, 2**63, 10**30, 10**400])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def places(value: Any, at: Place = ()) -> list[Place]:  # noqa: ANN401 - any part of JSON
    """Every place within."""
    keys = value if isinstance(value, dict) else range(min(len(value), 2))
    found = [(*at, key) for key in keys]
    inner = [(key, value[key]) for key in keys if isinstance(value[key], dict | list)]
    return found + [place for key, child in inner for place in places(child, (*at, key))]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.sampled_from(places(GOOD)), value=ANYTHING | st.just(DROPPED))
def test_any_value_at_any_place_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: Place, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(json.dumps(damaged(place, value)).encode())
    try:
        read = load_recording(path)
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017 - both outcomes are right
        assert len(str(error)) < 3000  # noqa: PT017
    else:
        assert json.loads(recording_text(read))["paths"]
