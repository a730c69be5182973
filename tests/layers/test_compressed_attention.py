"""Attention to a window and compressed entries: by enumeration, and V4-Flash by hand."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.layers.mesh import Mesh
from costmodel.layers.operator import Operator, Step
from tests.steps import flops, make_step, one_layer, parts, quantity, weights

D = 4096  # of DeepSeek-V4-Flash, as all below
WINDOW = CompressedAttention(
    num_attention_heads=64,
    head_dim=512,
    q_lora_rank=1024,
    qk_rope_head_dim=64,
    o_groups=8,
    o_lora_rank=1024,
    sliding_window=128,
)
HCA = replace(WINDOW, compress_ratio=128)
CSA = replace(
    WINDOW,
    compress_ratio=4,
    overlapping=True,
    index_topk=512,
    index_n_heads=64,
    index_head_dim=128,
)
WINDOW_41 = replace(WINDOW, q_lora_rank=1280, query_norm=False)  # of DeepSeek-V4.1-Flash
CSA2 = replace(
    WINDOW_41,
    compress_ratio=2,
    index_topk=512,
    index_n_heads=32,
    index_head_dim=128,
    position_bias=False,
    keys_of_entries=True,
)
LAYERS = ((WINDOW, 2), (CSA, 21), (HCA, 20))
SMALL = CompressedAttention(
    num_attention_heads=4,
    head_dim=8,
    q_lora_rank=6,
    qk_rope_head_dim=4,
    o_groups=2,
    o_lora_rank=5,
    sliding_window=3,
    compress_ratio=2,
    overlapping=True,
    index_topk=2,
    index_n_heads=3,
    index_head_dim=5,
)


def parameters(operators: dict[str, Operator], group: str = "attention") -> int:
    tensors = [w for op in operators.values() for w in op.weights]
    return sum(w.parameters for w in tensors if w.group == group)


def index_of(operators: dict[str, Operator]) -> dict[str, Operator]:
    return {leaf: op for leaf, op in operators.items() if leaf.startswith("attention.index_")}


def of_v4_flash(step: Step, *, kind: str, leaf: str) -> Any:  # noqa: ANN401 - a sum of FLOPs
    """FLOPs of a kind in one leaf, over the 43 layers."""
    return sum(
        count * sum(part.flops for part in operators[leaf].parts if part.kind == kind)
        for layer, count in LAYERS
        if leaf in (operators := one_layer(layer, step, hidden_size=D))
    )


def test_parameters_of_deepseek_v4_flash() -> None:
    """Of the checkpoint's groups; norms apart."""
    step = make_step()
    window, csa, hca = (one_layer(layer, step, hidden_size=D) for layer, _ in LAYERS)
    # D q + q H d + D d + H d u + g u D + H
    assert parameters(window) == 106_954_816
    # and 2 D d + 128 d
    assert parameters(hca) == 106_954_816 + 2 * 4096 * 512 + 128 * 512 == 111_214_656
    # 2 D 2 di + 4 x 2 di + q Hi di + D Hi, and 2 D 2 d + 4 x 2 d
    assert parameters(index_of(csa)) == 10_748_928
    assert parameters(csa) == 115_347_520 + 10_748_928
    assert 2 * 106_954_816 + 21 * 115_347_520 + 20 * 111_214_656 == 4_860_500_672
    assert 21 * 10_748_928 == 225_727_488
    norms = [parameters(layer, "norm") for layer in (window, csa, hca)]
    assert norms == [1536, 1536 + 512 + 128, 1536 + 512]
    assert 2 * norms[0] + 21 * norms[1] + 20 * norms[2] + (2 * 43 + 1) * D == 446_080


