"""Write `costmodel/presets/claims/worst.csv`: `python -m docs.worst_predictions`.

Every step of the shipped recordings beside its prediction, by quantity, and the operators whose
kernel time is farthest off, the worst first: what `sparsecost validate` says. The page that shows
them reads these rows, since comparing all recordings takes seconds. `python -m docs.write` writes
them too: a change of a formula changes them.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from costmodel.recordings.folders import recording_file, shipped_names
from costmodel.recordings.quantities import QUANTITIES
from costmodel.recordings.recording import load_recording
from costmodel.show.tables.validation_cells import at
from costmodel.validation.counterparts import PREDICTED
from costmodel.validation.error_stats import BOTH_PHASES, Entry
from costmodel.validation.machines import Gpus
from costmodel.validation.validate import leaf_name, of_step, validate, worst_first, worst_leaves

FILE = Path(__file__).parents[1] / "costmodel" / "presets" / "claims" / "worst.csv"
HEAD = ("quantity", "leaf", "at", "model", "backend", "recording", "predicted", "measured")
WORST_LEAVES = 20


def entries() -> Iterator[Entry]:
    """The steps of each quantity that is predicted and no exact count, then the leaves."""
    loaded = [
        (name.removesuffix(".json"), load_recording(recording_file(name)))
        for name in shipped_names()
    ]
    columns = validate(loaded, Gpus()).columns
    told = set()
    for (name, _), of_quantity in columns.items():
        quantity = QUANTITIES[name]
        if quantity.exact or quantity.title in told:
            continue
        steps = [
            entry
            for entry in worst_first(of_step(of_quantity, BOTH_PHASES))
            if entry.row.ratio and entry.row.basis.startswith(PREDICTED)
        ]
        if steps:
            told.add(quantity.title)
        yield from steps
    yield from worst_leaves(columns.get(("kernel_s", "trace"), ()), WORST_LEAVES)


def text() -> str:
    """The whole file; times to six digits, more than anyone can tell."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEAD)
    for entry in entries():
        row, origin = entry.row, entry.origin
        leaf = "" if row.path is None else leaf_name(row.path)
        of = (at(origin), origin.model, origin.backend, origin.recording)
        values = (float(value or 0) for value in (row.predicted, row.measured))
        writer.writerow((row.quantity, leaf, *of, *(f"{value:.6g}" for value in values)))
    return out.getvalue()


def main() -> None:
    """Write the file."""
    FILE.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
