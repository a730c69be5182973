"""Layer kinds that nothing else names: match and sweep take the sizes that they state."""

import json
import subprocess
import sys
from typing import Any

import pytest


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What `tests/questions/new_kinds.py` prints: toy kinds are found where a process starts."""
    command = [sys.executable, "-m", "tests.questions.new_kinds"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_a_match_varies_the_sizes_that_set_parameters_and_flops(answers: dict[str, Any]) -> None:
    usual = answers["usual"]
    assert usual["sizes"] == {"num_rows": 70_000, "intermediate_size": 2048}
    assert usual["exact"]
    assert answers["experts"]["ratios"] == pytest.approx([1, 1], abs=0.01)


def test_a_match_varies_any_size_by_name_also_of_a_mixer(answers: dict[str, Any]) -> None:
    named = answers["named"]
    assert named["sizes"] == {"num_reads": 21, "average_width": 320}
    assert named["steps"] == {"num_reads": 1, "average_width": 16}
    assert named["exact"]


def test_a_sweep_offers_the_sizes_with_their_labels(answers: dict[str, Any]) -> None:
    swept = answers["swept"]
    assert swept["labels"]["num_reads"] == "Rows read a token"
    assert swept["labels"]["average_width"] == "Width of the average"
    assert swept["fields"]["num_rows"] == "2048,4096,8192"
    assert swept["designs"] == swept["distinct"] == 3 * 3 * 2 * 2
    assert swept["as_predicted"]
