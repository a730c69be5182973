"""Write `costmodel/presets/claims/held_out.json`: `python -m docs.held_out_steps`.

Every held-out step that was measured beside what had been predicted of it, from the committed files
of `benchmarks/held_out`, for the page *Is it true?* and for what `predict` says of its accuracy: an
installed package has no `benchmarks`. `python -m docs.write` writes it too.
"""

import json
import math

from benchmarks.held_out.commitment import GPU, Commitment, committed, predictions
from benchmarks.held_out.shapes import held_out_models
from benchmarks.held_out.summary import Summary, committed_summary, points
from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import Unknown
from costmodel.questions.claims.held_out import FILE, QUANTITIES

SAME = 1e-9  # relative: sums may be formed in another order


def text(commitment: Commitment, measured: Summary) -> str:
    """The whole file, a step on a line; numbers to six digits."""
    curves = calibrated("h200")
    assert not isinstance(curves, Unknown)
    head = {
        "schema_version": 1,
        "gpu": GPU,
        "calibration": curves.name,
        "committed": commitment.committed,
        "measured": max(part["started"] for part in measured["parts"] if part["counts"]),
        "unchanged": _unchanged(commitment),
    }
    rows = [
        {
            "model": point.model.name,
            "kind": kind(point.model.name),
            "backend": point.backend,
            "phase": point.case.phase,
            "batch": point.case.batch,
            "context": point.case.context,
            "new_tokens": point.case.new_tokens,
            "quantity": point.quantity,
            "measured": _digits(point.measured),
            "processes": point.processes,
            "predicted": _digits(point.predicted),
            "low": None if point.low is None else _digits(point.low),
            "high": None if point.high is None else _digits(point.high),
        }
        for point in points(measured, commitment.predictions, held_out_models())
        if point.quantity in QUANTITIES.values()
    ]
    lines = ",\n".join(map(json.dumps, rows))
    return json.dumps(head, indent=1).removesuffix("\n}") + f',\n "steps": [\n{lines}\n]\n}}\n'


def kind(name: str) -> str:
    """What is sparse in a model, from its name: `a-product-keys` has `product keys`."""
    return name.partition("-")[2].replace("-", " ")


def _unchanged(commitment: Commitment) -> bool:
    """Whether the cost model of today predicts the committed numbers."""
    today = {(p.model, p.backend, p.case, p.quantity): p.value for p in predictions()}
    return all(
        math.isclose(
            p.value,
            today.get((p.model, p.backend, p.case, p.quantity), math.nan),
            rel_tol=SAME,
        )
        for p in commitment.predictions
    )


def _digits(value: float) -> float:
    return float(f"{value:.6g}")


def main() -> None:
    """Write the file."""
    commitment, measured = committed(), committed_summary()
    assert commitment is not None
    assert measured is not None
    FILE.write_text(text(commitment, measured), encoding="utf-8")


if __name__ == "__main__":
    main()
