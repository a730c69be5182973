"""The command `sparsecost validate`: recordings against predictions."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from costmodel.cli.options import CalibrationOpt, CsvOpt, ForceOpt, JsonOpt, MarkdownOpt
from costmodel.cli.output import csv_file, print_output
from costmodel.cli.typed_models import tell_ignored_keys
from costmodel.errors import InputError
from costmodel.inputs.hf.fields import ignored_keys

MAX_ROWS = 20  # of a quantity in JSON
MAX_RECORDINGS = 256

EPILOG = "Example: sparsecost validate h200-olmoe-1b-7b --attribution"


def validate(
    recordings: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RECORDING]...",
            help="Shipped recordings by name, or files that `sparsecost profile` wrote."
            " (Default: all that are shipped.)",
            show_default=False,
        ),
    ] = None,
    *,
    own: Annotated[
        bool,
        typer.Option(
            "--own",
            help="Your own recordings: those in the folder of SPARSECOST_RECORDINGS, else in"
            " ./recordings.",
        ),
    ] = False,
    calibration: CalibrationOpt = None,
    everything: Annotated[
        bool, typer.Option("--all", help="List every line, case and row, not the worst alone.")
    ] = False,
    attribution: Annotated[
        bool,
        typer.Option(
            "--attribution",
            help="Also say where the measured time goes: bound, padding and over-read, launches,"
            " kernel inefficiency, residual.",
        ),
    ] = False,
    as_json: JsonOpt = False,
    csv: CsvOpt = None,
    force: ForceOpt = False,
    as_markdown: MarkdownOpt = False,
) -> None:
    """What recordings measured beside what is predicted: errors, worst rows, failed checks."""
    from costmodel.recordings.folders import SHIPPED
    from costmodel.recordings.recording import load_recording
    from costmodel.show.export import with_ignored_keys
    from costmodel.show.tables.validation import validation_tables
    from costmodel.show.validation_json import validation_json, validation_records
    from costmodel.validation.machines import Gpus
    from costmodel.validation.validate import validate as compare

    file = csv_file(csv, force=force, as_json=as_json, as_markdown=as_markdown)
    paths = _paths(recordings or [], own=own)
    if len(paths) > MAX_RECORDINGS:
        raise InputError(f"recordings={len(paths)}: at most {MAX_RECORDINGS} are read at once")
    with _without_collector():
        loaded = [(name, load_recording(path)) for name, path in paths]
        validation = compare(loaded, Gpus(calibration), attribution=attribution)
    models = {name: recording.model for name, recording in loaded}
    for name, model in models.items():
        tell_ignored_keys(name, model)
    development = {name for name, path in paths if path.parent == SHIPPED}
    max_rows = None if everything else MAX_ROWS
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        csv=file,
        data=lambda: {
            **validation_json(validation, max_rows),
            "development_set": sorted(development),
            "ignored_keys": {name: ignored_keys(model.notes) for name, model in models.items()},
        },
        records=lambda: with_ignored_keys(validation_records(validation), models, "recording"),
        tables=lambda: validation_tables(validation, whole=everything, development=development),
        indent=None,
    )


@contextmanager
def _without_collector() -> Iterator[None]:
    """No garbage collection inside: over half a million rows it takes a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _paths(typed: list[Path], *, own: bool) -> list[tuple[str, Path]]:
    """The recordings that are meant, each with its name; says which of a user's own are left out.

    Raises:
        InputError: Some are typed beside `--own`, or there are none of one's own.
    """
    from costmodel.recordings.folders import (
        own_folder,
        own_names,
        recording_file,
        shipped_names,
        typed_recording,
    )

    if own and typed:
        raise InputError("own: reads all of your own recordings; leave out the names or --own")
    if typed:
        return _named([typed_recording(path) for path in typed])
    mine = own_names()
    if own and not mine:
        raise InputError(f"own: there is no {own_folder()}/*.json here")
    if mine and not own:
        what = "1 recording" if len(mine) == 1 else f"{len(mine)} recordings"
        typer.echo(f"not counted: {what} of your own in {own_folder()}; see --own", err=True)
    names = mine if own else shipped_names()
    return _named([recording_file(name) for name in names])


def _named(paths: list[Path]) -> list[tuple[str, Path]]:
    """The files with their titles; the whole path where two share one."""
    from costmodel.recordings.folders import recording_title

    names = [recording_title(path) for path in paths]
    return [
        (str(path) if names.count(name) > 1 else name, path)
        for name, path in zip(names, paths, strict=True)
    ]
