"""Matching: the papers' own pairs come back, trying everything finds nothing nearer, rules hold."""

import csv
import json
import math
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.costs.calibrations import calibrated
from costmodel.costs.latency import StepTime
from costmodel.costs.predict import predict
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig, Override, model_from_table
from costmodel.inputs.workload import Workload
from costmodel.layers.base import Size
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ngram import Ngram
from costmodel.layers.product_key import ProductKey
from costmodel.layers.ultramem import UltraMem
from costmodel.questions.match import Match, match
from costmodel.questions.match_differences import differences
from costmodel.questions.matching.backbone import on_backbone
from costmodel.questions.matching.search import Budget, Search
from costmodel.questions.matching.sizes import parse_vary, resized, usual_sizes
from tests.commands import output, refusal
from tests.strategies import PRESETS

H200 = load_hardware("h200")
ANY_ATTENTION = PRESETS["llama-3.1-8b"].attention
SPARSE = [
    name
    for name in PRESETS
    if not name.startswith(
        ("llama", "lfm2-350m", "mistral", "qwen3-32b", "qwen3.5-27b", "gemma-4-31b")
    )
]
PAIRS = [
    ("olmoe-227m-1.2b", "ultramemv2-227m-1.2b"),
    ("ultramemv2-227m-1.2b", "olmoe-227m-1.2b"),
    ("gpt-oss-20b", "olmoe-1b-7b"),  # steps of 64 in width leave 1.3 %
    ("olmoe-1b-7b", "ultramemv2-1b-7b"),
    ("qwen3-30b-a3b", "pkm-lm-16l"),
    ("memory-plus-227m-1.2b", "mixtral-8x7b"),
]


def counted(model: ModelConfig, context: int = 2048) -> tuple[int, float]:
    """What is matched, as a prediction gives it."""
    costs = predict(model, Workload(context=context), H200).costs
    return costs.parameters.total_without_embeddings, float(costs.totals.flops)


def distance(found: tuple[int, float], wanted: tuple[int, float]) -> float:
    return max(abs(math.log(a / b)) for a, b in zip(found, wanted, strict=True))


def reached(found: Match) -> tuple[int, ...]:
    return tuple(after for _, after in found.fields.values())


def with_first_primes(model: ModelConfig) -> ModelConfig:
    """The model with each base of primes the first prime: all bases below give the same tables."""
    memory = tuple(
        replace(kind, vocab_size_base=kind.columns(1)[0][0]) if isinstance(kind, Ngram) else kind
        for kind in model.memory
    )
    return replace(model, memory=memory)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPARSE)
def test_a_model_is_found_again_from_a_template_of_its_kind(name: str) -> None:
    target = PRESETS[name]
    total, active = usual_sizes(target)
    steps = {total: 1, active: 8}  # some widths are no multiple of 64
    template = resized(target, {total: 1000, active: 4096})
    found = match(target, template, vary=steps)
    bare = with_first_primes(replace(target, published={}, notes=(), assumptions=(), storage=None))
    model = with_first_primes(found.model)
    # Which attention is the default may change, and overrides with it; the groups below may not.
    own = replace(
        model, name=target.name, source=target.source, overrides=(), attention=ANY_ATTENTION
    )
    assert own == replace(bare, overrides=(), attention=ANY_ATTENTION)
    assert found.model.ffn_groups == target.ffn_groups
    assert found.model.attention_groups == target.attention_groups
    assert found.reached == found.wanted
    assert found.parameters_ratio == found.flops_ratio == 1


def test_olmoe_is_found_again_with_the_usual_steps() -> None:
    template = resized(PRESETS["olmoe-1b-7b"], {"num_experts": 200, "moe_intermediate_size": 64})
    found = match(PRESETS["olmoe-1b-7b"], template)
    assert found.fields == {"num_experts": (200, 64), "moe_intermediate_size": (64, 1024)}


