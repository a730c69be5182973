"""Targets that are files: each reader, good files of its sort, and what an accepted one must hold.

A file is damaged in its tables or in its bytes. Of an accepted one the keys are put into another
order: it must read as the same value.
"""

import json
import math
import tomllib
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias

from costmodel.costs.calibrations import calibrated
from costmodel.costs.kernel_times import Curves
from costmodel.costs.latency import NOT_ASKED
from costmodel.inputs.catalog import FOLDER, load_model
from costmodel.inputs.hardware import Hardware, load_hardware
from costmodel.inputs.histogram import read_histogram
from costmodel.inputs.model import ModelConfig, load_model_toml, model_from_table
from costmodel.inputs.model_toml import model_toml
from costmodel.recordings.calibration import Calibration, load_calibration_file
from costmodel.recordings.recording import Recording, load_recording, recording_text
from costmodel.routing.histogram import Histogram
from costmodel.show.tables.validation import validation_tables
from costmodel.show.text import markdown
from costmodel.show.validation_json import validation_json
from costmodel.validation.machines import Gpus
from costmodel.validation.validate import validate
from dashboard.report.build import build
from dashboard.report.document import Report, load_report, report_text
from dashboard.report.files import FORMATS, report_bytes
from tests.costs.calibrations import table as calibration_table
from tests.dashboard.reports import MADE, asked
from tests.fuzz.mutations import (
    Table,
    damaged,
    damaged_bytes,
    json_bytes,
    shuffled,
    toml_bytes,
)
from tests.fuzz.relations import check_step
from tests.fuzz.target import Case, Target, refused
from tests.fuzz.views import check_view
from tests.inputs.hf.small_configs import DEEPSEEK, GPT_OSS, LLAMA, MISTRAL, QWEN3_MOE
from tests.recording_values import everything, workload
from tests.steps import tiny_model

Format: TypeAlias = Literal["json", "toml"]
DATA = Path(__file__).parents[1] / "data"
GPUS = FOLDER.with_name("hardware")
UNDAMAGED, IN_BYTES = 0.1, 0.25  # of the files; the others are damaged in their tables


def parsed(data: bytes, form: Format) -> Table:
    """The table of a good file."""
    text = data.decode("utf-8-sig")
    table: Table = json.loads(text) if form == "json" else tomllib.loads(text)
    return table


def written(table: Table, form: Format) -> bytes:
    """The file of a table."""
    return json_bytes(table) if form == "json" else toml_bytes(table)


def make(
    rng: Random,
    folder: Path,
    *,
    form: Format,
    seeds: Callable[[], tuple[bytes, ...]],
    name: str,
    read: Callable[[Path], Any],
    check: Callable[[Any, Random], object],
) -> Case:
    """A case: one of the good files (`seeds`), damaged, read and checked."""
    good, donor, how = rng.choice(seeds()), rng.choice(seeds()), rng.random()
    data = good
    if how < IN_BYTES:
        data = damaged_bytes(good, rng, donor)
    elif how < 1 - UNDAMAGED:
        data = written(damaged(parsed(good, form), rng, parsed(donor, form)), form)
    path = folder / name
    order = Random(rng.random())

    def attempt() -> bool:
        path.write_bytes(data)
        accepted: list[Any] = []
        if refused(lambda: accepted.append(read(path))):
            return False
        if refused(lambda: check(accepted[0], order)):
            return False
        path.write_bytes(written(shuffled(parsed(data, form), order), form))
        assert read(path) == accepted[0], "another order of the keys is another value"
        return True

    return Case(text=data.decode("utf-8", "backslashreplace"), attempt=attempt)


@cache
def config_files() -> tuple[bytes, ...]:
    small = (DEEPSEEK, GPT_OSS, LLAMA, MISTRAL, QWEN3_MOE)
    wrapped = ({"model_type": "mistral3", "text_config": MISTRAL, "vision_config": {}},)
    real = [
        path.read_bytes()
        for folder in ("hf", "hf_sizes", "hf_towers")
        for path in sorted((DATA / folder).glob("*.json"))
    ]
    return (*real, *(json.dumps(table).encode() for table in (*small, *wrapped)))


@cache
def toml_files(folder: Path) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(folder.glob("*.toml")))


def check_model(model: ModelConfig, rng: Random) -> None:
    """The relations, with or without predicted times, and a view; as TOML it is the same model."""
    curves = calibrated("h200") if rng.random() < 0.5 else NOT_ASKED
    check_step(model, rng, calibration=curves)
    check_view(model, rng)
    again = model_from_table(tomllib.loads(model_toml(model)), where="again")
    assert again == model, "written as TOML it is another model"


def check_gpu(gpu: Hardware, rng: Random) -> None:
    check_step(_some_preset(rng), rng, gpu=gpu)


@cache
def _presets() -> tuple[ModelConfig, ...]:
    return tuple(load_model_toml(path) for path in sorted(FOLDER.glob("*.toml")))


def _some_preset(rng: Random) -> ModelConfig:
    return rng.choice(_presets())


