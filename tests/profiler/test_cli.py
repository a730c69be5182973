"""`sparsecost profile`: what a user types, from mistakes to a recording of a tiny model."""

import json
from pathlib import Path

import pytest

from costmodel.errors import shown
from costmodel.recordings import folders
from costmodel.recordings.quantities import RUNS
from costmodel.recordings.recording import load_recording
from profiler import cli
from profiler.session.child import Child
from profiler.session.plan import standard_plan
from profiler.session.progress import ProfileProgress
from profiler.session.session import Outcome, ProfileRequest
from tests.commands import Done, output, refusal, run

pytestmark = pytest.mark.slow  # each test profiles

TINY = """
name = "Tiny {kind}"
source = "a test"
hidden_size = {width}
vocab_size = 50
num_hidden_layers = 2
[attention]
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 8
[ffn]
"""
FFN = {
    "dense": 'kind = "dense"\nintermediate_size = 48\n',
    "moe": 'kind = "moe"\nnum_experts = 8\nnum_experts_per_tok = 2\nmoe_intermediate_size = 16\n',
}
NO_GPU = "not measured (no NVIDIA GPU)"


def written(folder: Path, kind: str = "moe", width: int = 32) -> str:
    path = folder / f"{kind}.toml"
    path.write_text(TINY.format(kind=kind, width=width) + FFN[kind])
    return str(path)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[ProfileRequest]:
    """What is asked for, in place of doing it."""
    seen: list[ProfileRequest] = []

    def kept(request: ProfileRequest, progress: ProfileProgress) -> tuple[Outcome, ...]:
        assert isinstance(progress, ProfileProgress)
        seen.append(request)
        return tuple(
            Outcome(path=Path(f"r/{each.name}.json"), measured=2, lacking=1, reason="why", lost=0)
            for each in request.models
        )

    monkeypatch.setattr(cli, "run_profile", kept)
    return seen


def test_tables_in_host_memory_are_asked_for_of_every_case(requests: list[ProfileRequest]) -> None:
    output("profile", "ultramemv2-227m-1.2b", "--placement", "tables=host", "--batch", "1,2")
    ((target,),) = (request.models for request in requests)
    assert [planned.workload.placement for planned in target.plan] == ["tables=host"] * 2
    told = refusal("profile", "olmoe-1b-7b", "--placement", "tables=host")
    assert "placement=tables=host: OLMoE-1B-7B has no memory table" in told


def test_the_usual_request(requests: list[ProfileRequest]) -> None:
    assert output("profile", "OLMoE-1B-7B") == "r/olmoe-1b-7b.json: 2 measured, 1 lacking\n"
    (request,) = requests
    (target,) = request.models
    assert (target.name, target.preset, target.model.name) == ("olmoe-1b-7b",) * 2 + (
        "OLMoE-1B-7B",
    )
    (planned,) = target.plan
    assert planned.runs == RUNS
    assert (planned.workload.phase, planned.workload.batch) == ("decode", 1)
    assert (planned.workload.context, planned.workload.new_tokens) == (2048, 1)
    assert (planned.workload.dtype, planned.workload.routing) == ("bf16", "uniform")
    assert (request.out, request.device, request.resume) == (Path("recordings"), "auto", False)
    assert (request.dtype, request.timeout_s) == ("bf16", 600)


def test_lists(requests: list[ProfileRequest], tmp_path: Path) -> None:
    lists = "--batch 1,16 --context 0,512 --routing uniform,zipf:1,zipf:0.50,scores --dtype fp32"
    rest = "--runs energy,time --out x.json --resume --device cpu --timeout 5"
    output("profile", written(tmp_path), *lists.split(), *rest.split())
    (request,) = requests
    (target,) = request.models
    assert (target.name, target.preset) == ("tiny-moe", None)
    assert len(target.plan) == 2 * 2 * 4
    routings = ["uniform", "zipf:1.0", "zipf:0.5", "scores"]
    assert list(dict.fromkeys(each.workload.routing for each in target.plan)) == routings
    assert {each.runs for each in target.plan} == {("time", "energy")}
    assert {each.workload.dtype for each in target.plan} == {"fp32"} == {request.dtype}
    assert (request.out, request.device, request.resume) == (Path("x.json"), "cpu", True)
    assert request.timeout_s == 5


def test_a_routing_for_each_population_is_spelt_alike(requests: list[ProfileRequest]) -> None:
    text = "rows=zipf:1,scores,experts=zipf:0.50,uniform,rows=zipf:2,experts=zipf:1.00"
    output("profile", "olmoe-1b-7b", "--routing", text)
    (target,) = requests[0].models
    assert [each.workload.routing for each in target.plan] == [
        "experts=uniform,rows=zipf:1.0",
        "scores",
        "experts=zipf:0.5,rows=uniform",
        "uniform",
        "experts=zipf:1.0,rows=zipf:2.0",
    ]


def test_a_prompt(requests: list[ProfileRequest]) -> None:
    output("profile", "llama-3.1-8b", "--phase", "prefill", "--new-tokens", "512,2048")
    (target,) = requests[0].models
    shapes = [(each.workload.context, each.workload.new_tokens) for each in target.plan]
    assert shapes == [(0, 512), (0, 2048)]


