"""Experts: every part by hand, distinct experts by enumerating all choices."""

import itertools
import re
from fractions import Fraction
from typing import Any

import pytest
from pydantic import ValidationError

from costmodel.layers.moe import MoeFfn, Scoring
from costmodel.layers.operator import Operator
from tests.steps import flops, make_step, one_layer, parts, quantity, weights

SIZES: dict[str, Any] = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 14}


def layer(tokens: int = 3, dtype: str = "bf16", **fields: Any) -> dict[str, Operator]:  # noqa: ANN401
    step = make_step(batch=tokens, dtype=dtype)
    return one_layer(MoeFfn(**(SIZES | fields)), step, hidden_size=10)


def mean_distinct(experts: int, chosen: int, tokens: int) -> Fraction:
    """The mean number of distinct experts over all choices of all tokens."""
    choices = list(itertools.combinations(range(experts), chosen))
    total = sum(len(set().union(*each)) for each in itertools.product(choices, repeat=tokens))
    return Fraction(total, len(choices) ** tokens)


@pytest.mark.parametrize(("e", "k", "n"), [(4, 1, 1), (4, 1, 3), (4, 2, 2), (5, 2, 3), (4, 4, 2)])
def test_expert_bytes_by_enumerating_all_choices(e: int, k: int, n: int) -> None:
    ops = layer(n, num_experts=e, num_experts_per_tok=k, expert_bias=True)
    one_expert = 3 * 10 * 14 * 2 + (2 * 14 + 10) * 2  # SwiGLU of 10 by 14, and its biases
    expected = mean_distinct(e, k, n)
    experts = ops["moe.experts"]
    assert experts.touched is not None
    assert experts.touched.distinct == pytest.approx(float(expected), rel=1e-12)
    assert experts.touched.population == e
    assert experts.total("weight_bytes") == pytest.approx(float(expected * one_expert), rel=1e-12)


def test_all_experts_of_a_large_batch_are_read_whole() -> None:
    for dtype, rows in (
        ("bf16", 28 * 20 + 10 * 28),
        ("fp8", 28 * 14 + 10 * 18),
        ("int4", 28 * 8 + 10 * 10),  # 40 + 20 bits, 56 + 20 bits
    ):
        experts = layer(10**6, dtype)["moe.experts"]
        assert experts.total("weight_bytes") == pytest.approx(6 * rows, rel=1e-12)
        step = make_step(dtype=dtype)
        assert sum(w.stored_bytes(step) for w in experts.weights) == 6 * rows


def test_every_part_of_the_experts_by_hand() -> None:
    # N = 3, k = 2: 6 routed tokens; D = 10, I = 14
    experts = layer(expert_bias=True)["moe.experts"]
    assert flops(experts) == {
        "gate_up": ("matmul", 2 * 6 * 10 * 28),
        "activation": ("elementwise", 6 * 14 * 5),
        "down": ("matmul", 2 * 6 * 14 * 10),
        "combine": ("elementwise", 2 * 6 * 10),  # a multiply-add an element
        "bias": ("elementwise", 6 * (28 + 10)),
    }
    assert quantity(experts, "compares") == {"sort": 6}
    assert {p.name for p in experts.parts if p.routing} == {"sort", "permute", "combine"}
    assert weights(experts) == {
        "gate_up": ("experts", 6 * 28, 10),
        "down": ("experts", 6 * 10, 14),
        "gate_up_bias": ("experts", 6 * 28, 1),
        "down_bias": ("experts", 6 * 10, 1),
    }
    active = sum(w.active_parameters for w in experts.weights)
    assert active == 2 * (3 * 10 * 14 + 28 + 10)
    # tokens and choices in, tokens out
    assert experts.total("activation_bytes") == (3 * 10 * 2) * 2 + 6 * (2 + 8)


