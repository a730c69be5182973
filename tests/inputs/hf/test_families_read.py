"""What the readers make of keys that sizes alone do not tell: windows, rotation, norms, experts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import InputError
from costmodel.inputs.hf.config import load_hf_config
from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.moe import MoeFfn

SIZES = Path(__file__).parents[2] / "data" / "hf_sizes"


def read(folder: Path, name: str, **changes: object) -> ModelConfig:
    table = json.loads((SIZES / f"{name}.json").read_text()) | {"num_hidden_layers": 8, **changes}
    path = folder / "config.json"
    path.write_text(json.dumps(table))
    return load_hf_config(path)


def attentions(model: ModelConfig) -> list[Attention]:
    found = [model.attention_of(layer) for layer in range(model.num_hidden_layers)]
    assert all(isinstance(one, Attention) for one in found)
    return [one for one in found if isinstance(one, Attention)]


def windows(model: ModelConfig) -> list[int | None]:
    return [one.sliding_window for one in attentions(model)]


def rotary(model: ModelConfig) -> list[int | None]:
    return [one.rotary_dim for one in attentions(model)]


@pytest.mark.parametrize(
    ("name", "changes", "of_windows", "of_rotation"),
    [
        ("olmo-2-7b", {}, [None] * 8, [None] * 8),
        ("olmo-3-7b", {}, [4096, 4096, 4096, None] * 2, [None] * 8),
        ("gemma-2-9b", {}, [4096, None] * 4, [None] * 8),
        ("phi-3-mini", {}, [2047] * 8, [None] * 8),
        ("phi-4-mini", {}, [262144] * 8, [96] * 8),
        ("glm-4-9b-0414", {}, [None] * 8, [64] * 8),
        ("smollm3-3b", {}, [None] * 8, [None, None, None, 0] * 2),
        ("smollm3-3b", {"no_rope_layers": [0, 1] * 4}, [None] * 8, [0, None] * 4),
        (
            "smollm3-3b",
            {"use_sliding_window": True, "sliding_window": 512},
            [None, None, None, 512] * 2,
            [None, None, None, 0] * 2,
        ),
        ("command-r7b", {}, [4096, 4096, 4096, None] * 2, [None, None, None, 0] * 2),
        (
            "command-r7b",
            {"layer_types": ["full_attention", "sliding_attention"] * 4},
            [None, 4096] * 4,
            [0, None] * 4,
        ),
        ("command-r", {}, [None] * 8, [None] * 8),
        ("exaone-4.0-32b", {}, [4096, 4096, 4096, None] * 2, [None, None, None, 0] * 2),
        ("exaone-4.0-32b", {"sliding_window": None}, [None] * 8, [None] * 8),
        (
            "exaone-4.0-32b",
            {
                "sliding_window_pattern": "LLLG",
                "layer_types": ["sliding_attention"] * 3 + ["full_attention"] * 5,
            },
            [4096] * 3 + [None] * 5,
            [None] * 3 + [0] * 5,
        ),
        ("starcoder2-7b", {}, [4096] * 8, [None] * 8),
        ("dots.llm1", {"sliding_window": 4096}, [None] * 8, [None] * 8),
        (
            "dots.llm1",
            {"sliding_window": 4096, "max_window_layers": 6},
            [None] * 6 + [4096] * 2,
            [None] * 8,
        ),
        ("ministral-3-8b", {}, [None] * 8, [None] * 8),
    ],
)
def test_windows_and_rotation_of_each_block(
    tmp_path: Path,
    name: str,
    changes: dict[str, Any],
    of_windows: list[int | None],
    of_rotation: list[int | None],
) -> None:
    model = read(tmp_path, name, **changes)
    assert windows(model) == of_windows
    assert rotary(model) == of_rotation


@pytest.mark.parametrize(
    ("name", "norms"),
    [  # norm, block, post_norms
        ("olmo-2-7b", ("rms", "norms_behind", False)),
        ("olmo-3-7b", ("rms", "norms_behind", False)),
        ("exaone-4.0-32b", ("rms", "norms_behind", False)),
        ("flex-olmo-7x7b", ("rms", "norms_behind", False)),
        ("gemma-7b", ("rms", "serial", False)),
        ("gemma-2-9b", ("rms", "serial", True)),
        ("glm-4-9b-chat", ("rms", "serial", False)),
        ("glm-4-9b-0414", ("rms", "serial", True)),
        ("command-r", ("layer", "parallel", False)),
        ("command-r7b", ("layer", "parallel", False)),
        ("starcoder2-7b", ("layer_bias", "serial", False)),
        ("qwen2-57b-a14b", ("rms", "serial", False)),
    ],
)
def test_norms_and_where_they_stand(
    tmp_path: Path, name: str, norms: tuple[str, str, bool]
) -> None:
    m = read(tmp_path, name)
    assert (m.norm, m.block, m.post_norms) == norms


def test_softcaps_are_costed_unless_the_file_has_none(tmp_path: Path) -> None:
    capped = read(tmp_path, "gemma-2-9b")
    assert capped.logit_softcap
    assert all(one.softcap for one in attentions(capped))
    keys = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    free = read(tmp_path, "gemma-2-9b", **keys)
    assert not free.logit_softcap
    assert not any(one.softcap for one in attentions(free))


@pytest.mark.parametrize("spelt", ["gelu", "gelu_pytorch_tanh"])
def test_the_first_gemma_has_the_tanh_form_whatever_its_file_says(
    tmp_path: Path, spelt: str
) -> None:
    model = read(tmp_path, "gemma-7b", hidden_act=spelt)
    assert isinstance(model.ffn, DenseFfn)
    assert model.ffn.activation == "gelu"


def test_experts_of_the_sparse_families(tmp_path: Path) -> None:
    def experts(name: str, **changes: object) -> MoeFfn:
        ffn = read(tmp_path, name, **changes).ffn
        assert isinstance(ffn, MoeFfn)
        return ffn

    qwen2 = experts("qwen2-57b-a14b")
    assert (qwen2.shared_intermediate_size, qwen2.shared_expert_gate) == (20480, True)
    assert (qwen2.scoring, qwen2.norm_topk_prob) == ("softmax", False)
    granite = experts("granite-3.1-3b-a800m")
    assert (granite.scoring, granite.moe_intermediate_size) == ("softmax_of_chosen", 512)
    ernie = experts("ernie-4.5-21b-a3b")
    assert (ernie.shared_intermediate_size, ernie.score_correction_bias) == (2 * 1536, True)
    assert (ernie.scoring, ernie.norm_topk_prob) == ("softmax", True)
    by_block = {"moe_topk": [8] * 8, "num_shared_expert": [1] * 8}
    hunyuan = experts("hunyuan-a13b", moe_intermediate_size=[3072] * 8, **by_block)
    assert (hunyuan.shared_intermediate_size, hunyuan.num_experts_per_tok) == (3072, 8)
    assert experts("hunyuan-a13b", moe_topk=8) == hunyuan
    dots = experts("dots.llm1")
    assert (dots.scoring, dots.score_correction_bias) == ("sigmoid", True)
    assert dots.shared_intermediate_size == 2 * 1408
    assert experts("dots.llm1", n_shared_experts=None) == replace(dots, shared_intermediate_size=0)


def test_blocks_with_a_dense_ffn(tmp_path: Path) -> None:
    def sparse(name: str, **changes: object) -> list[int]:
        model = read(tmp_path, name, **changes)
        return [layer for ffn, layers in model.ffn_groups if ffn.kind == "moe" for layer in layers]

    assert sparse("ernie-4.5-21b-a3b") == [1, 2, 3, 4, 5, 6, 7]
    keys = {"moe_layer_start_index": 2, "moe_layer_end_index": 6, "moe_layer_interval": 2}
    assert sparse("ernie-4.5-21b-a3b", **keys) == [3, 5]
    assert sparse("qwen2-57b-a14b", decoder_sparse_step=2) == [1, 3, 5, 7]
    assert sparse("qwen2-57b-a14b", mlp_only_layers=[0, 7]) == [1, 2, 3, 4, 5, 6]
    assert sparse("dots.llm1") == [1, 2, 3, 4, 5, 6, 7]


def test_constant_factors_are_noted(tmp_path: Path) -> None:
    (note,) = read(tmp_path, "granite-3.1-8b").notes
    assert "residual_multiplier=0.22" in note
    assert "not costed" in note
    factors = ("embedding_multiplier", "logits_scaling", "residual_multiplier")
    assert read(tmp_path, "granite-3.1-8b", **dict.fromkeys(factors, 1.0)).notes == ()


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        (
            "command-r7b",
            {
                "cache_implementation": "hybrid",
                "head_dim": 128,
                "layer_norm_eps": 1e-5,
                "layer_switch": 4,
                "order_of_interleaved_layers": "local_attn_first",
                "position_embedding_type": "rope_gptj",
                "rope_scaling": None,
                "rotary_pct": 1.0,
                "use_embedding_sharing": True,
                "use_gated_activation": True,
                "use_parallel_block": True,
                "use_parallel_embedding": True,
                "use_qk_norm": False,
            },
        ),
        ("gemma-2-9b", {"hidden_act": "gelu_pytorch_tanh", "sliding_window_size": 4096}),
        ("phi-4-mini", {"full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False}),
        (
            "starcoder2-7b",
            {
                "activation_function": "gelu",
                "attention_softmax_in_fp32": True,
                "layer_norm_epsilon": 1e-5,
                "mlp_type": "default",
                "norm_epsilon": 1e-5,
                "norm_type": "layer_norm",
                "residual_dropout": 0.1,
                "scale_attention_softmax_in_fp32": True,
                "scale_attn_weights": True,
            },
        ),
        ("smollm3-3b", {"max_window_layers": 28, "pretraining_tp": 2, "sliding_window": None}),
        ("ernie-4.5-21b-a3b", {"moe_capacity": [64, 64, 64], "moe_use_aux_free": True}),
        (
            "hunyuan-7b",
            {
                "attention_head_dim": 128,
                "cla_share_factor": 2,
                "im_start_id": 5,
                "norm_type": "rms",
                "use_cla": False,
                "use_qk_norm": True,
                "use_rotary_pos_emb": True,
                "vit_path": None,
            },
        ),
        ("dots.llm1", {"moe_layer_freq": 1, "scoring_func": "noaux_tc", "ep_size": 1}),
        ("qwen2-57b-a14b", {"max_window_layers": 28, "sliding_window": 65536}),
    ],
)
def test_further_keys_of_such_files_change_nothing(
    tmp_path: Path, name: str, keys: dict[str, Any]
) -> None:
    assert read(tmp_path, name, **keys) == read(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("smollm3-3b", {"no_rope_layers": [1] * 7}, "no_rope_layers=[1, 1, 1, 1, 1, 1, 1]: is not"),
        ("smollm3-3b", {"no_rope_layers": [2] * 8}, "is not a 0 or 1"),
        ("exaone-4.0-32b", {"sliding_window_pattern": "LLLG"}, "needs layer_types beside it"),
        ("command-r7b", {"use_qk_norm": True}, "use_qk_norm=True: is not modelled"),
        ("command-r7b", {"use_parallel_block": False}, "use_parallel_block=False: is not modelled"),
        ("ernie-4.5-0.3b", {"use_bias": True}, "use_bias=True: is not modelled"),
        ("hunyuan-a13b", {"moe_topk": [8] * 7 + [4]}, "moe_topk="),
        ("hunyuan-a13b", {"moe_topk": 8, "num_shared_expert": 2}, "num_shared_expert=2: is not 1"),
        ("hunyuan-a13b", {"moe_topk": 8, "use_cla": True}, "use_cla=True: is not modelled"),
        ("hunyuan-a13b", {"moe_topk": 65}, "exceeds num_experts=64"),
        ("granite-3.1-3b-a800m", {"num_experts_per_tok": 41}, "exceeds num_local_experts=40"),
        ("starcoder2-7b", {"mlp_type": "gated"}, "mlp_type='gated': is not modelled"),
        ("gemma-7b", {"hidden_act": "relu"}, "hidden_act='relu': is not modelled"),
        ("dots.llm1", {"scoring_func": "softmax"}, "scoring_func='softmax': is not modelled"),
        ("qwen2-57b-a14b", {"use_sliding_window": True}, "use_sliding_window=True: is not"),
        ("glm-4-9b-0414", {"partial_rotary_factor": 2.0}, "partial_rotary_factor=2.0"),
    ],
)
def test_what_is_not_modelled_is_refused(
    tmp_path: Path, name: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, name, **changes)
    assert said in str(caught.value)
