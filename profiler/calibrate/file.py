"""The file of a calibration: its path, checked beforehand, and its JSON with one point per line."""

import json
import re
import sys
from pathlib import Path

from pydantic import TypeAdapter

from costmodel.errors import InputError, WorkError, shown
from costmodel.inputs.output_file import OutputFile
from costmodel.recordings.calibration import Calibration

SUFFIX = ".json"
NAME = re.compile(r"[!-~]([ -~]{0,198}[!-~])?")  # a `Label`


def calibration_file(out: str, *, force: bool) -> OutputFile:
    """The file that `--out` means: NAME is NAME.json in the current folder, PATH.json is a path.

    All that can be checked before the measurement is checked here.

    Raises:
        InputError: The name holds a separator, or the path breaks a rule of `OutputFile`.
        WorkError: The system does not let us write there.
    """
    path = Path(out)
    if path.suffix.lower() != SUFFIX:
        if path.name != out or out in {"", ".."}:
            raise InputError(f"out={shown(out)}: must be a name, or a path that ends in {SUFFIX}")
        path = Path(f"{out}{SUFFIX}")
    if not NAME.fullmatch(path.stem):
        raise InputError(f"out={shown(out)}: its name must be 1 to 200 characters of ASCII")
    file = OutputFile(path=path, force=force)
    file.check()
    return file


def calibration_text(calibration: Calibration) -> str:
    """The file's text, with each point on a line, so that a diff can compare calibrations."""
    fields = TypeAdapter(Calibration).dump_python(calibration, mode="json")
    lines = [f"{json.dumps(name)}: {_value(value)}" for name, value in fields.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _value(value: object) -> str:
    if not isinstance(value, list):
        return json.dumps(value, allow_nan=False)
    return "[\n" + ",\n".join(json.dumps(each, allow_nan=False) for each in value) + "\n]"


def write_calibration(calibration: Calibration, out: OutputFile) -> None:
    """Write the file under its name only once it is complete.

    Raises:
        WorkError: It cannot be written. The measurement took minutes, so stdout has its text then.
    """
    text = calibration_text(calibration)
    try:
        out.write(text)
    except (InputError, WorkError) as error:  # `calibration_file` approved of it: the work failed
        sys.stdout.write(text)
        raise WorkError(f"{error}; the calibration is on stdout") from None