def test_matrix_products_by_counting_multiply_adds() -> None:
    count = 0
    for _token in range(3):
        for _expert in range(2):
            for _neuron in range(14):
                for _input in range(10):
                    count += 3  # gate, up and down
    experts = layer()["moe.experts"]
    assert sum(p.flops for p in experts.parts if p.kind == "matmul") == 2 * count


def test_experts_without_a_gate_are_two_matrices() -> None:
    experts = layer(gated=False, activation="gelu")["moe.experts"]
    assert weights(experts) == {"gate_up": ("experts", 6 * 14, 10), "down": ("experts", 6 * 10, 14)}
    assert flops(experts)["gate_up"] == ("matmul", 2 * 6 * 10 * 14)
    assert flops(experts)["activation"] == ("elementwise", 6 * 14 * 9)
    assert sum(w.active_parameters for w in experts.weights) == 2 * 2 * 10 * 14


@pytest.mark.parametrize(
    ("scoring", "normalised", "scores", "weighting"),
    [
        ("softmax", False, {"softmax": 4 * 3 * 6}, None),
        ("softmax", True, {"softmax": 4 * 3 * 6}, 2 * 3 * 2),  # a sum and a division a choice
        ("sigmoid", False, {"sigmoid": 3 * 3 * 6}, None),
        ("sigmoid", True, {"sigmoid": 3 * 3 * 6}, 2 * 3 * 2),
        ("softmax_of_chosen", False, {}, 4 * 3 * 2),
        ("softmax_of_chosen", True, {}, 4 * 3 * 2),  # sums to 1 already
    ],
)
def test_router_scores_by_hand(
    *, scoring: Scoring, normalised: bool, scores: dict[str, int], weighting: int | None
) -> None:
    router = layer(scoring=scoring, norm_topk_prob=normalised)["moe.router"]
    expected: dict[str, tuple[str, int]] = {"gemm": ("matmul", 2 * 3 * 10 * 6)}
    expected |= {name: ("selection", count) for name, count in scores.items()}
    if weighting:
        expected["weights"] = ("selection", weighting)
    assert flops(router) == expected
    assert quantity(router, "compares") == {"top_k": 3 * 6}
    assert all(part.routing for part in router.parts)
    assert weights(router) == {"weight": ("router", 6, 10)}
    # tokens in, k weights and k indices out; scores stay inside, as often read as written
    assert router.total("activation_bytes") == 3 * 10 * 2 + 3 * 2 * (2 + 8)
    copies = 2 if scores else 1
    chosen = 2 * 3 * 2 * 2 if weighting else 0
    assert router.total("intermediate_bytes") == copies * 2 * 3 * 6 * 2 + chosen


def test_group_limited_routing_by_hand() -> None:
    # 6 experts in 3 groups of 2: each group scored by its best 2 (one add), 2 groups kept
    router = layer(
        n_group=3,
        topk_group=2,
        group_score_experts=2,
        scoring="sigmoid",
        score_correction_bias=True,
        router_bias=True,
    )["moe.router"]
    assert flops(router) == {
        "gemm": ("matmul", 2 * 3 * 10 * 6),
        "bias": ("elementwise", 3 * 6),
        "sigmoid": ("selection", 3 * 3 * 6),
        "score_correction": ("selection", 3 * 6),
        "group_choice": ("selection", 3 * 3 * (2 - 1)),
    }
    # top-2 within groups looks at all 6 scores, the choice of groups at 3, the last at 6
    assert quantity(router, "compares") == {"group_choice": 3 * (6 + 3), "top_k": 3 * 6}
    assert weights(router) == {
        "weight": ("router", 6, 10),
        "bias": ("router", 6, 1),
        "score_correction_bias": ("router", 6, 1),
    }
    assert quantity(router, "weight_bytes") == {"gemm": 120, "bias": 12, "score_correction": 12}
    # raw, sigmoid, corrected scores and those of the kept groups: four copies, each written and
    # read; the corrected ones are read twice, by the choice of groups and by the mask
    assert router.total("intermediate_bytes") == 9 * 3 * 6 * 2


