"""The target of page addresses: the keys of the sidebar, each with good, odd or several texts.

What the parser keeps is read as Streamlit reads it, and must give a prediction or a refusal.
"""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from costmodel.inputs.catalog import model_names
from costmodel.inputs.hardware import hardware_names
from costmodel.inputs.parse import MAX_EXPONENT
from costmodel.inputs.workload import MAX_BATCH, MAX_CONTEXT, MAX_NEW_TOKENS
from costmodel.layers.placement import PLACES
from costmodel.show.prediction_json import prediction_json
from dashboard.app import shell
from dashboard.app.address import Rule, checked, number, one_of, whole
from dashboard.app.selection import Chosen, selected
from tests.fuzz.command_lines import NUMBERS, ODD
from tests.fuzz.relations import check_bound, check_sums
from tests.fuzz.target import Case, Target, check_message, refused

CHOICES: dict[str, tuple[object, ...]] = {
    "model": model_names(),
    "hardware": hardware_names(),
    "phase": shell.PHASES,
    "dtype": (shell.USUAL, *shell.FORMATS),
    "kv_dtype": (shell.USUAL, *shell.KV_FORMATS),
    "routing": shell.LAWS,
    "backend": shell.BACKENDS,
    "attention_flops": shell.ATTENTION_FLOPS,
    "logits": shell.LOGITS,
    "mla": (shell.USUAL, *shell.MLA),
    "mla_cache": shell.MLA_CACHES,
    "window_cache": shell.WINDOW_CACHES,
    "tables": PLACES,
}
WHOLE = {"batch": (1, MAX_BATCH), "context": (0, MAX_CONTEXT), "new_tokens": (1, MAX_NEW_TOKENS)}
RULES: dict[str, Rule] = {
    **{key: one_of(options) for key, options in CHOICES.items()},
    **{key: whole(low, high) for key, (low, high) in WHOLE.items()},
    "exponent": number(0, MAX_EXPONENT),
}
EXPONENTS = ("0", "-0", "1", "0.5", "10", "1e-3", "1e-320", ".5", "5.", "+1", "1E0")
USUAL = Chosen(
    model=shell.DEFAULT_MODEL,
    own="",
    phase="decode",
    batch=64,
    context=2048,
    new_tokens=1,
    dtype=None,
    kv_dtype=None,
    routing="uniform",
    hardware=shell.DEFAULT_GPU,
)


def _text(key: str, rng: Random) -> str:
    """A text of one key: good, a number with a slip in it, or odd."""
    good = rng.choice(
        tuple(map(str, CHOICES.get(key, EXPONENTS if key == "exponent" else NUMBERS)))
    )
    how = rng.random()
    if how < 0.6:
        return good
    if how < 0.75:
        at = rng.randrange(len(good) + 1)
        return good[:at] + rng.choice("_ .,-+e0\u00b2\uff11\0") + good[at:]
    return rng.choice(ODD)


def _read(key: str, text: str) -> Any:  # noqa: ANN401 - what a control gives
    """The value that a control has of a text, as Streamlit reads it."""
    if key in WHOLE:
        return int(text)
    if key == "exponent":
        return float(text)
    return None if text == shell.USUAL else text


def make(rng: Random, _: Path) -> Case:
    """A case: an address with some keys, checked and costed."""
    keys = rng.sample(sorted(RULES), rng.randint(1, 6))
    query = {key: [_text(key, rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))] for key in keys}

    def attempt() -> bool:
        values: dict[str, Any] = {}
        for key, texts in query.items():
            kept, wrong = checked(key, texts, RULES[key])
            assert set(kept) <= set(texts)
            assert len(kept) + len(wrong) >= 1
            for message in wrong:
                check_message(message)
            if kept:
                values[key] = _read(key, kept[0])
        if values.get("phase") != "prefill":
            values["new_tokens"] = 1
        exponent, law = values.pop("exponent", 1.0), values.get("routing", "uniform")
        if law != "uniform":
            values["routing"] = f"zipf:{exponent}"
            if law == shell.EACH:
                values["routing"] = f"experts=uniform,rows=zipf:{exponent}"
        return not refused(lambda: _costed(replace(USUAL, **values)))

    return Case(text=json.dumps(query), attempt=attempt)


def _costed(chosen: Chosen) -> None:
    document = prediction_json(selected(chosen).predict())
    json.dumps(document, allow_nan=False)
    check_bound(document)
    check_sums(document)


ADDRESSES = Target(name="address", make=make, share=2)
