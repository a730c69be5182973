"""AltUp and LAUREL: every part by hand, and the counts of Gemma 3n."""

import pytest

from costmodel.costs.step import step_costs
from costmodel.inputs.catalog import load_model
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.layers.altup import AltUp
from costmodel.layers.laurel import Laurel
from costmodel.layers.operator import Operator
from costmodel.layers.per_layer_embedding import PerLayerEmbedding
from costmodel.layers.site import Site
from tests.steps import flops, make_step, quantity, tiny_model, weights

ALTUP, LAUREL = AltUp(altup_num_inputs=3), Laurel(laurel_rank=4)
PLE = PerLayerEmbedding(layers="1", hidden_size_per_layer_input=4, vocab_size_per_layer_input=10)


def listed(model: ModelConfig, tokens: int = 2) -> dict[str, Operator]:
    return {op.path: op for op in step_costs(model, make_step(batch=tokens)).operators}


def model() -> ModelConfig:
    """D = 8, three blocks, of which the second has a per-layer embedding."""
    return tiny_model(altup=ALTUP, laurel=LAUREL, memory=(PLE,))


def test_the_parts_of_altup_by_hand() -> None:
    """N = 2, D = 8, A = 3."""
    ops = listed(model())
    ends = {
        "gemm": ("matmul", 2 * 2 * 8 * 8 * 2),
        "magnitudes": ("elementwise", 2 * 8 * (2 * 3 + 2)),  # squares of three, two are scaled
    }
    assert flops(ops["altup.expand"]) == ends
    assert flops(ops["altup.merge"]) == {**ends, "mean": ("elementwise", 3 * 2 * 8)}
    router = {
        "router_norm": ("norm", 4 * 2 * 8),
        "router": ("matmul", 2 * 2 * 8 * 3),
        "tanh": ("elementwise", 2 * 3),
    }
    assert flops(ops["layers.{0-2}.altup.predict"]) == {
        **router,
        "coefficients": ("matmul", 2 * 2 * 27),
        "mix": ("matmul", 2 * 2 * 8 * 9),
        "add": ("elementwise", 2 * 8 * 3),
    }
    correct = {
        "residual_add": ("elementwise", 2 * 8),  # the FFN's output
        **router,
        "coefficients": ("matmul", 2 * 2 * 9),
        "correct": ("elementwise", 2 * 3 + 2 * 8 + 2 * 2 * 8 * 3),
    }
    assert flops(ops["layers.{0,2}.altup.correct"]) == correct
    scaled = {"scale": ("elementwise", 2 * 8)}  # for the layer that reads it
    assert flops(ops["layers.1.altup.correct"]) == {**correct, **scaled}
    assert flops(ops["layers.1.altup.spread"]) == {"add": ("elementwise", 2 * 2 * 8)}


def test_the_parts_of_laurel_by_hand() -> None:
    """N = 2, D = 8, r = 4."""
    ops = listed(model())
    assert flops(ops["layers.{0-2}.laurel.left"]) == {"gemm": ("matmul", 2 * 2 * 8 * 4)}
    assert flops(ops["layers.{0-2}.laurel.right"]) == {"gemm": ("matmul", 2 * 2 * 4 * 8)}
    assert flops(ops["layers.{0-2}.laurel.norm"]) == {
        "norm": ("norm", 4 * 2 * 8),
        "residual_add": ("elementwise", 2 * 8),
    }
    assert flops(ops["layers.{0-2}.laurel.join"]) == {"residual_add": ("elementwise", 3 * 2 * 8)}


def test_what_waits_is_added_by_the_correction_and_by_no_norm() -> None:
    ops = listed(model())
    norms = ("layers.{0-2}.attention_norm", "layers.{0-2}.ffn_norm", "final_norm")
    assert [ops[name].total("flops") for name in norms] == [4 * 2 * 8] * 3
    assert not [path for path in ops if path.endswith("_join")]


def test_the_parameters_by_hand() -> None:
    site = Site.of((0, 1), 8, ALTUP)
    expand, predict, merge = ALTUP.operators(site, make_step())
    assert weights(expand) == weights(merge) == {"weight": ("residual", 2 * 8, 8)}
    assert weights(predict) == {
        "norm": ("norm", 8, 1),
        "router": ("residual", 3, 8),
        "coefficients": ("residual", 27, 1),
    }
    correct = ALTUP.correct(site, make_step(), 1, spreads=True)
    assert weights(correct) == {
        "coefficients": ("residual", 9, 1),
        "scale": ("residual", 8, 1),
    }
    # the router of the block is held once, and read by the first of its runs
    router = {"router_norm": 8 * 2, "router": 3 * 8 * 2}
    assert quantity(correct, "weight_bytes") == {"coefficients": 9 * 2, "scale": 8 * 2}
    assert quantity(predict, "weight_bytes") == {**router, "coefficients": 27 * 2}


def test_the_groups_of_gemma_3n() -> None:
    """As transformers 5.24 builds it on the meta device: AltUp 25,527,024, LAUREL 9,175,040."""
    costs = step_costs(load_model("gemma-3n-e4b"), Workload().step())
    assert costs.parameters.by_group["residual"] == 25_527_024 + 9_175_040
    assert costs.parameters.by_group["norm"] == 518_144


def test_resident_activations_hold_all_streams() -> None:
    one = tiny_model()
    assert (one.stream_width, model().stream_width) == (8, 3 * 8)


@pytest.mark.parametrize("tokens", [1, 7])
def test_a_step_mixes_streams_as_often_as_it_has_tokens(tokens: int) -> None:
    """2 A^2 D a token and layer: 65,536 FLOPs in each of the 35 layers of Gemma 3n."""
    ops = step_costs(load_model("gemma-3n-e4b"), make_step(batch=tokens)).operators
    mixed = sum(op.count * part.flops for op in ops for part in op.parts if part.name == "mix")
    assert mixed == tokens * 35 * 2 * 16 * 2048
