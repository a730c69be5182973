"""From which context chosen attention pays: by hand, and against both models at each context."""

from dataclasses import replace

import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.costs.predict import predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.base import MixerKind
from costmodel.layers.compressed_attention import CompressedAttention
from costmodel.layers.mla import LatentAttention
from costmodel.questions.compare import compare
from costmodel.questions.sparse_attention import (
    dense_twin,
    logits_note,
    payoff_sentences,
    payoffs,
    ranges_words,
)
from tests.reference_model.tiny import CSA, HCA, MSA, QSA
from tests.steps import tiny_model

GPU = load_hardware("h200")
V32 = load_model("deepseek-v3.2")
SMALL = LatentAttention(
    num_attention_heads=2,
    q_lora_rank=12,
    kv_lora_rank=8,
    qk_nope_head_dim=4,
    qk_rope_head_dim=6,
    v_head_dim=10,
    index_topk=40,
    index_n_heads=3,
    index_head_dim=8,
)


def needs(model: ModelConfig, context: int) -> float:
    step = predict(model, Workload(batch=3, context=context), GPU)
    return float(step.costs.totals.compulsory_bytes)


def test_the_dense_twin_of_deepseek_v3_2_is_deepseek_v3() -> None:
    twin, v3 = dense_twin(V32), load_model("deepseek-v3")
    assert twin is not None
    assert (twin.attention_groups, twin.ffn_groups) == (v3.attention_groups, v3.ffn_groups)
    assert dense_twin(v3) is None
    assert payoff_sentences(predict(v3, Workload(), GPU)) == []


@pytest.mark.parametrize("batch", [1, 64])
def test_reads_by_hand(batch: int) -> None:
    """A layer reads its indexer's weights, S keys of 256 B, and 2,048 in place of S latents."""
    weights, key, latent = 2 * 13_959_424, 256, 2 * (512 + 64)
    # From the least S at which they, and the key that is written, are less than S latents.
    first = (weights + batch * (2048 * latent + key)) // (batch * (latent - key)) + 1
    found = payoffs(predict(V32, Workload(batch=batch), GPU))
    assert found[0].metric == "hbm_bytes.compulsory"
    assert found[0].contexts == ((first, None),)
    assert first == {1: 33_793, 64: 3_121}[batch]


def test_reads_of_minimax_m3_by_hand() -> None:
    """A layer reads 3,932,416 parameters more, S index keys of 256 B, and what is chosen of S.

    That is 15 whole blocks of 128 and the S mod 128 tokens of the newest, of 2,048 B each; below
    6,656 = 52 x 128 tokens that is more than the S of dense attention.
    """

    def saved(context: int) -> int:
        chosen = 15 * 128 + context % 128
        return 2048 * (context - chosen) - 256 * (context + 1) - 2 * 3_932_416

    assert saved(6_655) < 0 < saved(6_656)
    assert all(saved(context) > 0 for context in range(6_656, 20_000))
    (by_bytes, *_) = payoffs(predict(load_model("minimax-m3"), Workload(), GPU))
    assert by_bytes.contexts == ((6_656, None),)


