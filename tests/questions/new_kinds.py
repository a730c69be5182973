"""Match and sweep over a model of the toy kinds, as JSON: `python -m tests.questions.new_kinds`.

In a process of its own, which sees the toys' folders as parts of `costmodel/layers`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import costmodel.layers

TESTS = Path(__file__).parents[1]
for folder in ("toy_kinds/costmodel/layers", "questions/toys"):
    costmodel.layers.__path__.append(str(TESTS / folder))
# isort: split
from costmodel.costs.latency import NOT_ASKED  # noqa: E402 - models know the kinds that stand there
from costmodel.costs.predict import predict  # noqa: E402
from costmodel.inputs.catalog import load_model  # noqa: E402
from costmodel.inputs.hardware import load_hardware  # noqa: E402
from costmodel.inputs.model import ModelConfig, model_from_table  # noqa: E402
from costmodel.inputs.model_toml import model_table  # noqa: E402
from costmodel.inputs.workload import Workload  # noqa: E402
from costmodel.questions.designs.evaluate import evaluate  # noqa: E402
from costmodel.questions.match import budget, match  # noqa: E402
from costmodel.questions.matching.sizes import parse_vary, resized  # noqa: E402
from dashboard.pages.tradeoffs import data as tradeoffs  # noqa: E402

H200 = load_hardware("h200")


def toy_model() -> ModelConfig:
    """The dense layers of a preset with both toy kinds."""
    table = model_table(load_model("ultramemv2-227m-1.2b"))
    table["attention"] = {"kind": "gated_average", "average_width": 768}
    table["memory"] = [{"kind": "hash", "layers": "0-18/2", "num_rows": 4096, "num_reads": 8}]
    return model_from_table(table, where="toy")


def matched(target: ModelConfig, vary: str | None, *, keep_backbone: bool) -> dict[str, Any]:
    """What is found from the toy model, and how it is reached."""
    steps = None if vary is None else parse_vary(vary)
    answer = match(target, toy_model(), vary=steps, keep_backbone=keep_backbone)
    return {
        "sizes": {name: after for name, (_, after) in answer.fields.items()},
        "steps": answer.steps,
        "exact": answer.reached == answer.wanted == budget(answer.model, 2048),
        "ratios": [answer.parameters_ratio, answer.flops_ratio],
    }


def swept() -> dict[str, Any]:
    """The fields that a sweep offers, and whether its designs cost what `predict` says."""
    base = toy_model()
    fields = {field.name: field for field in tradeoffs.swept_fields(base)}
    texts = {name: field.default for name, field in fields.items()}
    texts |= {"average_width": "512,1024", "layers": "1,2"}
    ranges = {name: tradeoffs.parse_range(text, fields[name]) for name, text in texts.items()}
    made = tradeoffs.designs(base, ranges)
    found = evaluate(made.models, Workload(), H200, NOT_ASKED, batches=[3], contexts=[100])
    step = Workload(batch=3, context=100)
    expected = [
        (float(one.costs.totals.compulsory_bytes), one.costs.parameters.total_without_embeddings)
        for one in (predict(model, step, H200) for model in made.models)
    ]
    moved = found.columns["hbm_bytes.compulsory"].ravel().tolist()
    parameters = found.columns["parameters.total_without_embeddings"].ravel().tolist()
    return {
        "fields": texts,
        "labels": {name: field.size.label for name, field in fields.items()},
        "designs": len(made.models),
        "distinct": len(set(expected)),
        "as_predicted": [*zip(moved, parameters, strict=True)] == expected,
    }


def main() -> None:
    """Print the answers."""
    target = replace(
        resized(toy_model(), {"num_rows": 70_000, "intermediate_size": 2048}), name="t"
    )
    other = resized(toy_model(), {"num_reads": 21, "average_width": 320})
    answers = {
        "usual": matched(target, None, keep_backbone=False),
        "named": matched(other, "num_reads,average_width", keep_backbone=True),
        "experts": matched(load_model("olmoe-227m-1.2b"), None, keep_backbone=False),
        "swept": swept(),
    }
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