def test_the_papers_pair_is_found_from_its_moe() -> None:
    """UltraMemV2, Table 10: 360 keys; FFN width from the run scripts, one step of 64 above ours."""
    template = resized(PRESETS["ultramemv2-227m-1.2b"], {"knum": 100, "intermediate_size": 1024})
    found = match(PRESETS["olmoe-227m-1.2b"], template)
    assert found.fields == {"knum": (100, 360), "intermediate_size": (1024, 2496 - 64)}
    assert abs(found.parameters_ratio - 1) < 0.01
    assert abs(found.flops_ratio - 1) < 0.01


def test_the_papers_pair_is_found_from_its_memory_layers() -> None:
    """UltraMemV2, Table 10: 64 experts of width 384."""
    template = resized(PRESETS["olmoe-227m-1.2b"], {"num_experts": 8, "moe_intermediate_size": 64})
    found = match(PRESETS["ultramemv2-227m-1.2b"], template)
    assert found.fields == {"num_experts": (8, 64), "moe_intermediate_size": (64, 384)}
    assert abs(found.parameters_ratio - 1) < 0.01
    assert abs(found.flops_ratio - 1) < 0.01
    assert not found.model.memory


@pytest.mark.slow
@pytest.mark.parametrize(("target", "template"), PAIRS)
@pytest.mark.parametrize("context", [0, 30_000])
def test_no_neighbour_is_nearer(target: str, template: str, context: int) -> None:
    found = match(PRESETS[target], PRESETS[template], context=context)
    wanted = counted(PRESETS[target], context)
    assert (found.wanted.parameters, found.wanted.flops) == wanted
    assert (found.reached.parameters, found.reached.flops) == counted(found.model, context)
    (first, x), (second, y) = zip(found.fields, reached(found), strict=True)
    least = distance(counted(found.model, context), wanted)
    for dx, dy in product(range(-12, 13), range(-4, 5)):
        sizes = {first: x + dx * found.steps[first], second: y + dy * found.steps[second]}
        if sizes[first] >= 16 and sizes[second] >= 64:
            assert distance(counted(resized(found.model, sizes), context), wanted) >= least


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Made-up models: P and F rise with both sizes; rules refuse some; and what is wanted."""

    sizes: tuple[Size, Size]
    budgets: dict[tuple[int, int], Budget | None]
    wanted: Budget


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """P = a + b i^power + c j, F = d + e i + f j, whichever of the two sizes weighs more on which.

    Refused are an i below `least`, and of a j that says how many are chosen those above what an i
    offers: at most `rows`, and at most i^2 where the rule ties both.
    """
    a, d = draw(st.tuples(*[st.integers(1, 400)] * 2))
    b, c, e, f = draw(st.tuples(*[st.integers(0, 400)] * 4))
    power, tied = draw(st.sampled_from([1, 2])), draw(st.booleans())
    least, rows = draw(st.integers(0, 5)), draw(st.integers(1, 60))
    x = Size(label="x", step=draw(st.integers(1, 3)), most=draw(st.integers(1, 40)))
    y = Size(
        label="y",
        step=draw(st.integers(1, 3)),
        most=draw(st.integers(1, 40)),
        chosen=draw(st.booleans()),
    )
    budgets: dict[tuple[int, int], Budget | None] = {}
    for i, j in product(range(1, int(x.most) + 1), range(1, int(y.most) + 1)):
        refused = i < least or (y.chosen and (j > rows or (tied and j > i**2)))
        made = Budget(parameters=a + b * i**power + c * j, flops=d + e * i + f * j)
        budgets[i, j] = None if refused else made
    p, q = (draw(st.integers(1, 50)) for _ in range(2))
    near = draw(st.tuples(*[st.integers(70, 130)] * 2))
    wanted = Budget(
        parameters=(a + b * p**power + c * q) * near[0] // 100 + 1,
        flops=(d + e * p + f * q) * near[1] // 100 + 1,
    )
    x_first = draw(st.booleans())
    return World(
        sizes=(x, y) if x_first else (y, x),
        budgets=budgets if x_first else {(j, i): made for (i, j), made in budgets.items()},
        wanted=wanted,
    )


def distances(budget: Budget, wanted: Budget) -> tuple[float, float]:
    """The larger and the lesser of |ln p| and |ln f|."""
    p = abs(math.log(budget.parameters / wanted.parameters))
    f = abs(math.log(budget.flops / wanted.flops))
    return max(p, f), min(p, f)


@given(world=worlds())
def test_trying_every_pair_finds_nothing_nearer(world: World) -> None:
    """Nor a surrounded budget where no four neighbours are around it, nor none where some are."""
    (x, y), wanted = world.sizes, world.wanted
    candidates = {
        (i, j): budget
        for (i, j), budget in world.budgets.items()
        if budget is not None and i % x.step == j % y.step == 0
    }
    search = Search(budget=lambda i, j: world.budgets.get((i, j)), sizes=world.sizes, wanted=wanted)
    pair = search.nearest()
    if not candidates:
        assert pair is None
        return
    assert pair is not None
    every = {point: distances(budget, wanted) for point, budget in candidates.items()}
    assert every[pair] == min(every.values())
    around = (
        (candidates[i, j], candidates[i + di, j + dj])
        for (i, j), di, dj in product(candidates, (0, x.step), (0, y.step))
        if (i + di, j + dj) in candidates
    )
    assert search.surrounds() == any(
        low.parameters <= wanted.parameters <= high.parameters
        and low.flops <= wanted.flops <= high.flops
        for low, high in around
    )


@pytest.mark.parametrize(
    ("target", "template", "vary"),
    [
        ("deepseek-v3", "ultramemv2-2.5b-60b", None),
        ("mixtral-8x7b", "mixtral-8x22b", {"num_experts": 1, "moe_intermediate_size": 1}),
        ("olmoe-227m-1.2b", "ultramemv2-227m-1.2b", {"knn": 1, "intermediate_size": 1}),
        # sizes of nearly the same effect; one that FLOPs alone depend on, of a target out of reach
        ("moe-2.5b-120b", "ultramemv2-2.5b-120b", {"knum": 1, "pre_value_dim": 32}),
        ("llama-3.1-70b", "memory-plus-227m-1.2b", {"knn": 1, "intermediate_size": 64}),
    ],
)
def test_a_match_tries_fewer_than_a_thousand_models(
    target: str, template: str, vary: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where none is near enough; `make bench` says how long that takes."""
    searches: list[Search] = []

    def search(**fields: Any) -> Search:  # noqa: ANN401 - as of Search
        searches.append(Search(**fields))
        return searches[-1]

    monkeypatch.setattr("costmodel.questions.match.Search", search)
    with suppress(InputError):
        match(PRESETS[target], PRESETS[template], vary=vary)
    (made,) = searches
    assert 0 < len(made.budgets) < 1000


