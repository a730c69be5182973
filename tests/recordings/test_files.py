"""The committed recordings are of their presets, name nobody and no machine, stay small."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.recordings.measured import Missing
from costmodel.validation.measured_model import measured_alike
from profiler.session.plan import case_seed
from tests.committed import FILES, FOLDER, NAMES, PLACED, PRESETS, recording

PLACED_PRESETS = {"engram-227m-1.2b-reconstruction"}
MEGABYTE = 10**6
COMMIT = re.compile(r"[0-9a-f]{40}")
IDENTIFIERS = {
    "UUID": re.compile(r"(?i)\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
    "PCI address": re.compile(r"(?i)\b[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]\b"),
    "MAC address": re.compile(r"(?i)\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b"),
    "IP address": re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b"),
    "path": re.compile(r"(?<![\w/:.])[/~]\w+|[A-Z]:\\\\"),
    "address": re.compile(r"\w@\w"),
    "field": re.compile(
        r"(?i)(?<!tables=)host(?!\ memory|_read_bytes)|user|serial|uuid|pci|\bpid\b|\bip\b"
    ),
}
KNOWN_STRINGS = re.compile(
    r"""
    cuda | torch | fused | bf16 | decode | prefill | uniform | zipf:1\.0 | scores
    | NVIDIA\ H200 | tables=host
    | \d+(\.\d+){1,2} (\+cu\d+)?  # a version
    | [0-9a-f]{40}  # a commit
    | \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ
    | embed | token_history | final_norm | lm_head | layers(\.[a-z0-9_]+)+  # the path of a leaf
    | ([a-z0-9_]+\.)*\{[a-z0-9_.]+(,[a-z0-9_.]+)+\}  # of a region
    | copy\ of\ 128\ MiB | product\ of\ 4096\ x\ 4096\ x\ 4096,\ bf16
    | gather\ of\ 65,536\ rows\ of\ 512\ bytes | gather\ of\ rows\ from\ host\ memory:.*
    | tensors | flop_counter | choices | cuda_event | torch_profiler | allocator
    | hardware_counter | nvml
    | (copy|streaming\ linear):\ bytes\ (read|written) | square\ GEMM:\ tensor\ FLOPs
    | (copy|GEMM)\ loop:\ counter\ power\ over\ power\ readings
    | does\ not\ fit:\ cache\ and\ activations\ need\ [\d,.]+\ GiB\ by\ the\ prediction,
      \ margin\ in;\ [\d,.]+\ GiB\ are\ free
    | power\ cap
    """,
    re.VERBOSE,
)


def test_a_model_was_measured_with_its_tables_in_both_places() -> None:
    """Decode steps and prompts, each in HBM and in host memory, as issue 15 asks for it."""
    assert {recording(f"placed/{path.name}").preset for path in PLACED} == PLACED_PRESETS
    for path in PLACED:
        cases = recording(f"placed/{path.name}").cases
        steps = {(c.workload.batch, c.workload.new_tokens, c.workload.tables) for c in cases}
        wanted = {(1, 1), (16, 1), (64, 1), (256, 1), (1, 1024), (1, 2048)}
        assert steps == {(*each, place) for each in wanted for place in ("hbm", "host")}
        for case in cases:
            decodes = case.workload.phase == "decode"
            assert case.runs.keys() >= {"time", "trace", "counters"}
            assert ("energy" in case.runs) == decodes


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_is_of_its_preset_and_of_the_seeds_of_the_plan(name: str) -> None:
    made = recording(name)
    stem = Path(name).stem.removeprefix("h200-").removesuffix("-fused")
    grouped = next((FOLDER / name).parent.glob(f"{stem}.toml"), "")
    assert measured_alike(made.model, load_model(made.preset or str(grouped)))
    assert made.weights_seed == 0
    assert all(case.seed == case_seed(case.workload) for case in made.cases)


@pytest.mark.parametrize("name", NAMES)
def test_no_number_of_a_finished_run_is_missing(name: str) -> None:
    for case in recording(name).cases:
        for run in case.runs.values():
            assert run.step
            for given in (*run.step.values(), *run.operators.values()):
                assert not isinstance(given, Missing)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_recording_names_nobody_and_no_machine(name: str) -> None:
    """No pattern of an identifier in the text, and no string but those that are known."""
    data = json.loads((FOLDER / name).read_text())
    del data["model"]  # a preset, as another test asserts: its source is a web address
    assert (data.pop("preset") or "") in ({""} if "grouped" in name else PRESETS | PLACED_PRESETS)
    text = json.dumps(data)
    for what, pattern in IDENTIFIERS.items():
        assert not pattern.search(text), what
    unknown = [each for each in strings(data) if not KNOWN_STRINGS.fullmatch(each)]
    assert not unknown


def strings(value: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    """Every string in it that is a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("UUID", '"GPU-5c1f2e3a-0b1c-4d5e-8f90-a1b2c3d4e5f6"'),
        ("PCI address", '"00000000:1B:00.0"'),
        ("MAC address", '"02:42:ac:11:00:02"'),
        ("IP address", '"10.0.0.7"'),
        ("path", '"not measured (no file /home/someone/x)"'),
        ("path", '"/usr"'),
        ("path", '"~someone"'),
        ("path", '"C:\\\\Users"'),
        ("address", '"someone@example.org"'),
        ("field", '{"hostname": "a"}'),
        ("field", '{"serial_number": 1}'),
    ],
)
def test_an_identifier_would_be_found(what: str, text: str) -> None:
    assert IDENTIFIERS[what].search(text)
    assert not KNOWN_STRINGS.fullmatch(text.strip('"'))


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_was_made_by_committed_code_on_an_idle_h200(name: str) -> None:
    made = recording(name)
    for session in made.sessions:
        assert COMMIT.fullmatch(session.commit or "")
        assert session.machine.name == "NVIDIA H200"
    for case in made.cases:
        for run in case.runs.values():
            assert run.conditions.other_processes == 0
            assert run.conditions.sm_clock_mhz
            assert run.conditions.temperature_c
            assert set(run.conditions.event_reasons) <= {"power cap"}


def test_recordings_are_small() -> None:
    sizes = [path.stat().st_size for path in FILES]
    assert max(sizes) < 2.5 * MEGABYTE
    assert sum(sizes) < 20 * MEGABYTE
