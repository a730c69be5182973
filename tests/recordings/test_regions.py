"""Regions: paths that name the leaves of one kernel in braces, and columns that measure them."""

import json
from pathlib import Path

import pytest

from costmodel.errors import InputError
from costmodel.layers.site import region_path
from costmodel.recordings.recording import load_recording, recording_text
from tests.inputs.damages import ACCESSES, damaged
from tests.recording_values import case, leaf_paths, recording, run, written
from tests.steps import tiny_model

TINY = tiny_model()
LEAVES = leaf_paths(TINY)
REGION = "layers.1.ffn.{gate_up,down}"


@pytest.mark.parametrize(
    "leaves",
    [
        ("layers.3.memory.query", "layers.3.memory.retrieve", "layers.3.memory.values"),
        ("layers.0.attention.out", "layers.0.ffn.norm"),
        ("final_norm", "lm_head"),
    ],
)
def test_a_path_may_be_that_of_any_region(leaves: tuple[str, ...]) -> None:
    assert recording(TINY, paths=[region_path(leaves)]).paths == (region_path(leaves),)


def test_a_recording_holds_the_region_of_a_fused_kernel_as_it_is_written() -> None:
    path = "layers.3.memory.{query,retrieve,values}"
    assert recording(TINY, paths=[path]).paths == (path,)


def test_numbers_of_a_region_come_back_from_a_file(tmp_path: Path) -> None:
    paths = (*LEAVES, REGION)
    kernel_s = [*(None for _ in LEAVES), 2e-6]
    made = recording(TINY, case(trace=run(operators={"kernel_s": kernel_s})), paths=paths)
    read = load_recording(written(made, tmp_path))
    assert read == made
    assert read.paths[-1] == REGION
    column = json.loads(recording_text(read))["cases"][0]["runs"]["trace"]["operators"]["kernel_s"]
    assert column["median"] == kernel_s


@pytest.mark.parametrize(
    "path",
    [
        "layers.1.ffn.{down}",  # a region of one leaf is that leaf
        "layers.1.ffn.{}",
        "layers.1.ffn.{gate_up,}",
        "layers.1.ffn.{gate_up, down}",
        "layers.1.ffn.{gate_up,down",
        "layers.1.ffn{gate_up,down}",
        "layers.1.{ffn.{gate_up,down},norm}",
        "layers.{0-1}.ffn.down",  # layers alike, as predictions write them
        "layers.{0,1}.ffn.down",
        ".{gate_up,down}",
        "layers.1.ffn.{gate_up,../down}",
    ],
)
def test_what_is_no_region_is_refused(path: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(damaged(("paths", 0), path)))
    with pytest.raises(InputError, match=r"paths\.0='"):
        load_recording(file)


def test_a_region_names_each_leaf_once(tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(damaged(("paths", 0), "layers.1.ffn.{down,down}")))
    with pytest.raises(InputError, match="names each of its leaves once"):
        load_recording(file)


def test_accesses_are_of_a_leaf_and_of_no_region(tmp_path: Path) -> None:
    file = tmp_path / "bad.json"
    place = ("cases", 0, "runs", "time", "accesses")
    file.write_text(json.dumps(damaged(place, {REGION: ACCESSES})))
    with pytest.raises(InputError, match="accesses"):
        load_recording(file)
