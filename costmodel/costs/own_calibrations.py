"""Calibrations of a user's own: files in a folder of their own, offered by the names of GPUs.

`<gpu>.json` is a calibration as `sparsecost calibrate` writes it, `<gpu>.leaves.json` the times
fitted on leaves that go with it; `<gpu>` is a preset's name, or that of a hardware file. They go by
`own/<gpu>` and `own/<gpu>.leaves`, so that none is taken for a shipped one.
"""

import os
from pathlib import Path

VARIABLE = "SPARSECOST_CALIBRATIONS"
OWN_PREFIX = "own/"


def own_folder() -> Path:
    """The folder of a user's own calibrations: of the environment, else `calibrations` here."""
    return Path(os.environ.get(VARIABLE) or "calibrations")


def own_calibrations() -> dict[str, Path]:
    """The files of a user's own calibrations by name, sorted.

    A name that is asked for is looked up here; it never becomes part of a path.
    """
    files = (path for path in sorted(own_folder().glob("*.json")) if path.is_file())
    return {f"{OWN_PREFIX}{path.stem.lower()}": path for path in files}