def test_flops_of_deepseek_v4_flash() -> None:
    """Of 4 sequences at 512 cached tokens; of a prompt of 512, causal and the whole square."""
    core, select = "attention.core", "attention.index_select"
    step = make_step(batch=4, cached=512)
    assert of_v4_flash(step, kind="attention", leaf=core) == 4_336_910_336
    scores = sum(
        count * parts(one_layer(layer, step, hidden_size=D)[select])["scores"].flops
        for layer, count in LAYERS
        if layer.index_topk is not None
    )
    assert scores == 176_160_768
    square = make_step(new_tokens=512, attention_flops="full")
    assert of_v4_flash(square, kind="attention", leaf=core) == 1_663_226_085_376
    assert of_v4_flash(make_step(new_tokens=512), kind="attention", leaf=core) == 415_422_742_528
    pairs = {"full": 512 * 128, "causal": sum(seen // 4 for seen in range(1, 513))}
    assert 21 * 2 * 64 * 128 * pairs["full"] == 22_548_578_304
    assert 21 * 2 * 64 * 128 * pairs["causal"] == 11_230_248_960
    for convention, count in pairs.items():
        prompt = make_step(new_tokens=512, attention_flops=convention)  # type: ignore[arg-type]
        select_parts = parts(one_layer(CSA, prompt, hidden_size=D)[select])
        assert select_parts["scores"].flops == 2 * 64 * 128 * count
        assert select_parts["weighted_sum"].flops == 2 * 64 * count
        assert select_parts["top_k"].compares == count


def test_cache_of_deepseek_v4_flash() -> None:
    """A token keeps one vector of 512 in each layer's window, and 6,880 B of entries and keys."""
    step = make_step()
    tokens = sum(count * layer.kv_token_bytes(step) for layer, count in LAYERS)
    assert tokens == 43 * 1024 + 21 * (256 + 64) + 20 * 8 == 44_032 + 6_880
    assert sum(count * layer.side_token_bytes(step) for layer, count in LAYERS) == 21 * 64
    kept = sum(
        count * sum(one.count * one.each_bytes for one in layer.kept(1_000_000, step))
        for layer, count in LAYERS
    )
    assert kept == 43 * 128 * 1024 + 21 * 250_000 * (1024 + 256) + 20 * 7_812 * 1024
    # values in bf16 and gates in float32: of 8 tokens of two series, of 128 tokens of one
    assert CSA.state_bytes(D, step) == 8 * 2 * (512 + 128) * (2 + 4)
    assert HCA.state_bytes(D, step) == 128 * 512 * (2 + 4)
    assert WINDOW.state_bytes(D, step) == 0
    fp8 = make_step(kv_dtype="fp8")  # a row of d and its scale; shares of a token rounded up
    assert CSA.kv_token_bytes(fp8) == 516 + 516 // 4 + 132 // 4
    assert HCA.kv_token_bytes(fp8) == 516 + 5


def test_deepseek_v4_1_flash() -> None:
    """40 layers: 2 with a window alone; groups of ratio 2 at 2, 8, 14, of ratio 1 at 20.

    Of these 24, 28, 32 and 36 choose anew, among candidates that a context of 512 does not fill.
    """
    groups = [(layer, WINDOW_41, 5120) for layer in (0, 1)]
    for layer in range(2, 40):
        ratio = 2 if layer < 20 else 1
        owns, chooses = layer in (2, 8, 14, 20), layer in (2, 8, 14, 20, 24, 28, 32, 36)
        fields: dict[str, Any] = {}
        if chooses and layer >= 20:
            fields = {"candidate_topk_blocks": 2048, "candidate_block_size": 8}
        mixer = replace(
            CSA2, compress_ratio=ratio, shared_entries=not owns, shared_index=not chooses, **fields
        )
        groups.append((layer, mixer, 5120))

    def all_layers(step: Step) -> list[dict[str, Operator]]:
        return [one_layer(mixer, step, hidden_size=width) for _, mixer, width in groups]

    def of_core(step: Step) -> Any:  # noqa: ANN401 - a sum of FLOPs
        cores = [layer["attention.core"] for layer in all_layers(step)]
        return sum(part.flops for op in cores for part in op.parts if part.kind == "attention")

    decode = make_step(batch=4, cached=512)
    found = all_layers(decode)
    indexed = sum(parameters(index_of(layer)) for layer in found)
    assert indexed == 43_515_904
    assert sum(map(parameters, found)) == 5_082_974_720 + 43_515_904
    assert of_core(decode) == 10_468_982_784
    selects = [layer[leaf] for layer in found if (leaf := "attention.index_select") in layer]
    assert sum(parts(op)["scores"].flops for op in selects) == 109_215_744
    assert of_core(make_step(new_tokens=512)) == 799_870_550_016
    assert of_core(make_step(new_tokens=512, attention_flops="full")) == 2_370_821_947_392
    tokens = [mixer.kv_token_bytes(decode) for _, mixer, _ in groups]
    assert sum(tokens) == 40_960 + 3_200
    assert sum(mixer.side_token_bytes(decode) for _, mixer, _ in groups) == 256 * (3 / 2 + 1)


def test_candidates_bound_what_later_indexers_score() -> None:
    """At 100,000 cached tokens: 2,047 whole blocks of 8, and the newest, which has one entry."""
    fields = {"compress_ratio": 1, "candidate_topk_blocks": 2048, "candidate_block_size": 8}
    owner = replace(CSA2, **fields)  # type: ignore[arg-type]  # numbers
    step = make_step(batch=3, cached=100_000)
    candidates = 2047 * 8 + 1
    for layer, scored, compares in (
        (owner, 100_001, 2 * 100_001 + 12_501),  # the largest of a block, the best blocks, the best
        (replace(owner, shared_entries=True), candidates, candidates),
    ):
        select = one_layer(layer, step, hidden_size=5120)["attention.index_select"]
        assert flops(select)["scores"] == ("attention", 3 * 2 * scored * 32 * 128)
        assert select.total("compares") == 3 * compares
        assert select.total("kv_read_bytes") == 3 * (scored - 1) * 128 * 2
    reuse = replace(CSA2, compress_ratio=1, shared_entries=True, shared_index=True)
    assert index_of(one_layer(reuse, step, hidden_size=5120)) == {}


@pytest.mark.parametrize(
    ("ratio", "topk", "size"), list(itertools.product([1, 2, 3], [1, 2], [1, 2, 3]))
)
def test_candidates_by_enumeration(ratio: int, topk: int, size: int) -> None:
    owner = replace(
        SMALL,
        compress_ratio=ratio,
        candidate_topk_blocks=topk,
        candidate_block_size=size,
        keys_of_entries=True,
    )
    later = replace(owner, shared_entries=True)
    assert owner.choice is not None
    assert later.choice is not None
    for cached, new in itertools.product(range(15), range(1, 9)):
        scored = blocks = 0
        for seen in range(cached + 1, cached + new + 1):
            entries = list(range(seen // ratio))
            by_block = [entries[i : i + size] for i in range(0, len(entries), size)]
            blocks += len(by_block)
            scored += sum(map(len, by_block[-1:] + by_block[:-1][: topk - 1]))
        step = make_step(cached=cached, new_tokens=new)
        assert later.choice.scored(step) == scored
        (letter,) = (one for one in owner.choice.letters(step) if one.name == "blocks")
        assert letter.value == blocks


def test_every_part_by_hand() -> None:
    """B = 3, T = 2, S = 9, D = 16, W = 3, m = 2: token 9 completes entry 4, token 10 waits."""
    step = make_step(batch=3, new_tokens=2, cached=9)
    found = one_layer(SMALL, step, hidden_size=16)
    n = 6
    assert [leaf.removeprefix("attention.") for leaf in found] == [
        *("qkv_down", "latent_norm", "compress_in", "compress"),
        *("index_compress_in", "index_compress", "index_query", "index_weights"),
        *("index_rope", "index_select"),
        *("q_up", "rope", "core", "unrope", "output_down", "output"),
    ]
    products = {
        "qkv_down": 2 * n * 16 * (6 + 8),
        "compress_in": 2 * n * 16 * 4 * 8,
        "index_compress_in": 2 * n * 16 * 4 * 5,
        "index_query": 2 * n * 6 * 3 * 5,
        "index_weights": 2 * n * 16 * 3,
        "q_up": 2 * n * 6 * 4 * 8,
        "output_down": 2 * n * 4 * 8 * 5,
        "output": 2 * n * 2 * 5 * 16,
    }
    for leaf, product in products.items():
        assert flops(found[f"attention.{leaf}"]) == {"gemm": ("matmul", product)}
    assert weights(found["attention.output_down"]) == {"weight": ("attention", 2 * 5, 16)}
    assert flops(found["attention.latent_norm"]) == {"norm": ("norm", 4 * n * (8 + 6))}
    for leaf, w in (("compress", 8), ("index_compress", 5)):
        entry = found[f"attention.{leaf}"]
        assert flops(entry) == {
            "position_bias": ("elementwise", n * 2 * w),
            "softmax": ("elementwise", 4 * 3 * 4 * w),  # one entry of each sequence, of 4 tokens
            "sum": ("elementwise", 2 * 3 * 4 * w),
            "norm": ("norm", 4 * 3 * w),
            "rotary": ("elementwise", 3 * 3 * 4),
        }
        assert weights(entry) == {
            "position_bias": ("attention", 2, 2 * w),
            "norm": ("norm", w, 1),
        }
        assert quantity(entry, "kv_written_bytes") == {"cache_write": 3 * w * 2}
        # read: the second series of token 8, the first of 6 and 7; written: both of 10, one of 9
        assert quantity(entry, "state_read_bytes") == {"softmax": 3 * (1 + 2) * w * 6}
        assert quantity(entry, "state_written_bytes") == {"position_bias": 3 * (2 + 1) * w * 6}
    assert flops(found["attention.index_rope"]) == {"rotary": ("elementwise", 3 * n * 3 * 4)}
    select, scored = found["attention.index_select"], 3 * (5 + 5)
    assert flops(select) == {
        "scores": ("attention", 2 * scored * 3 * 5),
        "weighted_sum": ("attention", 2 * scored * 3),
    }
    assert quantity(select, "kv_read_bytes") == {"scores": 3 * 4 * 5 * 2}
    assert quantity(select, "compares") == {"top_k": scored}
    rope = found["attention.rope"]
    assert flops(rope) == {
        "q_norm": ("norm", 3 * n * 4 * 8),
        "rotary": ("elementwise", 3 * n * 5 * 4),
    }
    assert quantity(rope, "kv_written_bytes") == {"cache_write": n * 8 * 2}
    core, pairs = found["attention.core"], 3 * (3 + 2 + 3 + 2)
    assert flops(core) == {
        "scores": ("attention", 2 * pairs * 4 * 8),
        "softmax": ("elementwise", 4 * (pairs * 4 + n * 4)),
        "values": ("attention", 2 * pairs * 4 * 8),
    }
    assert quantity(core, "kv_read_bytes") == {"scores": 3 * (2 + 4) * 8 * 2}
    assert weights(core) == {"sinks": ("attention", 4, 1)}
    assert flops(found["attention.unrope"]) == {"rotary": ("elementwise", 3 * n * 4 * 4)}


@pytest.mark.parametrize(
    ("window", "ratio", "topk"), list(itertools.product([1, 3, None], [1, 2, 5], [1, 3, None]))
)
def test_pairs_by_enumeration(window: int | None, ratio: int, topk: int | None) -> None:
    index = {} if topk is None else {"index_n_heads": 2, "index_head_dim": 4}
    fields: dict[str, Any] = {"index_n_heads": None, "index_head_dim": None, **index}
    layer = replace(SMALL, sliding_window=window, compress_ratio=ratio, index_topk=topk, **fields)
    for cached, new in itertools.product(range(14), range(1, 9)):
        seen = range(cached + 1, cached + new + 1)  # tokens that each query sees, itself in
        tokens = [min(one, window or one) for one in seen]
        entries = [min(one // ratio, topk or one) for one in seen]
        step = make_step(cached=cached, new_tokens=new)
        assert layer.attended_pairs(step) == sum(tokens) + sum(entries)
        square = make_step(cached=cached, new_tokens=new, attention_flops="full")
        in_reach = min(cached, (window or cached + 1) - 1) + new
        assert layer.attended_pairs(square) == new * (in_reach + entries[-1])
        read = min(cached // ratio, new * topk if topk else cached)
        assert layer.read_vectors(step) == in_reach - new + read


@pytest.mark.parametrize(("ratio", "overlapping"), [(1, False), (1, True), (3, False), (3, True)])
def test_what_waits_for_its_entry_by_enumeration(ratio: int, *, overlapping: bool) -> None:
    """A series of a token is written if a later step needs it, and read when an entry does."""
    layer = replace(SMALL, compress_ratio=ratio, overlapping=overlapping)
    compressor = layer.compressor
    assert compressor is not None

    def needed(entry: int) -> set[tuple[int, int]]:
        """(token, series) of an entry: its own tokens, and the first series of those before."""
        own = {(t, 1) for t in range(entry * ratio, (entry + 1) * ratio)}
        older = {(t, 0) for t in range(max(0, entry - 1) * ratio, entry * ratio)}
        return own | (older if overlapping else set())

    for cached, new in itertools.product(range(13), range(1, 10)):
        held = cached + new
        made = range(cached // ratio, held // ratio)
        old = {one for entry in made for one in needed(entry) if one[0] < cached}
        later = {one for entry in range(held // ratio, held // ratio + 2) for one in needed(entry)}
        kept = {one for one in later if cached <= one[0] < held}
        step = make_step(batch=2, cached=cached, new_tokens=new)
        operator = one_layer(layer, step, hidden_size=16)["attention.compress"]
        each = 2 * 8 * (2 + 4) if compressor.gated else 0
        assert operator.total("state_read_bytes") == each * len(old)
        assert operator.total("state_written_bytes") == each * len(kept)
        assert operator.total("kv_written_bytes") == 2 * len(made) * 8 * 2


@pytest.mark.parametrize("layer", [CSA, replace(CSA, index_topk=3, compress_ratio=5)])
def test_reads_beyond_the_choice_are_constant_but_for_the_keys(layer: CompressedAttention) -> None:
    """A decode step attends to W tokens and `index_topk` entries; it scores a key for each."""
    ratio, topk = layer.compress_ratio, layer.index_topk
    assert ratio is not None
    assert topk is not None
    first = max(ratio * topk, 128)
    reads = []
    for cached in (first, first + 1, 3 * first, 1_000_000):
        step = make_step(batch=2, cached=cached)
        found = one_layer(layer, step, hidden_size=D)
        core = found["attention.core"]
        reads.append((core.total("flops"), core.total("kv_read_bytes")))
        keys = found["attention.index_select"].total("kv_read_bytes")
        assert keys == 2 * (cached // ratio) * 128 * 2
    assert len(set(reads)) == 1
    assert reads[0][1] == 2 * (127 + topk) * 512 * 2


@pytest.mark.parametrize("cached", [0, 5, 126, 127, 128, 5000, 100_000])
def test_a_window_alone_costs_the_same_whatever_is_before_it(cached: int) -> None:
    core = one_layer(WINDOW, make_step(batch=3, cached=cached), hidden_size=D)["attention.core"]
    keys = min(cached + 1, 128)
    products = 3 * keys * 64 * (512 + 512) * 2
    assert sum(part.flops for part in core.parts if part.kind == "attention") == products
    assert core.total("kv_read_bytes") == 3 * (keys - 1) * 512 * 2


def test_with_few_entries_a_layer_costs_its_window_and_all_of_them() -> None:
    """Up to `index_topk` entries, the choice costs its indexer and saves nothing."""
    step = make_step(batch=2, cached=2047)
    chosen = one_layer(CSA, step, hidden_size=D)
    everything = replace(CSA, index_topk=None, index_n_heads=None, index_head_dim=None)
    found = one_layer(everything, step, hidden_size=D)
    assert set(chosen) - set(found) == set(index_of(chosen))
    for leaf, operator in found.items():
        assert operator.total("flops") == chosen[leaf].total("flops")
        assert operator.compulsory_bytes == chosen[leaf].compulsory_bytes


def test_the_dense_twin_keeps_all_tokens_and_no_entries() -> None:
    twin = CSA.dense_twin()
    assert twin == HCA.dense_twin() == replace(WINDOW, sliding_window=None)
    assert WINDOW.dense_twin() is None
    assert twin.dense_twin() is None
    core = one_layer(twin, make_step(batch=2, cached=999), hidden_size=D)["attention.core"]
    assert core.total("kv_read_bytes") == 2 * 999 * 512 * 2


def test_logits_of_a_prompt() -> None:
    """A score of a byte or two for each query and each entry that is held."""
    prompt = make_step(new_tokens=16_384, cached=1_000_000 - 16_384)
    assert CSA.logits_bytes(prompt) == 16_384 * 250_000 * 2
    assert HCA.logits_bytes(prompt) == WINDOW.logits_bytes(prompt) == 0


def test_a_gpu_of_two_has_half_the_heads_and_groups_and_all_else() -> None:
    half = CSA.split(Mesh(tp=2))
    assert half == replace(CSA, num_attention_heads=32, o_groups=4)
    assert half.kv_token_bytes(make_step()) == CSA.kv_token_bytes(make_step())
    with pytest.raises(ValueError, match="o_groups=8"):
        CSA.split(Mesh(tp=16))


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("num_attention_heads", 3, "num_attention_heads=3: is not a multiple of o_groups=2"),
        ("qk_rope_head_dim", 6, "index_head_dim=5: is less than qk_rope_head_dim=6"),
        ("qk_rope_head_dim", 9, "head_dim=8: is less than qk_rope_head_dim=9"),
        ("compress_ratio", None, "overlapping=True: needs compress_ratio"),
        ("compress_ratio", 0, "compress_ratio"),
        ("index_topk", None, "index_n_heads=3: needs index_topk"),
        ("index_n_heads", None, "index_topk=2: needs index_n_heads"),
        ("index_head_dim", None, "index_topk=2: needs index_head_dim"),
        ("shared_index", True, "shared_index=True: needs shared_entries"),
        ("candidate_topk_blocks", 2, "candidate_topk_blocks=2: needs candidate_block_size"),
        ("candidate_block_size", 2, "candidate_block_size=2: needs candidate_topk_blocks"),
    ],
)
def test_refusals(field: str, value: Any, rule: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=rule):
        replace(SMALL, **{field: value})


def test_no_entry_no_overlap_and_no_choice() -> None:
    with pytest.raises(ValueError, match="index_topk=2: needs compress_ratio"):
        replace(SMALL, compress_ratio=None, overlapping=False)