def test_the_standard_plan_of_several_models(requests: list[ProfileRequest]) -> None:
    models = ("olmoe-1b-7b", "llama-3.1-8b")
    text = output("profile", *models, "--plan", "standard", "--runs", "time", "--json")
    assert json.loads(text) == {
        "recordings": [{"path": f"r/{name}.json", "measured": 2, "lacking": 1} for name in models]
    }
    for target in requests[0].models:
        assert target.plan == standard_plan(target.model, dtype="bf16", runs=("time",))


def test_the_kernels_of_another_backend(requests: list[ProfileRequest]) -> None:
    """Prefill is planned where that backend has kernels for it."""
    output("profile", "olmoe-1b-7b", "gpt-oss-20b", "--plan", "standard", "--backend", "fused")
    (request,) = requests
    assert {model.backend for model in request.models} == {"fused"}
    phases = [{case.workload.phase for case in model.plan} for model in request.models]
    assert phases == [{"decode", "prefill"}, {"decode"}]


def test_both_backends_of_a_model_have_plans_of_their_own(requests: list[ProfileRequest]) -> None:
    output("profile", "gpt-oss-20b", "--plan", "standard", "--backend", "both")
    torch, fused = requests[0].models
    assert (torch.name, torch.backend, fused.name, fused.backend) == (
        *("gpt-oss-20b", "torch"),
        *("gpt-oss-20b", "fused"),
    )
    assert torch.plan == standard_plan(torch.model, dtype="bf16")
    assert fused.plan == standard_plan(torch.model, dtype="bf16", backend="fused")
    assert len(fused.plan) == len(torch.plan) - 3  # without prompts