def test_groups_scored_by_their_best_expert_add_nothing() -> None:
    assert parts(layer(n_group=2)["moe.router"])["group_choice"].compares == 3 * (6 + 2)
    router = layer(n_group=3, topk_group=2)["moe.router"]
    assert "group_choice" not in flops(router)  # DeepSeek-V2: a maximum
    assert parts(router)["group_choice"].compares == 3 * (6 + 3)


def test_group_limited_choices_are_as_distinct_as_free_ones() -> None:
    """Alike experts in groups are alike still: each is drawn by a token with k/E."""
    drawn = [0] * 6
    choices = 0
    for kept in itertools.combinations(range(3), 2):
        within = [2 * group + i for group in kept for i in range(2)]
        for chosen in itertools.combinations(within, 2):
            choices += 1
            for expert in chosen:
                drawn[expert] += 1
    assert drawn == [choices * 2 // 6] * 6
    free, grouped = layer()["moe.experts"], layer(n_group=3, topk_group=2)["moe.experts"]
    assert grouped == free


def test_shared_experts_serve_every_token() -> None:
    ops = layer(shared_intermediate_size=20, expert_bias=True)
    assert list(ops) == ["moe.router", "moe.experts", "moe.shared_gate_up", "moe.shared_down"]
    assert flops(ops["moe.shared_gate_up"]) == {
        "gemm": ("matmul", 2 * 3 * 10 * 40),
        "bias": ("elementwise", 3 * 40),
        "activation": ("elementwise", 3 * 20 * 5),
    }
    assert flops(ops["moe.shared_down"])["gemm"] == ("matmul", 2 * 3 * 20 * 10)
    assert weights(ops["moe.shared_gate_up"]) == {
        "weight": ("shared_experts", 40, 10),
        "bias": ("shared_experts", 40, 1),
    }
    assert ops["moe.shared_down"].total("weight_bytes") == 10 * 20 * 2 + 10 * 2
    alone = layer(expert_bias=True)["moe.experts"]  # their result is added to the routed ones
    assert ops["moe.experts"].total("flops") == alone.total("flops") + 3 * 10
    assert ops["moe.experts"].total("activation_bytes") == (
        alone.total("activation_bytes") + 3 * 10 * 2
    )
    assert ops["moe.experts"].weights == alone.weights


def test_weights_may_scale_what_experts_read() -> None:
    # N = 3, k = 2, D = 10, E = 6: Llama 4's router, and as many FLOPs as weights of results
    ops = layer(scoring="sigmoid_of_chosen", weighted_input=True, shared_intermediate_size=8)
    assert flops(ops["moe.router"]) == {
        "gemm": ("matmul", 2 * 3 * 10 * 6),
        "weights": ("selection", 3 * 6),  # a sigmoid of each of the 6 chosen
    }
    experts = flops(ops["moe.experts"])
    assert experts["weighting"] == ("elementwise", 6 * 10)
    assert experts["combine"] == ("elementwise", 6 * 10 + 3 * 10)
    assert quantity(ops["moe.experts"], "intermediate_bytes")["weighting"] == 2 * 6 * 10 * 2
    divided = layer(scoring="sigmoid_of_chosen", norm_topk_prob=True)
    assert flops(divided["moe.router"])["weights"] == ("selection", (3 + 2) * 6)


def test_shared_experts_without_a_gate() -> None:
    ops = layer(shared_intermediate_size=20, gated=False, activation="relu")
    assert weights(ops["moe.shared_gate_up"]) == {"weight": ("shared_experts", 20, 10)}


def test_tensors_between_the_parts_are_written_once_and_read_once() -> None:
    # 6 routed tokens: their order (8 bytes each), their inputs, both halves, products, outputs
    experts = layer()["moe.experts"]
    between = 6 * 8 + 6 * (10 + 28 + 14 + 10) * 2
    assert experts.total("intermediate_bytes") == 2 * between


def test_more_experts_cost_no_more_flops_in_the_experts() -> None:
    small, large = layer()["moe.experts"], layer(num_experts=12)["moe.experts"]
    assert flops(small) == flops(large)
    assert small.total("weight_bytes") < large.total("weight_bytes")


def test_experts_in_a_latent_space_by_hand() -> None:
    # N = 3, D = 10, l = 4, I = 14, k = 2, without gates; a shared expert of 20 stays at D
    ops = layer(moe_latent_size=4, gated=False, activation="relu2", shared_intermediate_size=20)
    assert list(ops) == [
        f"moe.{leaf}"
        for leaf in (
            *("router", "latent_down", "experts", "latent_up"),
            *("shared_gate_up", "shared_down"),
        )
    ]
    assert flops(ops["moe.router"])["gemm"] == ("matmul", 2 * 3 * 10 * 6)
    assert flops(ops["moe.latent_down"]) == {"gemm": ("matmul", 2 * 3 * 10 * 4)}
    assert flops(ops["moe.experts"]) == {
        "gate_up": ("matmul", 2 * 6 * 4 * 14),
        "activation": ("elementwise", 6 * 14),  # a square
        "down": ("matmul", 2 * 6 * 14 * 4),
        "combine": ("elementwise", 2 * 6 * 4),
    }
    assert flops(ops["moe.latent_up"]) == {
        "gemm": ("matmul", 2 * 3 * 4 * 10),
        "add_shared": ("elementwise", 3 * 10),
    }
    assert flops(ops["moe.shared_gate_up"])["gemm"] == ("matmul", 2 * 3 * 10 * 20)
    assert weights(ops["moe.experts"]) == {
        "gate_up": ("experts", 84, 4),
        "down": ("experts", 24, 14),
    }
    assert weights(ops["moe.latent_down"]) == {"weight": ("shared_experts", 4, 10)}
    assert weights(ops["moe.latent_up"]) == {"weight": ("shared_experts", 10, 4)}
    assert flops(layer(moe_latent_size=4)["moe.latent_up"]) == {"gemm": ("matmul", 2 * 3 * 4 * 10)}


def test_a_layer_of_nemotron_3_ultra() -> None:
    # Facts of the release: two projections of 8,192 by 2,048, one expert of 20,971,520, a shared
    # one of 167,772,160
    kind = MoeFfn(
        num_experts=512,
        num_experts_per_tok=22,
        moe_intermediate_size=5120,
        moe_latent_size=2048,
        shared_intermediate_size=10240,
        gated=False,
    )
    ops = one_layer(kind, make_step(), hidden_size=8192)
    sizes = {leaf: sum(w.parameters for w in op.weights) for leaf, op in ops.items()}
    assert sizes == {
        "moe.router": 8192 * 512,
        "moe.latent_down": 33_554_432 // 2,
        "moe.experts": 512 * 20_971_520,
        "moe.latent_up": 33_554_432 // 2,
        "moe.shared_gate_up": 167_772_160 // 2,
        "moe.shared_down": 167_772_160 // 2,
    }


def test_zero_computation_experts_by_hand() -> None:
    # 6 experts and 3 that return their input; N = 3, k = 3: of 9 pairs 9 * 6 / 9 = 6 compute
    ops = layer(num_experts_per_tok=3, zero_expert_num=3, score_correction_buffer=True)
    assert flops(ops["moe.router"]) == {
        "gemm": ("matmul", 2 * 3 * 10 * 9),
        "softmax": ("selection", 4 * 3 * 9),
        "score_correction": ("selection", 3 * 9),
    }
    assert quantity(ops["moe.router"], "compares") == {"top_k": 3 * 9}
    assert weights(ops["moe.router"]) == {"weight": ("router", 9, 10)}
    (buffer,) = ops["moe.router"].buffers
    assert (buffer.elements, buffer.element_bytes) == (9, 4)
    experts = ops["moe.experts"]
    assert flops(experts) == {
        "gate_up": ("matmul", 2 * 6 * 10 * 28),
        "activation": ("elementwise", 6 * 14 * 5),
        "down": ("matmul", 2 * 6 * 14 * 10),
        "combine": ("elementwise", 2 * 6 * 10 + 2 * 3 * 10),  # and each token times a weight
    }
    assert quantity(experts, "compares") == {"sort": 9}
    assert weights(experts) == {"gate_up": ("experts", 6 * 28, 10), "down": ("experts", 60, 14)}
    assert sum(w.active_parameters for w in experts.weights) == 2 * 3 * 10 * 14
    assert experts.touched is not None
    assert experts.touched.population == 6


@pytest.mark.parametrize(("e", "z", "k", "n"), [(3, 1, 2, 2), (2, 2, 1, 3), (2, 3, 4, 2)])
def test_distinct_experts_that_compute_by_enumerating_all_choices(
    e: int, z: int, k: int, n: int
) -> None:
    choices = list(itertools.combinations(range(e + z), k))
    total = sum(
        len({expert for one in each for expert in one if expert < e})
        for each in itertools.product(choices, repeat=n)
    )
    touched = layer(n, num_experts=e, zero_expert_num=z, num_experts_per_tok=k)[
        "moe.experts"
    ].touched
    assert touched is not None
    expected = Fraction(total, len(choices) ** n)
    assert touched.distinct == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"zero_expert_num": 1, "n_group": 2}, "n_group=2: does not divide num_experts=6 + zero_"),
        ({"num_experts_per_tok": 9, "zero_expert_num": 2}, "=9: exceeds num_experts=6 + zero_e"),
        (
            {"score_correction_bias": True, "score_correction_buffer": True},
            "score_correction_buffer=True: stands beside score_correction_bias",
        ),
    ],
)
def test_rules_of_zero_computation_experts(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        layer(**fields)


def test_experts_that_token_ids_choose_by_hand() -> None:
    """Scores and their weights stay; k numbers of the id's row stand in place of top-k."""
    ops = layer(hash_vocab_size=100, scoring="sqrtsoftplus", norm_topk_prob=True)
    router = ops["moe.router"]
    assert flops(router) == {  # N = 3, E = 6, k = 2, D = 10
        "gemm": ("matmul", 2 * 3 * 10 * 6),
        "sqrtsoftplus": ("selection", 3 * 6 * (3 + 1)),  # exp, add, logarithm; a root
        "weights": ("selection", 3 * 2 * 2),  # summed up, divided
    }
    assert quantity(router, "compares") == {}
    assert quantity(router, "index_bytes") == {"table": 3 * 2 * 8}
    (table,) = router.buffers
    assert (table.name, table.elements, table.element_bytes) == ("expert_ids", 100 * 2, 8)
    assert weights(router) == {"weight": ("router", 6, 10)}
    assert ops["moe.experts"].touched == layer()["moe.experts"].touched
    assert router.formula == "2 N D E + 4 N E + 2 N k"


@pytest.mark.parametrize(
    "ranking", [{"n_group": 2}, {"score_correction_bias": True}, {"score_correction_buffer": True}]
)
def test_nothing_ranks_experts_that_token_ids_choose(ranking: dict[str, Any]) -> None:
    (field,) = ranking
    with pytest.raises(ValidationError, match=rf"{field}=.*: ranks experts, which a table"):
        layer(hash_vocab_size=100, **ranking)


def test_a_correction_of_image_tokens_is_held_and_read_beside_the_other() -> None:
    router = layer(score_correction_bias=True, image_correction_bias=True)["moe.router"]
    alone = layer(score_correction_bias=True)["moe.router"]
    assert flops(router) == flops(alone)
    assert weights(router) == weights(alone) | {"image_correction_bias": ("router", 6, 1)}
    assert router.total("weight_bytes") == alone.total("weight_bytes") + 6 * 2
    with pytest.raises(ValidationError, match="image_correction_bias=True: needs score_corr"):
        layer(image_correction_bias=True)