def test_experts_are_found_with_how_many_a_token_chooses() -> None:
    """A rule ties both: a token chooses at most as many experts as there are."""
    template = resized(PRESETS["olmoe-227m-1.2b"], {"num_experts": 2000, "num_experts_per_tok": 1})
    vary = {"num_experts": 1, "num_experts_per_tok": 1}
    assert reached(match(PRESETS["olmoe-227m-1.2b"], template, vary=vary)) == (64, 8)


def test_hidden_size_layers_attention_and_vocabulary_are_the_targets() -> None:
    target, template = PRESETS["gpt-oss-20b"], PRESETS["deepseek-v3"]
    model = match(target, template).model
    assert model.attention_groups == target.attention_groups
    for name in ("hidden_size", "num_hidden_layers", "vocab_size", "tie_word_embeddings"):
        assert getattr(model, name) == getattr(target, name)
    dense, moe = (ffn for ffn, _ in model.ffn_groups)
    assert (dense, model.ffn_groups[0][1]) == (DenseFfn(intermediate_size=18432), (0, 1, 2))
    assert isinstance(moe, MoeFfn)
    assert (moe.num_experts_per_tok, moe.shared_intermediate_size) == (8, 2048)
    assert (model.published, model.notes, model.assumptions) == ({}, (), ())
    assert on_backbone(template, replace(target, post_norms=True)).post_norms