def test_minutes_end_before_they_are_over(
    requests: list[ProfileRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds before, for a worker that takes its time to end."""
    monkeypatch.setattr(cli, "monotonic", lambda: 1000.0)
    output("profile", "olmoe-1b-7b", "--minutes", "8")
    assert requests[0].ends_s == 1000 + 8 * 60 - 10
    output("profile", "olmoe-1b-7b")
    assert requests[1].ends_s is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("olmoe-1b-7b --minutes 0", "minutes='0': must be a whole number from 1 to 1,440"),
        (
            "olmoe-1b-7b --backend both --out a.json",
            "out='a.json': is one file; a folder is expected for 2 recordings",
        ),
        ("olmoe-1b-7b --batch 0", "batch='0': must be a whole number from 1 to 1,048,576"),
        (
            "olmoe-1b-7b --backend fused --device cpu",
            "backend=fused: needs a GPU, not device=cpu",
        ),
        (
            "llama-3.1-8b deepseek-v2-lite --backend fused --phase prefill",
            "backend=fused: DeepSeek-V2-Lite: the backend fused has no kernels for prefill by",
        ),
        (
            "olmoe-1b-7b peer-12l-1m --backend fused",
            "backend=fused: PEER-12L-768/1M experts (reconstruction): the backend fused has no",
        ),
        ("olmoe-1b-7b --batch 4,4", "batch='4,4': a value is listed twice"),
        ("olmoe-1b-7b --batch=", "batch='': is empty"),
        ("olmoe-1b-7b --context x", "context='x': must be a whole number from 0 to 134,217,728"),
        ("olmoe-1b-7b --new-tokens 2", "case: new_tokens=2: is 1 in a decode step"),
        (
            "olmoe-1b-7b --routing zipf:x",
            "routing='zipf:x': is a list of uniform, scores, zipf:EXPONENT and experts=",
        ),
        ("olmoe-1b-7b --routing zipf:1,zipf:1.0", "routing='zipf:1,zipf:1.0': a value is listed"),
        (
            "olmoe-1b-7b --routing zipf:10.5",
            "case: routing='zipf:10.5': the exponent must be a number from 0 to 10",
        ),
        (
            "olmoe-1b-7b --routing experts=scores",
            "routing='experts=scores': expected uniform or zipf",
        ),
        (
            "olmoe-1b-7b --routing layers=uniform",
            "routing='layers=uniform': 'layers=uniform' is not",
        ),
        (
            "olmoe-1b-7b --routing zipf:1,rows=zipf:1,experts=zipf:1.0",
            "routing='zipf:1,rows=zipf:1,experts=zipf:1.0': a value is listed twice",
        ),
        ("llama-3.1-8b --routing scores", "routing='scores': Llama-3.1-8B chooses neither"),
        (
            "olmoe-1b-7b --runs wall",
            "runs='wall': is a list of time, trace, counters, energy, each once",
        ),
        ("olmoe-1b-7b --runs time,time", "runs='time,time': is a list of"),
        ("olmoe-1b-7b --timeout 0", "timeout='0': must be a whole number from 1 to 86,400"),
        ("olmoe-1b-7b --plan standard --batch 4", "plan=standard: has its own batch; leave one"),
        ("olmoe-1b-7b OLMoE-1B-7B", "models='OLMoE-1B-7B': two models would be filed as olmoe"),
        ("olmoe-1b-7b llama-3.1-8b --out a.json", "out='a.json': is one file; a folder is"),
        ("olmoe-1b-7b --out file", "out='file': is neither a folder nor a .json file"),
        ("olmoe-1b-7b --out foo.txt", "out='foo.txt': is neither a folder nor a .json file"),
        ("llama-3.1-8b olmoe-1b-7b --out b.JSON", "out='b.JSON': is one file; a folder is"),
        ("olmoe-1b-7b --out there.json", "out='there.json': exists; --resume measures what it"),
        ("nothing", "model='nothing': is neither a preset nor"),
    ],
)
def test_mistakes_start_no_worker(
    arguments: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Child, "__init__", None)
    Path("file").touch()
    Path("there.json").touch()
    assert refusal("profile", *arguments.split()).startswith(message)


def profiled(*arguments: str) -> Done:
    done = run("profile", *arguments, "--batch", "1,2", "--context", "8", "--dtype", "fp32")
    assert done.code == 0, done
    return done


def test_tiny_models_on_a_cpu(tmp_path: Path) -> None:
    models = (written(tmp_path, "dense"), written(tmp_path, "moe"))
    done = profiled(*models, "--routing", "uniform,scores", "--device", "cpu")
    assert done.out == (
        "recordings/cpu-tiny-dense.json: 2 measured, 6 lacking\n"
        "recordings/cpu-tiny-moe.json: 4 measured, 12 lacking\n"
    )
    numbered = [line for line in done.err.splitlines() if line.startswith("[")]
    assert len(numbered) == 24
    assert numbered[0].startswith(
        "[1/24] tiny-dense time decode batch=1 context=8 dtype=fp32 routing=uniform: done in "
    )
    recording = load_recording(Path("recordings/cpu-tiny-moe.json"))
    assert recording.preset is None
    assert recording.sessions[0].machine.device == "cpu"
    for case in recording.cases:
        assert list(case.runs) == ["time"]
        assert case.lacking == {"trace": NO_GPU, "counters": NO_GPU, "energy": NO_GPU}
    assert "layers.1.moe.experts" in recording.paths


def test_nothing_measured_is_a_failure(tmp_path: Path) -> None:
    model = written(tmp_path)
    done = run("profile", model, "--device", "cpu", "--runs", "energy", "--context", "8")
    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines()[-1] == f"error: nothing was measured: {NO_GPU}"
    assert list(Path("recordings").iterdir()) == []


@pytest.mark.parametrize("file", ["", "h200-olmoe-1b-7b.json", "again/new.json", "new"])
def test_shipped_recordings_are_not_written_to(file: str, requests: list[ProfileRequest]) -> None:
    path = folders.SHIPPED / file
    before = sorted(folders.SHIPPED.rglob("*"))
    told = refusal("profile", "olmoe-1b-7b", "--resume", "--out", str(path))
    assert told.startswith(f"out={shown(str(path))}: lies in the folder of shipped recordings")
    Path("link").symlink_to(folders.SHIPPED)
    assert "shipped recordings" in refusal("profile", "olmoe-1b-7b", "--out", "link/mine.json")
    assert not requests
    assert sorted(folders.SHIPPED.rglob("*")) == before


def test_ones_own_folder_may_be_named(
    requests: list[ProfileRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path / "mine"))
    output("profile", "olmoe-1b-7b")
    monkeypatch.setenv(folders.VARIABLE, str(folders.SHIPPED))
    assert "shipped recordings" in refusal("profile", "olmoe-1b-7b")
    assert [request.out for request in requests] == [tmp_path / "mine"]


def test_a_model_that_cannot_be_built_is_a_mistake(tmp_path: Path) -> None:
    done = run("profile", written(tmp_path, width=36), "--context", "8", "--out", "a.json")
    assert (done.code, done.out) == (2, "")
    assert "multiple of 8" in done.err.splitlines()[-1]
    assert not Path("a.json").exists()


@pytest.mark.parametrize("name", ["v1.2", ".hidden", "runs"])
def test_a_folder_that_is_to_be_made_may_have_dots(
    name: str, requests: list[ProfileRequest]
) -> None:
    output("profile", "olmoe-1b-7b", "--out", name)
    assert requests[0].out == Path(name)


@pytest.mark.parametrize(("lost", "words"), [(1, "1 run ended"), (3, "3 runs ended")])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_runs_that_were_lost_with_their_worker_are_a_failure(
    lost: int, words: str, options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured is still told."""
    outcome = Outcome(path=Path("a.json"), measured=2, lacking=4, reason="why", lost=lost)
    monkeypatch.setattr(cli, "run_profile", lambda *_: (outcome,))
    done = run("profile", "olmoe-1b-7b", *options)
    assert done.code == 1
    assert done.err == f"error: {words} with a worker that was lost; --resume tries again\n"
    assert "a.json" in done.out


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: ProfileRequest, __: ProfileProgress) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run_profile", interrupted)
    message = "interrupted: what was measured is kept; go on with --resume\n"
    assert run("profile", "olmoe-1b-7b") == Done(code=130, out="", err=message)
