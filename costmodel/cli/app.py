"""The commands of `sparsecost`, and how the program ends.

A user's mistake (`InputError`) ends it with exit code 2, work that failed (`WorkError`) with 1;
both print one line on stderr. Only results go to stdout.
"""

import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

import costmodel
from costmodel.cli import (
    compare,
    explain,
    match,
    predict,
    presets,
    reproduce,
    request,
    sweep,
    validate,
)
from costmodel.cli.plugins import PluginGroup
from costmodel.errors import InputError, WorkError
from costmodel.inputs.files import inputs_noted
from costmodel.show.text import tell

COMMANDS = (  # each with the example that ends its help, in the order of `sparsecost --help`
    (presets.models, presets.MODELS_EPILOG),
    (presets.hardware, presets.HARDWARE_EPILOG),
    (predict.predict, predict.EPILOG),
    (explain.explain, explain.EPILOG),
    (compare.compare, compare.EPILOG),
    (sweep.sweep, sweep.EPILOG),
    (reproduce.reproduce, reproduce.EPILOG),
    (match.match, match.EPILOG),
    (request.request, request.EPILOG),
    (validate.validate, validate.EPILOG),
)

INTERRUPTED = 130  # the usual exit code after Ctrl-C

app = typer.Typer(
    name="sparsecost",
    cls=PluginGroup,
    help="What a sparse language model costs on a GPU: FLOPs, KV cache, routing, HBM bytes, time.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def root(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """What a sparse language model costs on a GPU: FLOPs, KV cache, routing, HBM bytes, time."""
    if version:
        typer.echo(costmodel.__version__)
        raise typer.Exit


for command, epilog in COMMANDS:
    app.command(epilog=epilog)(command)


def run() -> None:
    """Run the command that `sys.argv` names, and turn the errors meant for users into one line."""
    if sys.stdout is None:  # closed by the caller
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - lives as long as we do
    elif isinstance(sys.stdout, io.TextIOWrapper):  # names may pass what the terminal can show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            with inputs_noted():
                app()
        finally:
            sys.stdout.flush()  # here, where an error can be told, and not at exit
    except KeyboardInterrupt:  # outside of a command, which ends likewise
        sys.exit(INTERRUPTED)
    except (InputError, WorkError) as error:
        tell(f"error: {error}")
        sys.exit(2 if isinstance(error, InputError) else 1)
    except OSError as error:  # of stdout: files that are read or written raise InputError
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # a reader that went away, as `head` does
            sys.stderr.write(f"error: stdout: cannot be written: {error.strerror or error}\n")
        sys.exit(1)