def test_the_template_may_keep_its_trunk() -> None:
    target, template = PRESETS["olmoe-1b-7b"], PRESETS["memory-plus-227m-1.2b"]
    with pytest.raises(InputError, match=r"layers='16'.* 16 layers.*--keep-trunk"):
        match(target, template)
    model = match(target, template, keep_backbone=True).model
    assert (model.hidden_size, model.num_hidden_layers) == (768, 20)
    assert model.attention == template.attention


def test_experts_come_in_whole_groups() -> None:
    found = match(PRESETS["qwen3-30b-a3b"], PRESETS["deepseek-v3"])
    assert found.steps["num_experts"] == 8
    assert found.fields["num_experts"][1] % 8 == 0


def test_row_widths_come_in_whole_slices() -> None:
    (memory,) = PRESETS["ultramemv2-227m-1.2b"].memory
    template = replace(
        PRESETS["ultramemv2-227m-1.2b"],
        memory=(replace(memory, tucker_cores=3),),  # type: ignore[type-var]
    )
    found = match(
        PRESETS["olmoe-227m-1.2b"], template, vary={"value_dim": 32, "intermediate_size": 64}
    )
    assert found.steps["value_dim"] == 96
    assert found.fields["value_dim"][1] % 96 == 0


def test_keys_suffice_for_the_rows_that_are_read() -> None:
    """The 4,096 rows that a head reads need 64 keys a side: a match on the border is found."""
    (memory,) = PRESETS["pkm-lm-16l"].memory
    template = replace(PRESETS["pkm-lm-16l"], memory=(replace(memory, knn=4096),))  # type: ignore[type-var]
    target = resized(template, {"num_keys": 64, "intermediate_size": 1024})
    found = match(target, template)
    assert reached(found) == (64, 1024)
    assert found.reached == found.wanted


def test_rows_read_do_not_exceed_the_rows_there_are() -> None:
    (memory,) = PRESETS["ultramemv2-227m-1.2b"].memory
    template = replace(
        PRESETS["ultramemv2-227m-1.2b"],
        memory=(replace(memory, first_stage_topk=8),),  # type: ignore[type-var]
    )
    found = match(PRESETS["olmoe-227m-1.2b"], template, vary={"knn": 1, "intermediate_size": 64})
    assert found.fields["knn"][1] <= 64
    wide = match(
        PRESETS["olmoe-227m-1.2b"],
        PRESETS["ultramemv2-227m-1.2b"],
        vary={"knn": 1, "intermediate_size": 64},
    )
    assert wide.fields["knn"][1] > 64  # what it would take without that rule


def test_rows_are_as_wide_as_the_model_where_nothing_projects_them() -> None:
    found = match(PRESETS["qwen3-30b-a3b"], PRESETS["pkm-lm-16l"])
    (memory,) = found.model.memory
    assert isinstance(memory, ProductKey)
    assert memory.value_dim == found.model.hidden_size == 2048


def test_layers_that_differ_keep_their_sizes() -> None:
    base = PRESETS["ultramemv2-227m-1.2b"]
    (memory,) = base.memory
    assert isinstance(memory, UltraMem)
    model = replace(
        base,
        memory=(
            replace(memory, layers="0-3"),
            replace(memory, layers="4-7"),
            replace(memory, layers="8", knum=100),
        ),
        overrides=(
            Override(layers="0", ffn=DenseFfn(intermediate_size=640)),
            Override(layers="1", ffn=DenseFfn(intermediate_size=2496, gated=False)),
        ),
    )
    changed = resized(model, {"knum": 50, "intermediate_size": 128})
    assert [each.knum for each in changed.memory if isinstance(each, UltraMem)] == [50, 50, 100]
    widths = [ffn.intermediate_size for ffn, _ in changed.ffn_groups if isinstance(ffn, DenseFfn)]
    assert widths == [640, 128, 128]


