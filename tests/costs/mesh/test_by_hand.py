"""What one GPU of a mesh has, does and sends, worked out by hand from published sizes.

Sizes: Llama-3.1-70B, arXiv 2407.21783, table 3; DeepSeek-V3, arXiv 2412.19437, section 4.2;
Mixtral-8x7B, arXiv 2401.04088, table 1; UltraMemV2-2.5B/120B, the preset's own file.
"""

from fractions import Fraction
from typing import Any

import pytest

from costmodel.costs.predict import predict
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh, TableSplit
from costmodel.show.prediction_json import prediction_json

BF16 = 2


def on_mesh(name: str, mesh: Mesh, **workload: Any) -> dict[str, Any]:  # noqa: ANN401
    """The section `parallel` of a prediction on H200s."""
    work = Workload(mesh=mesh, **workload)
    document = prediction_json(predict(load_model(name), work, load_hardware("h200")))
    section: dict[str, Any] = document["parallel"]
    return section


def exchange(section: dict[str, Any], end: str) -> dict[str, Any]:
    """The one exchange whose path ends so."""
    found: list[dict[str, Any]]
    found = [one for one in section["exchanges"] if one["path"].endswith(end)]
    assert len(found) == 1
    return found[0]


def test_llama_70b_over_eight_gpus() -> None:
    section = on_mesh("llama-3.1-70b", Mesh(tp=8), batch=16, context=1000)
    d, heads, kv_heads, size, width, vocabulary, layers = 8192, 64, 8, 128, 28_672, 128_256, 80
    divided = (heads + 2 * kv_heads) * size * d + heads * size * d + 3 * d * width
    kept = 2 * d  # norms
    weights = layers * (divided // 8 + kept) + 2 * vocabulary * d // 8 + d
    assert weights == 8_820_367_360
    assert section["per_gpu"]["weights_bytes"] == weights * BF16
    # One key-value head of eight, of keys and of values.
    assert section["per_gpu"]["kv_bytes"] == 16 * 1001 * layers * 2 * size * BF16
    summed = exchange(section, "attention.all_reduce")
    assert summed["count"] == layers
    assert summed["payload_bytes"] == 16 * d * BF16
    assert summed["sent_bytes"] == 2 * 7 / 8 * 16 * d * BF16
    logits = 7 / 8 * 16 * vocabulary * BF16
    assert exchange(section, "lm_head.all_gather")["sent_bytes"] == logits
    # After attention and after the FFN of each layer, and after the embedding.
    assert section["communication"]["bytes"] == 161 * summed["sent_bytes"] + logits
    assert section["communication"]["network_bytes"] == 0


def test_deepseek_v3_with_experts_over_64_gpus() -> None:
    mesh = Mesh(dp=64, ep=64)
    section = on_mesh("deepseek-v3", mesh, batch=128, context=1000)
    d, width, layers = 7168, 2048, 58
    experts = layers * 4 * 3 * d * width  # 256 / 64 of a layer
    assert experts == 10_217_324_544
    whole = predict(load_model("deepseek-v3"), Workload(batch=128), load_hardware("h200"))
    others = whole.costs.parameters.total - layers * 256 * 3 * d * width
    assert section["per_gpu"]["weights_bytes"] == (experts + others) * BF16
    # Of 8 experts among 256, drawn without repetition: none of a GPU's four.
    away = Fraction(248 * 247 * 246 * 245, 256 * 255 * 254 * 253)
    gpus = 64 * (1 - away)
    dispatch = exchange(section, "moe.dispatch.all_to_all")
    assert dispatch["payload_bytes"] == pytest.approx(float(2 * gpus * d * BF16), rel=1e-12)
    sent = float(2 * gpus * d * BF16 * 63 / 64)  # a 64th stays
    assert dispatch["sent_bytes"] == pytest.approx(sent, rel=1e-12)
    assert exchange(section, "moe.combine.all_to_all")["sent_bytes"] == dispatch["sent_bytes"]
    # Of 63 others, 7 stand in the same node.
    network = layers * 2 * sent * 56 / 63
    assert section["communication"]["network_bytes"] == pytest.approx(network, rel=1e-12)
    assert {one["path"].rpartition(".")[2] for one in section["exchanges"]} == {"all_to_all"}


def test_deepseek_v3_keeps_all_latents_on_every_gpu_of_a_group() -> None:
    alone = on_mesh("deepseek-v3", Mesh(dp=8), batch=16, context=1000)["per_gpu"]
    divided = on_mesh("deepseek-v3", Mesh(tp=8), batch=16, context=1000)["per_gpu"]
    latents = 1001 * 61 * (512 + 64) * BF16
    assert alone["kv_bytes"] == 2 * latents
    assert divided["kv_bytes"] == 16 * latents


def test_mixtral_over_two_by_four_gpus() -> None:
    section = on_mesh("mixtral-8x7b", Mesh(tp=2, dp=4, ep=4), batch=64, context=1000)
    d, width, layers, vocabulary = 4096, 14_336, 32, 32_000
    experts = layers * 2 * 3 * d * (width // 2)  # two of eight, each over two GPUs
    attention = layers * (2 * 32 + 2 * 8) * 128 * d // 2
    kept = layers * (2 * d + 8 * d) + d  # norms and routers
    weights = experts + attention + kept + 2 * vocabulary * d // 2
    assert section["per_gpu"]["weights_bytes"] == weights * BF16
    assert section["per_gpu"]["kv_bytes"] == 16 * 1001 * layers * 2 * 4 * 128 * BF16
    # A GPU gives out half of its group's 16 tokens. Of 8 experts a token takes 2; a set has 2.
    copies = 4 * (1 - Fraction(6 * 5, 8 * 7)) * 2
    payload = float(8 * copies * d * BF16)
    dispatch = exchange(section, "moe.dispatch.all_to_all")
    assert dispatch["payload_bytes"] == pytest.approx(payload, rel=1e-12)
    assert dispatch["sent_bytes"] == pytest.approx(payload * 7 / 8, rel=1e-12)
    assert exchange(section, "moe.all_gather")["payload_bytes"] == 16 * d * BF16


@pytest.mark.parametrize("tables", ["width", "rows"])
def test_ultramemv2_120b_with_its_table_over_eight_gpus(tables: TableSplit) -> None:
    """The paper's collectives: indices and scores, projected inputs, pre-scores, outputs."""
    model = load_model("ultramemv2-2.5b-120b")
    (memory,) = model.memory
    sizes: Any = memory
    layers = len(memory.placement(model.num_hidden_layers))
    rows, reads = sizes.knum**2 * layers, sizes.num_heads * sizes.knn
    section = on_mesh("ultramemv2-2.5b-120b", Mesh(dp=8, tables=tables), batch=64, context=1000)
    whole = predict(model, Workload(batch=64), load_hardware("h200"))
    table = rows * (sizes.value_dim + sizes.pre_value_dim)
    others = whole.costs.parameters.total - table
    assert section["per_gpu"]["weights_bytes"] == (others + table // 8) * BF16
    tokens, everyone = 8, 64
    listed = exchange(section, "memory.rows.all_gather")
    assert listed["payload_bytes"] == everyone * reads * (8 + BF16)
    assert listed["count"] == layers
    if tables == "width":
        inputs = exchange(section, "memory.inputs.all_to_all")
        assert inputs["payload_bytes"] == tokens * sizes.pre_value_dim * BF16
        dots = exchange(section, "memory.pre_values.all_reduce")
        assert dots["payload_bytes"] == everyone * reads * BF16
        outputs = exchange(section, "memory.values.all_to_all")
        assert outputs["payload_bytes"] == everyone * sizes.value_dim * BF16 / 8
    else:
        inputs = exchange(section, "memory.inputs.all_gather")
        assert inputs["payload_bytes"] == everyone * sizes.pre_value_dim * BF16
        outputs = exchange(section, "memory.values.reduce_scatter")
        assert outputs["payload_bytes"] == everyone * sizes.value_dim * BF16
        assert not [one for one in section["exchanges"] if "pre_values" in one["path"]]


def test_a_slice_of_a_row_may_be_less_than_a_sector() -> None:
    """Rows of 128 B over 8 GPUs are slices of 16 B, each in a sector of 32 B."""
    model = load_model("ultramemv2-227m-1.2b")
    (memory,) = model.memory
    width: Any = memory
    assert width.value_dim * BF16 % 8 == 0
    hardware = load_hardware("h200")
    one = predict(model, Workload(batch=64), hardware).costs
    many = predict(model, Workload(batch=64, mesh=Mesh(dp=8)), hardware).costs
    assert many.totals.row_bytes == pytest.approx(one.totals.row_bytes)
    assert many.rows.sector_bytes > one.rows.sector_bytes


def test_llama_in_four_stages() -> None:
    """20 layers a stage; each reads its weights once for each of four microbatches."""
    section = on_mesh("llama-3.1-70b", Mesh(pp=4), batch=8, context=1000)
    d, width = 8192, 28_672
    of_layer = (64 + 16) * 128 * d + 64 * 128 * d + 3 * d * width + 2 * d
    last = 20 * of_layer + 128_256 * d + d  # with the head and the norm before it
    assert section["per_gpu"]["weights_bytes"] == last * BF16
    assert section["microbatches"] == 4
    sent = exchange(section, "stages.send")
    assert (sent["count"], sent["payload_bytes"]) == (3, 2 * d * BF16)
    # Three of four GPUs send each of four microbatches on.
    assert section["communication"]["bytes"] == 3 * 2 * d * BF16


def test_a_stage_sends_every_residual_stream() -> None:
    """Four streams of 2,560, of four sequences a microbatch."""
    section = on_mesh("qwen3.8-flash-next", Mesh(pp=2), batch=8, context=1000)
    assert exchange(section, "stages.send")["payload_bytes"] == 4 * 4 * 2560 * BF16
