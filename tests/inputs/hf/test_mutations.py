"""Any change to a config.json gives a model or an InputError, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.costs.operators import build_operators
from costmodel.errors import InputError
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload

CONFIGS = Path(__file__).parents[2] / "data" / "hf"
FILES = {
    path.stem: path.read_text()
    for folder in (CONFIGS, CONFIGS.with_name("hf_sizes"))
    for path in sorted(folder.glob("*.json"))
}
KEYS = sorted({key for text in FILES.values() for key in json.loads(text)})

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-4, 4096)
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["silu", "gelu", "sliding_attention", "greedy", "sigmoid", "llama"]),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["drop", "change", "scale", "nest", "add", "borrow"]),
        st.integers(0, 200),
        ANYTHING,
    ),
    min_size=1,
    max_size=3,
)


def mutated(table: dict[str, Any], how: str, which: int, value: Any) -> None:  # noqa: ANN401
    """One change in place, of the text model's table where there is one."""
    inner = table.get("text_config")
    place = inner if isinstance(inner, dict) and inner and which % 2 else table
    keys = sorted(place)
    key = keys[which % len(keys)] if keys else "hidden_size"
    old = place.get(key)
    match how:
        case "drop":
            place.pop(key, None)
        case "change":
            place[key] = value
        case "scale" if isinstance(old, int) and not isinstance(old, bool):
            place[key] = old * (which % 5) + which % 3 - 1
        case "nest":
            for _ in range(which % 40):
                old = [old]
            place[key] = old
        case "add":
            place[value if isinstance(value, str) else "foo"] = value
        case "borrow":  # a key of another family
            place[KEYS[which % len(KEYS)]] = value


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@settings(max_examples=25)
@given(mutations=MUTATIONS)
def test_a_model_or_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, mutations: list[tuple[str, int, Any]]
) -> None:
    table = json.loads(FILES[name])
    for how, which, value in mutations:
        mutated(table, how, which, value)
    path = tmp_path_factory.getbasetemp() / f"{name}.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    try:
        model = load_hf_config(path)
    except InputError as error:
        assert str(error).startswith("file=")  # noqa: PT017 - both outcomes are right
        assert str(error).isprintable()  # noqa: PT017 - one line, nothing a terminal obeys
        return
    assert isinstance(model, ModelConfig)
    assert build_operators(model, Workload().step())


@pytest.mark.parametrize(
    "literal", ["NaN", "-Infinity", "1e999", "9" * 5000, "[" * 40 + "]" * 40, '"\\ud800"', "{}{}"]
)
def test_odd_literals(tmp_path: Path, literal: str) -> None:
    for name in FILES:
        path = tmp_path / "config.json"
        path.write_text('{"num_hidden_layers": ' + literal + "," + FILES[name].lstrip()[1:])
        with pytest.raises(InputError, match=r"^file="):
            load_hf_config(path)