@pytest.mark.parametrize(
    ("template", "vary", "words"),
    [
        ("llama-3.1-8b", None, "has neither experts nor memory layers"),
        ("olmoe-1b-7b", {"knum": 1, "num_experts": 1}, "vary='knum': is no size of"),
        ("olmoe-1b-7b", {"num_experts": 1}, "two fields are named"),
        ("olmoe-1b-7b", dict.fromkeys(["num_experts", "knn", "knum"]), "two fields are named"),
        (
            "olmoe-1b-7b",
            {"hidden_size": 1, "num_experts": 1},
            "its sizes: num_experts, num_experts_per_tok, moe_intermediate_size",
        ),
        (
            "ultramemv2-1b-7b",
            {"share_ratio": None, "knum": None},
            "vary=share_ratio: is no whole number",
        ),
        (
            "olmoe-1b-7b",
            {"num_experts": 0, "moe_intermediate_size": 1},
            "vary.num_experts=0: is a step from 1 to 65,536",
        ),
        (
            "pkm-lm-16l",
            {"value_dim": 32, "num_keys": 1},
            "vary=value_dim: the layers' rules allow no value but 2048",
        ),
    ],
)
def test_what_cannot_be_varied_is_told(
    template: str, vary: dict[str, int | None] | None, words: str
) -> None:
    with pytest.raises(InputError) as error:
        match(PRESETS["olmoe-1b-7b"], PRESETS[template], vary=vary)
    assert words in str(error.value)


def test_a_width_that_no_layer_has_is_told() -> None:
    """A memory in place of every FFN leaves no FFN to size."""
    (memory,) = PRESETS["peer-12l-1m"].memory
    template = replace(PRESETS["peer-12l-1m"], memory=(replace(memory, layers="all"),))  # type: ignore[type-var]
    with pytest.raises(InputError, match="beside num_keys no layer has a size that sets FLOPs"):
        match(PRESETS["olmoe-227m-1.2b"], template)


def test_the_order_of_the_sizes_does_not_matter() -> None:
    target, template = PRESETS["olmoe-1b-7b"], PRESETS["ultramemv2-1b-7b"]
    found = match(target, template, vary={"intermediate_size": 64, "knum": 1})
    assert found.fields == match(target, template).fields
    assert [*found.fields] == ["intermediate_size", "knum"]


