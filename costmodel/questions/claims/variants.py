"""UltraMemV2's changes by themselves: the same model with and without each, at equal parameters.

All are of UltraMemV2-227M/1.2B. What a change adds or saves in parameters goes out of or into the
width of the FFN, so that both sides have the same total (within half a unit of that width over all
layers, 0.002 %).
"""

from dataclasses import dataclass, replace
from functools import cache
from math import sqrt

from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from costmodel.questions.claims.figures import value

BASE = "ultramemv2-227m-1.2b"
PREDECESSOR_LAYERS = 4  # memory layers of UltraMem at this size
PARAMETERS = "parameters.total_without_embeddings"
COUNTS = (2, 5, 10, 20)  # memory layers of 20 blocks
SPARSER_KEYS = 2  # times narrower, where compute is not shifted to the memory
GATED = 3  # matrices of a gated FFN


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change: the model without it, and with it."""

    name: str
    without: ModelConfig
    after: ModelConfig


def equalised(model: ModelConfig, like: ModelConfig) -> ModelConfig:
    """The model with an FFN so wide that it has the parameters of another one, embeddings aside."""
    ffn = model.ffn
    assert isinstance(ffn, DenseFfn)
    lacking = (value(like, PARAMETERS, 1) or 0) - (value(model, PARAMETERS, 1) or 0)
    matrices = GATED if ffn.gated else GATED - 1
    wider = round(lacking / (matrices * model.hidden_size * model.num_hidden_layers))
    return replace(model, ffn=replace(ffn, intermediate_size=ffn.intermediate_size + wider))


def of_memory(model: ModelConfig, **changes: object) -> ModelConfig:
    """The model with other fields in its memory layers."""
    (memory,) = model.memory
    return replace(model, memory=(replace(memory, **changes),))  # type: ignore[type-var]


@cache
def with_layers(count: int) -> ModelConfig:
    """The base with so many memory layers: the same table, rows a token and parameters."""
    base = load_model(BASE)
    (memory,) = base.memory
    assert isinstance(memory, UltraMem)
    every = base.num_hidden_layers // count
    rows = memory.knum**2 * base.num_hidden_layers
    changed = of_memory(
        base,
        layers=",".join(str(block) for block in range(every - 1, base.num_hidden_layers, every)),
        knum=round(sqrt(rows / count)),
        knn=memory.knn * base.num_hidden_layers // count,
    )
    return base if count == base.num_hidden_layers else equalised(changed, base)


@cache
def expansions() -> Change:
    """Value expansion by 2: an output projection for each group of values, or one for their sum."""
    base = load_model(BASE)
    shared, grouped = (
        of_memory(base, value_expansion=2, value_expansion_outputs=outputs)
        for outputs in ("shared", "per_group")
    )
    return Change(
        name="value expansion by one projection",
        without=equalised(grouped, base),
        after=equalised(shared, base),
    )


@cache
def changes() -> tuple[Change, ...]:
    """The paper's five changes."""
    base = load_model(BASE)
    (memory,) = base.memory
    assert isinstance(memory, UltraMem)
    plain = of_memory(
        base, pre_value_dim=None, value_dim=memory.value_dim + (memory.pre_value_dim or 0)
    )
    narrow = of_memory(base, key_dim=memory.key_dim // SPARSER_KEYS)
    return (
        Change(
            name="a memory layer in every block",
            without=with_layers(PREDECESSOR_LAYERS),
            after=base,
        ),
        expansions(),
        Change(
            name="values processed as in PEER's FFN", without=equalised(plain, base), after=base
        ),
        Change(name="principled initialisation", without=base, after=base),
        Change(
            name="compute shifted from the FFN to the memory",
            without=equalised(narrow, base),
            after=base,
        ),
    )


@cache
def product_key_memory() -> ModelConfig:
    """PKM at the size of Memory+: without gate and output projection, the rest in the FFN."""
    like = load_model("memory-plus-227m-1.2b")
    (memory,) = like.memory
    assert isinstance(memory, ProductKey)
    plain = of_memory(like, gate=False, output_projection=False)
    return replace(equalised(plain, like), name="PKM-227M/1.2B")
