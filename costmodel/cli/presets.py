"""The commands `sparsecost models` and `sparsecost hardware`: all presets, or one in full."""

from typing import Annotated

import typer

from costmodel.cli.options import JsonOpt, MarkdownOpt, complete_hardware, complete_model
from costmodel.cli.output import print_output
from costmodel.inputs.catalog import load_model, model_names
from costmodel.inputs.hardware import hardware_names, load_hardware

MODELS_EPILOG = "Example: sparsecost models qwen3-30b-a3b"
HARDWARE_EPILOG = "Example: sparsecost hardware h200"


def models(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Show this one.", autocompletion=complete_model),
    ] = None,
    *,
    as_json: JsonOpt = False,
    as_markdown: MarkdownOpt = False,
) -> None:
    """List the model presets, or show one with its counts by convention."""
    from costmodel.show.inputs_json import model_overview
    from costmodel.show.tables.presets import model_table, models_table

    names = model_names() if name is None else (name,)
    loaded = [load_model(preset) for preset in names]
    overviews = [model_overview(preset, model) for preset, model in zip(names, loaded, strict=True)]
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        data=lambda: overviews if name is None else overviews[0],
        tables=lambda: [models_table(overviews) if name is None else model_table(loaded[0])],
    )


def hardware(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[GPU]", help="Show this one.", autocompletion=complete_hardware),
    ] = None,
    *,
    as_json: JsonOpt = False,
    as_markdown: MarkdownOpt = False,
) -> None:
    """List the GPU presets, or show one with the source of each number."""
    from costmodel.show.inputs_json import hardware_json
    from costmodel.show.tables.presets import hardware_sources, hardware_table

    names = hardware_names() if name is None else (name,)
    loaded = [(preset, load_hardware(preset)) for preset in names]
    records = [{"preset": preset, **hardware_json(gpu)} for preset, gpu in loaded]
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        data=lambda: records if name is None else records[0],
        tables=lambda: [hardware_table(loaded) if name is None else hardware_sources(loaded[0][1])],
    )