def test_a_target_out_of_reach_is_told_with_the_nearest() -> None:
    """Eight experts of each layer are always read, so a dense model's FLOPs need k = E = 8."""
    template = PRESETS["deepseek-v3"]  # three dense layers of 18432, eight groups: E >= 16
    with pytest.raises(InputError) as error:
        match(PRESETS["llama-3.1-8b"], template)
    assert "as 'Llama-3.1-8B' has; the nearest, " in str(error.value)
    assert "num_experts=16, " in str(error.value)
    dense = match(PRESETS["llama-3.1-8b"], PRESETS["olmoe-1b-7b"])
    assert dense.fields["num_experts"] == (64, 8)  # 8 x 1792 = 14336, its FFN width
    assert dense.fields["moe_intermediate_size"] == (1024, 1792)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.json", "ends in .toml"),
        ("taken.toml", "exists; --force replaces it"),
        ("none/model.toml", "cannot be written: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_written_is_told(name: str, words: str, tmp_path: Path) -> None:
    taken = tmp_path / "taken.toml"
    taken.write_text("mine")
    assert words in refusal(
        "match", "olmoe-1b-7b", "--to", "ultramemv2-1b-7b", "--out", str(tmp_path / name)
    )
    assert [*tmp_path.iterdir()] == [taken]
    assert taken.read_text() == "mine"


def test_what_differs_then_is_what_predictions_say() -> None:
    found = match(PRESETS["olmoe-227m-1.2b"], PRESETS["ultramemv2-227m-1.2b"], context=512)
    by = calibrated("h200")
    lines = {(line.name, line.batch): line for line in differences(found, H200, [1, 64], by)}
    for batch in (1, 64):
        for side, model in (("target", found.target), ("matched", found.model)):
            prediction = predict(model, Workload(batch=batch, context=512), H200, by)
            sums = prediction.costs.totals
            line = {name: getattr(each, side) for (name, at), each in lines.items() if at == batch}
            assert line["hbm_bytes.compulsory"] == sums.compulsory_bytes
            assert line["hbm_bytes.kv"] == sums.kv_read_bytes + sums.kv_written_bytes
            assert line["time.floor_s"] == prediction.floor_s
            assert isinstance(prediction.time, StepTime)
            assert line["time.predicted_s"] == prediction.time.predicted_s
            assert line["energy.predicted_j"] == prediction.time.energy_j
    assert lines["kv_cache.bytes_per_token", None].target == 61440  # 2 x 2 x 768 x 20


def test_without_a_calibration_times_are_floors_and_the_reason_is_told() -> None:
    command = ["match", "olmoe-227m-1.2b", "--to", "ultramemv2-227m-1.2b"]
    named = {each["quantity"] for each in json.loads(output(*command, "--json"))["beside"]}
    assert {"time.floor_s", "time.predicted_s", "energy.predicted_j"} <= named
    data = json.loads(output(*command, "--calibration", "none", "--json"))
    assert named - {each["quantity"] for each in data["beside"]} == {
        "time.predicted_s",
        "energy.predicted_j",
    }
    assert data["calibration"] is None
    assert "--calibration none" in data["reasons"]["calibration"]
    assert "Time and energy not predicted" in output(*command, "--calibration", "none")


def test_the_command_writes_a_model_that_other_commands_read(tmp_path: Path) -> None:
    path, table = tmp_path / "matched.toml", tmp_path / "rows.csv"
    command = ["match", "olmoe-227m-1.2b", "--to", "ultramemv2-227m-1.2b"]
    data = json.loads(output(*command, "--out", str(path), "--json"))
    assert {name: each["matched"] for name, each in data["fields"].items()} == {
        "knum": 360,
        "intermediate_size": 2432,
    }
    model = load_model(str(path))
    assert model_from_table(data["model"], where="json") == model
    matched = {each["quantity"]: each["matched"] for each in data["matched"]}
    assert tuple(matched.values()) == counted(model)
    for each in data["matched"] + data["beside"]:
        assert each["difference"] == each["matched"] - each["target"]
    assert output(*command, "--csv", str(table)) == ""
    with table.open() as file:
        rows = [*csv.DictReader(file)]
    assert [row["matched"] for row in rows] == [
        str(each["matched"]) for each in data["matched"] + data["beside"]
    ]
    assert output("compare", "olmoe-227m-1.2b", str(path))
    shown = output(*command)
    assert "1,180,665,088  1,183,898,528  +3,233,440  +0.274 %" in shown
    assert "| knum | 360 | 360 | 1 |".replace(" ", "") in output(*command, "--markdown").replace(
        " ", ""
    ).replace("\\", "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--json --markdown", "exclude one another"),
        ("--csv rows.txt", "ends in .csv"),
        ("--context 1,2", "one value is expected here"),
        ("--vary knum,knum", "'knum' is listed twice"),
        ("--vary knum:x,knn", "vary.knum='x': must be a whole number from 1 to 1,048,576"),
        ("--vary knum", "two fields are named"),
        ("--vary ,", "vary=',': '' is listed twice"),
    ],
)
def test_options_that_break_a_rule_are_told(options: str, words: str) -> None:
    command = ["match", "olmoe-227m-1.2b", "--to", "ultramemv2-227m-1.2b"]
    assert words in refusal(*command, *options.split())


def test_steps_are_typed_after_a_colon() -> None:
    assert parse_vary("knum, intermediate_size:8") == {"knum": None, "intermediate_size": 8}
