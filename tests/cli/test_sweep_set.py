"""`sweep --set` and `--nested`: each row is the prediction of a file that holds these numbers."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.inputs.catalog import FOLDER
from tests.commands import output, refusal

PRESET = "ultramemv2-227m-1.2b"
KNUM = "knum = 360"
SWEEP = ("sweep", PRESET, "--set", "memory.knum=180,360", "--batch", "1,16")


def rows(*options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(output(*SWEEP, "--json", *options))["rows"]
    return found


def flat(record: dict[str, Any], before: str = "") -> dict[str, Any]:
    """A nested record with dotted keys."""
    whole: dict[str, Any] = {}
    for key, value in record.items():
        path = f"{before}{key}"
        whole |= flat(value, f"{path}.") if isinstance(value, dict) else {path: value}
    return whole


def test_each_row_is_the_prediction_of_the_edited_file(tmp_path: Path) -> None:
    text = (FOLDER / f"{PRESET}.toml").read_text()
    assert text.count(KNUM) == 1
    points = [(row["set.memory.knum"], row["batch"]) for row in rows()]
    assert points == [(180, 1), (180, 16), (360, 1), (360, 16)]
    for row in rows():
        file = tmp_path / "model.toml"
        file.write_text(text.replace(KNUM, f"knum = {row['set.memory.knum']}"))
        alone = json.loads(output("predict", str(file), "--batch", str(row["batch"]), "--json"))
        for path in ("parameters.total", "flops.total", "hbm_bytes.compulsory", "time.floor_s"):
            group, name = path.split(".")
            assert row[path] == alone[group][name], path


def test_nested_rows_hold_the_same_and_have_the_shape_of_a_prediction() -> None:
    prediction = json.loads(output("predict", PRESET, "--json"))
    for row, nested in zip(rows(), rows("--nested"), strict=True):
        assert {key.removeprefix("workload."): value for key, value in flat(nested).items()} == row
        assert nested["set"] == {"memory": {"knum": row["set.memory.knum"]}}
        assert nested["workload"].keys() <= prediction["workload"].keys()
        for group in ("parameters", "kv_cache", "flops", "routing", "hbm_bytes", "time", "energy"):
            assert nested[group].keys() & prediction[group].keys(), group


def test_rows_without_set_have_the_names_they_had() -> None:
    (row,) = json.loads(output("sweep", PRESET, "--json"))["rows"]
    assert not [name for name in row if name.startswith("set.")]
    keys = "model phase hardware routing batch context new_tokens dtype kv_dtype parameters.total"
    assert " ".join([*row][:10]) == keys


def test_files_and_tables_have_a_column_for_each_field(tmp_path: Path) -> None:
    file = tmp_path / "sweep.csv"
    output(*SWEEP, "--out", str(file))
    with file.open() as lines:
        values = [line["set.memory.knum"] for line in csv.DictReader(lines)]
    assert values == ["180", "180", "360", "360"]
    table = output(*SWEEP).splitlines()
    assert table[0].startswith("Sweep of 4 points")
    cells = [line.split() for line in table if line.startswith("UltraMemV2")]
    assert [row[5:8] for row in cells] == [  # batch, context, keys per side
        ["1", "2,048", "180"],
        ["16", "2,048", "180"],
        ["1", "2,048", "360"],
        ["16", "2,048", "360"],
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--nested"], "nested: goes with --json"),
        (["--set", "memory.knum=0"], "set='memory.knum=0': knum=0: Input should be greater"),
        (["--set", "ffn.num_experts=8"], "set='ffn.num_experts': is no number of 'UltraMemV2"),
    ],
)
def test_a_mistake_is_one_line(options: list[str], words: str) -> None:
    assert words in refusal("sweep", PRESET, *options)