@cache
def calibration_files() -> tuple[bytes, ...]:
    """A made-up GPU as it is, and with curves of any other speed and without a power."""
    rng = Random(0)
    tables = [calibration_table(), calibration_table(power=None)]
    for _ in range(20):
        table = calibration_table()
        for points in table.values():
            factor = 10 ** rng.uniform(-6, 3)
            for point in points if isinstance(points, list) else ():
                point.update({name: point[name] * factor for name in ("s", "q1_s", "q3_s")})
        table["launch"] = {name: 10 ** rng.uniform(-9, -3) for name in table["launch"]}
        tables.append(table)
    return tuple(json.dumps(table).encode() for table in tables)


def check_calibration(calibration: Calibration, rng: Random) -> None:
    check_step(_some_preset(rng), rng, calibration=Curves.of(calibration))


@cache
def histogram_files() -> tuple[bytes, ...]:
    """Of experts, of rows and of both, as some tokens drew them."""
    rng = Random(0)
    tables: list[Table] = []
    for names in (("experts",), ("rows",), ("experts", "rows")) * 5:
        sections = {name: _drawn(rng) for name in names}
        tables.append({"schema_version": 1, "source": "drawn by a test", **sections})
    return tuple(json.dumps(table).encode() for table in tables)


def _drawn(rng: Random) -> Table:
    """The section of a population of which each trial drew different items."""
    population = rng.choice((4, 64, 256, 1_000_000))  # squares, as tables of product keys have
    draws, trials = rng.randint(1, min(8, population)), rng.choice((1, 3, 100))
    accesses = Counter(item for _ in range(trials) for item in rng.sample(range(population), draws))
    counts = Counter(accesses.values())
    counts[0] = population - len(accesses)
    pairs = [list(pair) for pair in counts.items()]
    return {"population": population, "trials": trials, "draws": draws, "counts": pairs}


def check_histogram(histogram: Histogram, rng: Random) -> None:
    """The relations of a model with as many experts, and rows, as the file counts."""
    experts, rows = histogram.experts, histogram.rows
    table = parsed((FOLDER / "pkm-lm-16l.toml").read_bytes(), "toml")
    if rows is None:
        del table["memory"]
    else:
        table["memory"][0].update(num_keys=math.isqrt(rows.population), knn=rows.draws)
    if experts is not None:
        chosen = {"num_experts": experts.population, "num_experts_per_tok": experts.draws}
        table["ffn"] = {"kind": "moe", "moe_intermediate_size": 64, **chosen}
    check_step(model_from_table(table, where="model"), rng, routing=histogram)


@cache
def recording_files() -> tuple[bytes, ...]:
    works = (workload(), workload(batch=4, routing="zipf:1.0"))
    made = everything(tiny_model(name="tiny"), works)
    preset = load_model("olmoe-227m-1.2b")
    return tuple(recording_text(each).encode() for each in (made, everything(preset, works[:1])))


def check_recording(recording: Recording, _: Random) -> None:
    """It is validated and shown, whatever it measured."""
    validation = validate([("made", recording)], Gpus())
    json.dumps(validation_json(validation, 3), allow_nan=False)
    assert markdown(validation_tables(validation, whole=False))
    assert json.loads(recording_text(recording))


@cache
def report_files() -> tuple[bytes, ...]:
    tiny = tiny_model(name="tiny")
    other = load_model("olmoe-227m-1.2b")
    made = build(asked(tiny, other, compared_batches=(1, 64), price_per_hour=3.0), MADE)
    short = build(asked(tiny, compared_batches=(1,), contents=("summary", "operators")), MADE)
    return tuple(report_text(each).encode() for each in (made, short))


def check_report(report: Report | None, rng: Random) -> None:
    """It is written in a format; HTML and Excel seldom, since they take longest."""
    if report is None:  # some other JSON, which is a model then
        return
    suffixes = list(FORMATS) if rng.random() < 0.1 else [".md", ".csv", ".json"]
    assert report_bytes(report, rng.choice(suffixes))


def read_model(path: Path) -> ModelConfig:
    return load_model(str(path))


def read_gpu(path: Path) -> Hardware:
    return load_hardware(str(path))


def file_target(  # noqa: PLR0917 - a table reads best in columns
    name: str,
    share: int,
    form: Format,
    seeds: Callable[[], tuple[bytes, ...]],
    read: Callable[[Path], Any],
    check: Callable[[Any, Random], object],
) -> Target:
    case = partial(make, name=f"fuzzed.{form}", form=form, seeds=seeds, read=read, check=check)
    return Target(name=name, share=share, make=case)


FILES = (
    file_target("config.json", 6, "json", config_files, read_model, check_model),
    file_target("model TOML", 4, "toml", partial(toml_files, FOLDER), read_model, check_model),
    file_target("GPU TOML", 2, "toml", partial(toml_files, GPUS), read_gpu, check_gpu),
    file_target("histogram", 2, "json", histogram_files, read_histogram, check_histogram),
    file_target(
        "calibration", 2, "json", calibration_files, load_calibration_file, check_calibration
    ),
    file_target("recording", 3, "json", recording_files, load_recording, check_recording),
    file_target("report", 2, "json", report_files, load_report, check_report),
)
