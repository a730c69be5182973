"""`sparsecost generate`: tiny models of four kinds run on the CPU, and what cannot run says why."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from costmodel.errors import install_command
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from reference_model import free_memory as memory
from reference_model import generate
from reference_model.model import build_model
from tests.commands import Done, refusal, run
from tests.strategies import PRESETS

ATTENTION = """[attention]
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 8
sliding_window = 6
"""
LATENT = """[attention]
kind = "mla"
num_attention_heads = 2
kv_lora_rank = 8
qk_nope_head_dim = 8
qk_rope_head_dim = 8
v_head_dim = 8
"""
DENSE = """[ffn]
kind = "dense"
intermediate_size = 48
"""
EXPERTS = """[ffn]
kind = "moe"
num_experts = 8
num_experts_per_tok = 2
moe_intermediate_size = 16
"""
MEMORY = """[[memory]]
kind = "ultramem"
layers = "all"
knum = 8
share_ratio = 0.5
knn = 4
key_dim = 8
pre_value_dim = 8
value_dim = 8
"""
FUSED_REFUSES = "backend=fused: tiny dense: the backend fused"
KINDS = {
    "dense": ATTENTION + DENSE,
    "moe": ATTENTION + EXPERTS,
    "ultramemv2": ATTENTION + DENSE + MEMORY,
    "mla": LATENT + DENSE,
}
KV_BYTES = {"dense": 2 * 2 * 2 * 8 * 2, "mla": 2 * (8 + 8) * 2}  # of a token: layers, ..., bf16
SIZES = ["--batch", "2", "--context", "5", "--new-tokens", "3"]
HELD = 5 + 3


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return written(tmp_path, "dense")


def written(folder: Path, kind: str, hidden_size: int = 32) -> Path:
    path = folder / f"{kind}.toml"
    head = f'name = "tiny {kind}"\nsource = "a test"\nhidden_size = {hidden_size}\n'
    path.write_text(f"{head}vocab_size = 50\nnum_hidden_layers = 2\n{KINDS[kind]}")
    return path


def lived(done: Done) -> str:
    """What a run printed; progress, and nothing else, is on stderr."""
    assert done.code == 0, done
    words = [line.split()[0].rstrip(":") for line in done.err.splitlines()]
    assert words == ["building", "prefill", "decode"]
    return done.out


def failure(*arguments: str) -> str:
    """The message of a run that was understood and could not be done."""
    done = run("generate", *arguments)
    assert (done.code, done.out) == (1, "")
    message = done.err.splitlines()[-1]
    assert message.startswith("error: ")
    return message.removeprefix("error: ")


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_lives_and_holds_what_was_predicted(
    kind: str, dtype: str, tmp_path: Path
) -> None:
    path = str(written(tmp_path, kind))
    document = json.loads(lived(run("generate", path, *SIZES, "--dtype", dtype, "--json")))
    assert document["schema_version"] == 1
    assert document["model"] == {"name": f"tiny {kind}", "notes": []}
    assert document["workload"] == {"batch": 2, "context": 5, "new_tokens": 3, "dtype": dtype}
    assert document["device"]["kind"] == "cpu"
    assert document["device"]["torch"] == torch.__version__
    assert document["parameters"]["total"] == document["parameters"]["predicted_total"] > 0
    cache = document["kv_cache"]
    assert cache["held_bytes"] == cache["predicted_bytes"] == cache["allocated_bytes"]
    tokens = HELD if kind == "mla" else 6  # the window
    per_token = KV_BYTES.get(kind, KV_BYTES["dense"]) * (2 if dtype == "fp32" else 1)
    assert cache["held_bytes"] == 2 * tokens * per_token
    assert len(document["tokens"]) == 1 + 3
    assert set(document["tokens"]) <= set(range(50))
    prefill, decode = document["prefill"], document["decode"]
    assert prefill["tokens_per_s"] == pytest.approx(2 * 5 / prefill["time_s"])
    assert (decode["mode"], decode["backend"]) == ("eager", "torch")
    assert decode["tokens_per_s"] == pytest.approx(2 / decode["step_median_s"])
    low, high = decode["step_quartile_low_s"], decode["step_quartile_high_s"]
    assert low <= decode["step_median_s"] <= high
    assert document["reasons"] == {}


def test_the_table_says_the_same(tiny: Path) -> None:
    text = lived(run("generate", str(tiny), *SIZES))
    assert text.startswith("tiny dense: run with random weights and tokens, bf16\n")
    rows = {line[:16].strip(): line[16:].strip() for line in text.splitlines()[3:]}
    assert rows["parameters"].split()[1:3] == ["(as", "predicted)"]
    assert rows["KV cache bytes"].startswith("1,536 (as predicted)")
    assert rows["KV cache bytes"].endswith("held: 2 x 8 tokens")
    assert "2 x 5 tokens in" in rows["prefill"]
    assert rows["decode"].endswith("3 eager steps of 2 tokens")
    assert rows["decode step"].split()[2] == "median"


def test_greedy_steps_continue_the_prompt_as_a_prefill_would(tiny: Path) -> None:
    """A run is the same each time, and a longer one begins like a shorter one."""
    sizes = ["--context", "5", "--json", "--dtype", "fp32"]
    short = json.loads(lived(run("generate", str(tiny), *sizes, "--new-tokens", "1")))
    long = json.loads(lived(run("generate", str(tiny), *sizes, "--new-tokens", "9")))
    assert long["tokens"][:2] == short["tokens"]
    reason = "not measured (one step has no spread)"
    quartiles = ("step_quartile_low_s", "step_quartile_high_s")
    assert [short["decode"][name] for name in quartiles] == [None, None]
    assert short["reasons"] == {f"decode.{name}": reason for name in quartiles}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--batch 0", "batch='0': must be a whole number from 1 to 1,048,576"),
        ("--batch 1,2", "batch='1,2': must be a whole number from 1 to 1,048,576"),
        ("--context 0", "context='0': must be a whole number from 1 to 16,777,216"),
        ("--new-tokens 0", "new_tokens='0': must be a whole number from 1 to 16,777,216"),
        ("--new-tokens x", "new_tokens='x': must be a whole number from 1 to 16,777,216"),
        (
            "--backend fused",
            "backend=fused: needs a GPU: device=cuda, not device=cpu",
        ),
        (
            "--backend fused --device cuda --dtype fp32",
            f"{FUSED_REFUSES} runs bf16, not dtype=fp32 with kv_dtype=fp32",
        ),
        (
            "--backend fused --device cuda",
            f"{FUSED_REFUSES} needs a head_dim that is a power of two from 16, not 8",
        ),
        ("--graph", "graph: a CUDA graph needs device=cuda, not device=cpu"),
    ],
)
def test_mistakes(arguments: str, message: str, tiny: Path) -> None:
    assert refusal("generate", str(tiny), *arguments.split()) == message


@pytest.mark.parametrize("arguments", ["--device tpu", "--device cuda:0", "--dtype fp16"])
def test_a_choice_that_does_not_exist_is_a_mistake(arguments: str, tiny: Path) -> None:
    done = run("generate", str(tiny), *arguments.split())
    assert (done.code, done.out) == (2, "")
    assert arguments.split()[1] in done.err


def test_expert_widths_that_grouped_products_refuse_are_a_mistake(tmp_path: Path) -> None:
    done = run("generate", str(written(tmp_path, "moe", hidden_size=36)))
    assert (done.code, done.out) == (2, "")
    assert "error: hidden_size=36: " in done.err
    assert "multiple of 8" in done.err


def test_without_a_gpu(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = failure(str(tiny), "--device", "cuda")
    assert message == f"device=cuda: torch {torch.__version__} finds no GPU"


def test_without_torch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    done = run("generate", str(tiny))
    message = f"error: generate needs torch; install it with: {install_command('gpu')}\n"
    assert done == Done(code=1, out="", err=message)


@pytest.mark.parametrize(("room", "told"), [(0, "0.00 GiB"), (5000, "4.883 KiB")])
def test_too_large_is_refused_before_anything_is_allocated(
    room: int, told: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: room)
    monkeypatch.setattr(generate, "build_model", None)
    message = failure(str(tiny))
    assert message.startswith("memory: tiny dense at batch 1 and 24 tokens needs ")
    assert message.endswith(f" KiB by the prediction; cpu has {told} free")
    assert "1,24" in failure("deepseek-v3").partition(" GiB")[0]


def test_unknown_room_is_no_reason_to_refuse(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda _: None)
    lived(run("generate", str(tiny)))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: tiny dense at batch 1"),
        (MemoryError(), "out of memory: tiny dense at batch 1"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."),
            "out of memory: tiny dense at batch 1",
        ),
        (NotImplementedError("no such kernel"), "device=cpu: no such kernel"),
    ],
)
def test_failures_of_the_run(
    error: Exception, message: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(generate, "build_model", fail)
    assert failure(str(tiny)).startswith(message)


def test_a_fault_of_ours_is_not_hidden(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(generate, "build_model", fail)
    with pytest.raises(RuntimeError, match="multiplied"):
        run("generate", str(tiny))


def test_predicted_memory_covers_what_is_stored() -> None:
    config = PRESETS["olmoe-1b-7b"]
    last = Workload(batch=2, context=99)
    model = build_model(config, device="meta")
    stored = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    stored += model.new_cache(2, 100).allocated_bytes()
    needed = {}
    for device in ("cpu", "cuda"):
        prefill = Workload(phase="prefill", batch=2, context=0, new_tokens=90)
        needed[device] = memory.needed_bytes(config, prefill, last, device=device)
        assert stored < needed[device] < stored * 1.05
    heads = 16
    assert needed["cpu"] - needed["cuda"] == 12 * 2 * heads * 90 * 90  # the square of scores


def test_free_memory_of_a_host_and_of_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    host = memory.free_bytes("cpu")
    if sys.platform == "linux":
        assert host is not None
        assert host > 2**20
    for name, text in (("max", "9000"), ("current", "5000"), ("stat", "anon 4000\nfile 700\n")):
        (tmp_path / f"memory.{name}").write_text(text)
    assert memory.free_bytes("cpu") == 9000 - 5000 + 700
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes("cpu") is None or memory.free_bytes("cpu") != 4700


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--help"], "generate"),
        (["generate", "--help"], "--new-tokens"),
        (["generate", "no-such-model"], ""),
        (["predict", "olmoe-1b-7b"], "OLMoE"),
    ],
)
def test_torch_is_imported_by_nothing_but_a_run(arguments: list[str], told: str) -> None:
    program = (
        "import atexit, sys; from costmodel.cli import main as cli;"
        "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); cli.main()"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told in done.stdout
    assert done.stderr.splitlines()[-1] == "False"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", KINDS)
def test_graph_and_eager_generate_the_same_tokens(kind: str, tmp_path: Path) -> None:
    config = load_model(str(written(tmp_path, kind)))
    prefill = Workload(phase="prefill", batch=2, context=0, new_tokens=5)
    last = Workload(batch=2, context=HELD - 1)
    graph, eager = (
        generate.generate(config, prefill, last, device="cuda", graph=graph, say=lambda _: None)
        for graph in (True, False)
    )
    assert graph.tokens == eager.tokens
    assert graph.cache_held_bytes == eager.cache_held_bytes