def test_reads_of_qwen3_8_by_hand() -> None:
    """A layer reads 3,277,056 bytes of weights more, S index keys of 256 B, and what is chosen.

    That is 512 whole groups of 4 and the tokens of an unfinished one, of 2,048 B each.
    """

    def saved(context: int) -> int:
        chosen = min((context + 1) // 4, 512) * 4 + (context + 1) % 4 - 1
        return 2048 * (context - chosen) - 256 * (context + 1) - 2 * (2560 * 5 * 128 + 2 * 128)

    first = next(at for at in range(2048, 10_000) if saved(at) > 0)
    (by_bytes, *_) = payoffs(predict(load_model("qwen3.8-flash-next"), Workload(), GPU))
    at, last = by_bytes.contexts[-1]
    assert last is None
    assert first <= at <= first + 8
    assert saved(at - 1) <= 0 < saved(at)
    assert all(saved(context) > 0 for context in range(at, 10_000))


def test_reads_of_compressed_entries_by_hand() -> None:
    """One layer of DeepSeek-V4-Flash beside a window: 1,024 B a token of the dense twin.

    The layer reads 19,145,600 parameters more, an entry of each 4 tokens, at most 512 of 1,024 B,
    with a key of 256 B each, and 127 vectors of the window. Every fourth step completes an entry:
    it writes 1,280 B, and reads the values and gates of the 3 tokens before it of 3,840 B each,
    and half of those of the 4 before them; all write their own, of 7,680 B.
    """
    csa = CompressedAttention(
        num_attention_heads=64,
        head_dim=512,
        q_lora_rank=1024,
        qk_rope_head_dim=64,
        o_groups=8,
        o_lora_rank=1024,
        sliding_window=128,
        compress_ratio=4,
        overlapping=True,
        index_topk=512,
        index_n_heads=64,
        index_head_dim=128,
    )
    more = 2 * 4096 * 1024 + 4 * 1024 + 512 + 10_748_928 + 128

    def saved(context: int) -> int:
        entries = context // 4
        read = 1024 * (min(context, 127) + min(entries, 512)) + 256 * entries
        waits = 640 * 6  # a series of value and gate, of entry and key
        completes = context % 4 == 3
        moved = completes * (1280 + waits * (3 + 4 - 1)) + waits * (1 if completes else 2)
        return 1024 * context - read - moved - 2 * more

    assert saved(40_000) < 0 < saved(60_000)
    first = next(at for at in range(40_000, 60_000) if saved(at) > 0)
    model = tiny_model(attention=csa, hidden_size=4096, num_hidden_layers=1)
    (by_bytes, *_) = payoffs(predict(model, Workload(), GPU))
    ((at, last),) = by_bytes.contexts
    assert last is None
    assert first <= at <= first + 100
    assert saved(at - 1) <= 0 < saved(at)
    (words, *_) = payoff_sentences(predict(model, Workload(), GPU))
    assert words.startswith("At batch 1, attention to a window and compressed entries (tiny) has")


@pytest.mark.parametrize("mixer", [MSA, QSA, CSA, HCA])
def test_attention_to_blocks_has_its_dense_twin(mixer: MixerKind) -> None:
    twin = dense_twin(tiny_model(attention=mixer, hidden_size=16))
    assert twin is not None
    assert [kind for kind, _ in twin.attention_groups] == [mixer.dense_twin()]


def test_ranges_that_nearly_meet_are_one_in_words() -> None:
    """V4-Flash at batch 1 is predicted faster from some 60,000 tokens, with gaps at first."""
    timed = predict(load_model("deepseek-v4-flash"), Workload(), GPU, calibrated("h200", None))
    _, time = payoff_sentences(timed)
    assert time.endswith(" cached tokens up.")
    assert time.count("from about") == 1
    assert ranges_words(((100, 200), (209, None))) == "from about 100 cached tokens up"
    apart = "from about 100 cached tokens to 200 and from about 211 cached tokens up"
    assert ranges_words(((100, 200), (211, None))) == apart


def test_a_small_model_at_each_context() -> None:
    model = tiny_model(attention=SMALL, hidden_size=16)
    twin = dense_twin(model)
    assert twin is not None
    (by_bytes, *_) = payoffs(predict(model, Workload(batch=3), GPU))
    ((first, last),) = by_bytes.contexts
    assert last is None
    contexts = [*range(1, first + 20, 5), *range(first - 5, first + 5), *range(first, 5000, 500)]
    for context in contexts:
        assert (needs(model, context) < needs(twin, context)) == (context >= first)


def test_words_name_batch_metric_and_context() -> None:
    timed = predict(V32, Workload(batch=64), GPU, calibrated("h200", None))
    bytes_and_bound, time = payoff_sentences(timed)
    assert bytes_and_bound == (
        "At batch 64, attention to chosen tokens (DeepSeek-V3.2) has lower compulsory HBM bytes and"
        " roofline bound than dense attention from about 3,120 cached tokens up."
    )
    assert "predicted time with the backend torch than dense attention from about" in time
    assert logits_note(timed) == ()


def test_keys_wider_than_latents_never_pay() -> None:
    model = tiny_model(attention=replace(SMALL, index_head_dim=64), hidden_size=16)
    sentences = payoff_sentences(predict(model, Workload(), GPU))
    assert "at no context up to 134,217,728" in " ".join(sentences)


def test_a_comparison_says_it_at_its_first_and_last_batch() -> None:
    models = [load_model("deepseek-v3"), V32]
    findings = compare(models, Workload(), GPU, batches=(1, 8, 64)).findings()
    told = [text for text in findings if "attention to chosen tokens" in text]
    assert [text.partition(",")[0] for text in told] == ["At batch 1", "At batch 64"]
