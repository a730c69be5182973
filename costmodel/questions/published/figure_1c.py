"""Figure 1(c) of the UltraMem paper: bytes that a decode step reads, UltraMem against MoE.

The figure shows 18.1, 18.8, 17.3 and 13.0 times fewer bytes at batch 16, 64, 256 and 1024, with a
KV cache of 2048 tokens. Its numbers follow from the FFN (or expert) weights and value rows alone,
in bf16, with as many distinct experts as the tokens could reach at worst. Left out there: the KV
cache, attention, the router, the memory layers' keys and projections, embedding and LM head.
Source: UltraMem, arXiv 2411.12364, Figure 1 and Table 1; shapes inferred from its printed counts.
"""

from dataclasses import dataclass

import numpy as np

from costmodel.costs.operators import build_operators
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.attention import Attention
from costmodel.layers.base import FfnKind
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ultramem import UltraMem
from costmodel.routing.expectation import Expected, Floats, ItemKind, Trials
from costmodel.routing.popularity import Uniform

CONTEXT = 2048  # cached tokens, as the figure's caption says
SOURCE = "arXiv 2411.12364"
VOCAB = 32_000  # not printed; counted in no number here
ROWS, HEADS, VALUE_DIM = 42, 2, 1024  # 84 rows read per token and layer


@dataclass(frozen=True, slots=True)
class WorstCase:
    """min(k T, N) distinct items: no two tokens choose alike until nothing else is left."""

    @property
    def label(self) -> str:
        """Always `worst case`."""
        return "worst case"

    def expected_distinct(
        self,
        population: int,
        draws: int,
        trials: Trials,
        *,
        kind: ItemKind,
        copies: int = 1,
        hot: int = 0,
    ) -> Expected:
        """min(k T, N), an upper bound of every routing."""
        del kind
        population = (population - hot) * copies
        if isinstance(trials, np.ndarray):
            return np.asarray(np.minimum(draws * trials, population), dtype=np.float64)
        return float(min(draws * trials, population))

    def hot_share(self, population: int, draws: int, kept: int, *, kind: ItemKind) -> float:
        """Kept / N: no item is drawn more often than another."""
        return Uniform().hot_share(population, draws, kept, kind=kind)

    def touched_by_rank(
        self, population: int, draws: int, trials: int, *, kind: ItemKind, copies: int = 1
    ) -> Floats:
        """min(k T / (N c), 1): no item is touched more than another."""
        del kind
        return np.full(population, min(draws * trials / (population * copies), 1.0))

    def expected_distinct_hashed(self, population: int, trials: Trials, *, order: int) -> Expected:
        """min(T, P): no two n-grams meet in a row until nothing else is left."""
        del order
        return self.expected_distinct(population, 1, trials, kind="rows")

    def hot_share_hashed(self, population: int, kept: int, *, order: int) -> float:
        """Kept / P, as `hot_share`."""
        return Uniform().hot_share_hashed(population, kept, order=order)


def dense(num_hidden_layers: int, hidden_size: int, ffn: FfnKind | None = None) -> ModelConfig:
    """The paper's dense models: 4 D^2 of attention and 8 D^2 of an FFN without a gate a layer."""
    return ModelConfig(
        name=f"dense {num_hidden_layers} x {hidden_size}",
        source=SOURCE,
        hidden_size=hidden_size,
        vocab_size=VOCAB,
        num_hidden_layers=num_hidden_layers,
        attention=Attention(
            num_attention_heads=hidden_size // 128,
            num_key_value_heads=hidden_size // 128,
            head_dim=128,
        ),
        ffn=ffn or DenseFfn(intermediate_size=4 * hidden_size, gated=False),
    )


def moe_1b6() -> ModelConfig:
    """MoE-1.6B-2in34: 2 of 34 experts of width 4672 without a gate."""
    return dense(
        32,
        2048,
        MoeFfn(num_experts=34, num_experts_per_tok=2, moe_intermediate_size=4672, gated=False),
    )


def ultramem_1b6() -> ModelConfig:
    """UltraMem-1.6B-x12 as far as the figure needs it: 6 memory layers that read 84 rows of 1024.

    Number and width of the keys are not known here; nothing that depends on them is read.
    """
    model = dense(32, 2048)
    memory = UltraMem(
        layers="0-25/5", knum=1024, knn=ROWS, num_heads=HEADS, key_dim=512, value_dim=VALUE_DIM
    )
    return ModelConfig(
        name="UltraMem-1.6B-x12, value rows only",
        source=model.source,
        hidden_size=model.hidden_size,
        vocab_size=model.vocab_size,
        num_hidden_layers=model.num_hidden_layers,
        attention=model.attention,
        ffn=model.ffn,
        memory=(memory,),
    )


def access_ratio(batch: int, *, kv: bool, attention: bool) -> float:
    """How many times fewer bytes UltraMem reads than MoE, by the figure's count or beyond it."""
    return _bytes(moe_1b6(), batch, kv=kv, attention=attention) / _bytes(
        ultramem_1b6(), batch, kv=kv, attention=attention
    )


def _bytes(model: ModelConfig, batch: int, *, kv: bool, attention: bool) -> float:
    """FFN or expert weights and value rows; then the KV cache read, and attention's weights."""
    step = Workload(batch=batch, context=CONTEXT, routing=WorstCase()).step()
    read = 0.0
    for op in build_operators(model, step):
        one = float(op.total("row_bytes"))
        if ".ffn." in op.path or op.path.endswith(".moe.experts"):
            one += float(op.total("weight_bytes"))
        if kv:
            one += float(op.total("kv_read_bytes"))
        if attention and ".attention." in op.path:
            one += float(op.total("weight_bytes"))
        read += op.count * one
    return read
