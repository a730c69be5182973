"""Write `costmodel/presets/public`: `python -m docs.public_latency LATENCY.csv ENERGY.csv`.

The collected tables have a row for each point that others measured, with all that says where it is
from written out, and rows that were judged unfit, each with a reason. Shipped are the rows that
were kept. What many rows share (address, who measured when, licence) stands once, in
`sources.csv`; no number is rounded or left out.
"""

import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "costmodel" / "presets" / "public"
COLUMNS = {  # of the shipped rows, by the name in the collected table
    "id": "id",
    "model": "model",
    "source_model": "source_model",
    "gpu": "gpu",
    "total_gpus": "gpus",
    "tp": "tp",
    "ep": "ep",
    "dp": "dp",
    "engine": "engine",
    "engine_version": "engine_version",
    "weight_format": "weights",
    "kv_format": "kv",
    "batch": "batch",
    "running": "running",
    "isl": "isl",
    "osl": "osl",
    "context": "context",
    "ttft_ms": "ttft_ms",
    "tpot_ms": "tpot_ms",
    "tpot_kind": "timed",
    "prompts": "prompts",
}
ENERGY_COLUMNS = {
    **{old: COLUMNS[old] for old in ("id", "model", "source_model", "gpu")},
    "num_gpus": "gpus",
    **{old: COLUMNS[old] for old in ("tp", "ep", "dp", "engine", "weight_format", "kv_format")},
    "task": "task",
    "avg_batch": "batch",
    "avg_input_len": "isl",
    "avg_output_len": "osl",
    "context": "context",
    "median_itl_ms": "itl_ms",
    "output_tokens_per_s": "tokens_per_s",
    "avg_power_w": "power_w",
    "j_per_output_token": "j_per_token",
}
PRESETS = {  # of models that the tables name by their Hugging Face id
    "MiniMaxAI/MiniMax-M2.5": "minimax-m2.5",
    "Qwen/Qwen3-32B": "qwen3-32b",
    "mistralai/Mistral-7B-v0.1": "mistral-7b",
}
OF_SOURCE = ("source", "origin", "context_rule", "license")
BY_ID = "= id"  # the row of a source that is found by the id

Rows = list[dict[str, str]]
Keys = dict[tuple[str, ...], str]  # the short names of sources


def shipped(collected: Iterable[Mapping[str, str]], columns: Mapping[str, str], keys: Keys) -> Rows:
    """The rows that were kept, in the order of the table; their sources are added to `keys`."""
    rows = []
    for row in collected:
        if row["kept"] != "yes":
            continue
        shared = tuple(row.get(name, "") for name in OF_SOURCE)
        key = keys.setdefault(shared, f"{row['id'].partition('-')[0]}-{len(keys) + 1}")
        one = {name: row[old] for old, name in columns.items()}
        one["model"] = PRESETS.get(one["model"], one["model"])
        if one["source_model"] == one["model"]:
            one["source_model"] = ""
        rows.append(one | {"source": key, "row": "" if row["row"] == BY_ID else row["row"]})
    return rows


def sources(keys: Keys) -> Rows:
    """A row for each source."""
    heads = ("address", "origin", "context_rule", "licence")
    return [
        {"source": key, **dict(zip(heads, shared, strict=True))} for shared, key in keys.items()
    ]


def main() -> None:
    """Read the collected tables and write the files."""
    keys: Keys = {}
    written: dict[str, Rows] = {}
    for name, path, columns in zip(
        ("latency", "energy"), sys.argv[1:], (COLUMNS, ENERGY_COLUMNS), strict=True
    ):
        with Path(path).open(encoding="utf-8", newline="") as file:
            written[name] = shipped(csv.DictReader(file), columns, keys)
    written["sources"] = sources(keys)
    FOLDER.mkdir(exist_ok=True)
    for name, records in written.items():
        with (FOLDER / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            out = csv.DictWriter(file, list(records[0]), lineterminator="\n")
            out.writeheader()
            out.writerows(records)


if __name__ == "__main__":
    main()
