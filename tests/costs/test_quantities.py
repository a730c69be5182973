"""The registry of predicted quantities: every number of the JSON has an entry, none is idle."""

import importlib
import inspect
import json
from collections.abc import Iterator, Mapping
from functools import reduce
from typing import Any, get_args

import pytest

from costmodel.backends import BACKENDS
from costmodel.costs.quantities.matches import MATCH_QUANTITIES
from costmodel.costs.quantities.quantity import Quantity
from costmodel.costs.quantities.requests import REQUEST_QUANTITIES
from costmodel.costs.quantities.step import STEP_QUANTITIES
from costmodel.costs.quantities.utilisation import UTILISATION_QUANTITIES
from costmodel.recordings.quantities import QUANTITIES
from costmodel.units import Unit
from costmodel.validation.utilisation import Utilisation
from tests.commands import output

GIVEN = {"model", "models", "workload", "hardware", "calibration", "schema_version"}
ALL: dict[str, Quantity] = {
    f"{document}: {name}": quantity
    for document, register in (
        ("step", STEP_QUANTITIES),
        ("request", REQUEST_QUANTITIES),
        ("match", MATCH_QUANTITIES),
        ("utilisation", UTILISATION_QUANTITIES),
    )
    for name, quantity in register.items()
}
MODELS = (
    *("gpt-oss-20b", "ultramemv2-227m-1.2b", "deepseek-v2-lite", "memory-plus-227m-1.2b"),
    "gemma-3n-e4b",
)


def number_names(value: object, name: str = "") -> Iterator[str]:
    """Names of all numbers, keys joined by dots, without the places in lists; of nulls as well."""
    if value is None or isinstance(value, int | float):
        yield name
    for key, child in value.items() if isinstance(value, dict) else ():
        if name or key not in GIVEN | {"reasons"}:
            yield from number_names(child, f"{name}.{key}" if name else key)
    for child in value if isinstance(value, list) else ():
        yield from number_names(child, name)


def document(*arguments: str) -> dict[str, Any]:
    document = json.loads(output(*arguments, "--json"))
    assert isinstance(document, dict)
    return document


def names_of(data: Mapping[str, Any], texts: set[str]) -> set[str]:
    """The names of a document's quantities: its numbers, and the texts that are results."""
    return set(number_names(data)) | texts


MESH_SIZES = {
    f"parallel.{name}" for name in ("gpus", "tp", "ep", "pp", "dp", "redundant_experts")
} | {
    *("parallel.microbatches", "parallel.runs"),
    "parallel.exchanges.gpus_of_a_node",
}
"""Sizes of a mesh, which are no results."""


def test_every_number_of_predictions_and_comparisons_has_an_entry_and_every_entry_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BACKENDS["torch"], "spans", (("memory.query", "memory.retrieve"),))
    seen: set[str] = set()
    for model in MODELS:
        for options in ("--batch 4", "--batch 4 --calibration none --backend fused"):
            seen |= names_of(
                document("predict", model, *options.split()),
                {"time.bound_by", "operators.bound_by"},
            )
    mesh = ["--batch", "4", "--tp", "2", "--dp", "2", "--ep", "4", "--pp", "2"]
    seen |= names_of(document("predict", "mixtral-8x7b", *mesh), set()) - MESH_SIZES
    seen |= names_of(document("compare", *MODELS[1:]), {"rows.bound_by"})
    assert seen - set(STEP_QUANTITIES) == {
        "operators.parts.routing",
        "rows.batch",
        *("hbm_bytes.read_interval", "hbm_bytes.interval_coverage"),
        *("time.interval_s", "time.interval_coverage"),
        *("energy.interval_j", "energy.interval_coverage"),
        *("rows.interval_low_s", "rows.interval_high_s"),
    }  # a mark, what is given, and intervals of numbers that have an entry
    shown_elsewhere = {"cost.usd_per_million_tokens", "memory.max_context"}  # reports, Explore
    assert set(STEP_QUANTITIES) - seen == shown_elsewhere


def test_every_number_of_a_request_has_an_entry_and_every_entry_is_used() -> None:
    seen: set[str] = set()
    for options in ("--output 9 --price-per-hour 2", "--output 1", "--output 9 --batch 4 --dp 4"):
        request = ("request", "olmoe-1b-7b", "--prompt", "64", *options.split())
        seen |= names_of(document(*request), {"ttft.bound_by"}) - MESH_SIZES
    intervals = {
        f"{time}.interval_{what}"
        for time in ("ttft", "tpot", "latency")
        for what in ("s", "coverage")
    }
    assert seen - intervals == set(REQUEST_QUANTITIES)
    assert intervals <= seen


def test_every_number_of_a_match_has_an_entry_and_every_entry_is_used() -> None:
    data = document("match", "olmoe-227m-1.2b", "--to", "ultramemv2-227m-1.2b")
    lines = [*data.pop("matched"), *data.pop("beside")]
    data["fields"] = list(data["fields"].values())
    assert {line["quantity"] for line in lines} <= set(STEP_QUANTITIES)
    assert {key for line in lines for key in line} == {
        *("quantity", "batch", "target", "matched", "difference", "difference_percent")
    }
    assert set(number_names(data)) | {"difference", "difference_percent"} == set(MATCH_QUANTITIES)


def test_utilisation_has_the_figures_of_a_measured_step() -> None:
    assert set(UTILISATION_QUANTITIES) == set(Utilisation.__dataclass_fields__) - {"time_of"}


@pytest.mark.parametrize("name", ALL)
def test_its_formula_stands_where_it_says(name: str) -> None:
    module, _, path = ALL[name].formula.partition(":")
    function: object = reduce(getattr, path.split("."), importlib.import_module(module))
    assert inspect.getdoc(function.fget if isinstance(function, property) else function)


def test_no_two_quantities_share_a_label() -> None:
    quantities = {id(quantity): quantity.label for quantity in ALL.values()}
    labels = [*quantities.values(), *(measured.title for measured in QUANTITIES.values())]
    assert sorted(set(labels)) == sorted(labels)


@pytest.mark.parametrize("name", ALL)
def test_entries_say_what_they_count_in_a_known_unit(name: str) -> None:
    quantity = ALL[name]
    assert quantity.unit in get_args(Unit)
    for text in (quantity.label, quantity.counts):
        assert text == text.strip()
        assert text
        assert text.isascii()
