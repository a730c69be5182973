"""The target of command lines: words dropped, doubled, swapped, and put in the place of others.

A command runs in this process, in a folder of its own with a file of each kind. What would start a
server, a worker or a model stands aside. No word holds a slash: nothing is written elsewhere.
"""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NoReturn
from unittest import mock

from costmodel.errors import WorkError
from costmodel.inputs.catalog import FOLDER
from tests.commands import Done, run
from tests.fuzz.files import GPUS, calibration_files, recording_files, report_files
from tests.fuzz.relations import check_bound, check_sums
from tests.fuzz.target import Case, Target
from tests.inputs.hf.small_configs import QWEN3_MOE

MODEL, OTHER = "olmoe-227m-1.2b", "ultramemv2-227m-1.2b"
COMMANDS = (
    *(f"models {MODEL}", "models", "models --json", "hardware h200 --json", "hardware"),
    f"predict {MODEL}",
    f"predict {MODEL} --batch 4 --context 128 --json",
    f"predict {OTHER} --phase prefill --new-tokens 64 --routing zipf:1.0 --hardware b200",
    "predict deepseek-v2-lite --mla expanded --kv-dtype fp8 --dtype experts=mxfp4,attention=fp8",
    "predict gpt-oss-20b --dtype checkpoint --window-cache whole --logits all --json",
    "predict config.json --hardware gpu.toml --attention-flops full --markdown",
    "predict model.toml --calibration calibration.json --backend fused --csv out.csv --force",
    "predict odd.json --ignore-key foo --fp32-math tf32 --dtype fp32 --mla-cache expanded",
    f"explain {MODEL} time.floor_s --batch 8",
    f"explain {MODEL} ttft.predicted_s --prompt 128 --output 8 --price-per-hour 2.5",
    f"explain {OTHER} memory.retrieve --json",
    f"compare {MODEL} {OTHER} --batch 1,64 --json",
    f"compare {MODEL} config.json model.toml --markdown",
    f"sweep {MODEL} {OTHER} --batch 1,16 --context 512,4096 --routing uniform,zipf:1.0 --json",
    f"sweep {MODEL} --hardware h200,b200 --out out.parquet",
    f"sweep {MODEL} --routing experts=uniform,rows=zipf:1.0 --csv out.csv",
    f"sweep {OTHER} --set memory.knum=64,128 --set ffn.intermediate_size=64-66 --json --nested",
    f"match {MODEL} --to {OTHER} --out out.toml --context 64",
    f"match {MODEL} --to {OTHER} --vary knum,intermediate_size:8 --keep-trunk --json",
    f"request {MODEL} --prompt 128 --output 16 --batch 4 --price-per-hour 3 --json",
    "request config.json --routing histogram.json --csv out.csv",
    "validate recording.json --json",
    "validate recording.json --csv out.csv --calibration none --all",
    f"report {MODEL} --contents summary,operators --out out.md",
    f"report {MODEL} --recording recording.json --compare-batch 1,2 --out out.json",
    "report report.json --out out.csv --force",
    f"profile {MODEL} --batch 1,16 --runs time,trace --out out.json --device cpu --json",
    f"profile {MODEL} --plan standard --dtype bf16 --resume --timeout 9 --backend fused",
    f"generate {MODEL} --batch 2 --context 8 --new-tokens 2 --dtype fp32 --eager --json",
    "calibrate --out mine --hardware h200 --force",
    "dashboard --port 8700 --address localhost --headless",
)
ODD = (
    *("", " ", "0", "-1", "1.5", "1e3", "inf", "nan", "1e400", "007", "0x10", "1_000", "true"),
    *("1,,2", ",", "1,1", "2,1", "1;2", "\uff11\uff12", " 1", "1 ", "9" * 30, "9" * 5000, "2**63"),
    *("-", "--", "-h", "--help", "--version", "-x", "--json", "--csv", "--markdown", "--force"),
    *("*", "%s", "{0}", "~", ".", "..", "x" * 300, "x" * 10_000, "\0", "\udcff", "\u202egnp.toml"),
    *("\x1b[2J", "a\nb", "\ufeff", "\U0001f600", "[bold]", "=1+1", "a=b=c", "none", "None", "all"),
    *("zipf:", "zipf:nan", "zipf:1e400", "zipf:-1", "rows=uniform", "experts=", "uniform,uniform"),
    *("fp8:0", "int4:-1", "fp8:1x1", "fp99", "experts=fp8,experts=fp8", "checkpoint", "int4:128"),
    *("out.csv", "out.json", "out.toml", "out.md", "out.xlsx", "out.tar", ".csv", "none.json"),
    *("model.toml", "config.json", "gpu.toml", "histogram.json", "calibration.json", "report.json"),
    *("recording.json", "h100", "b200", "l40s", "llama-3.1-8b", "Qwen3-8B", "peer-12l-1m", "fused"),
)
WORDS = tuple(dict.fromkeys(word for line in COMMANDS for word in line.split()))
OPTIONS = tuple(word for word in WORDS if word.startswith("-"))
WORKLOADS = frozenset({"predict", "explain", "compare", "sweep", "report"})  # alike in options
NUMBERS = ("1", "2", "3", "16", "128", "1000", "4096", "1048576", "134217728", "1,2", "0")
STAND_INS = (  # what would start something
    *("profiler.cli.run_profile", "reference_model.cli._run", "profiler.calibrate.cli._gpu_name"),
    *("dashboard.cli.check_free", "dashboard.cli.warm"),
)


@cache
def inputs() -> dict[str, bytes]:
    """The files of the folder in which a command runs."""
    drawn = {"population": 16, "trials": 100, "draws": 4, "counts": [[25, 16]]}
    return {
        "config.json": json.dumps(QWEN3_MOE).encode(),
        "odd.json": json.dumps({**QWEN3_MOE, "foo": 7}).encode(),
        "model.toml": (FOLDER / f"{OTHER}.toml").read_bytes(),
        "gpu.toml": (GPUS / "h100-sxm.toml").read_bytes(),
        "histogram.json": json.dumps(
            {"schema_version": 1, "source": "by hand", "experts": drawn}
        ).encode(),
        "calibration.json": calibration_files()[0],
        "recording.json": recording_files()[1],
        "report.json": report_files()[1],
    }


@cache
def option_pairs(command: str) -> tuple[tuple[str, str], ...]:
    """Options with values that a command takes: those of its own lines, and of a workload."""
    alike = WORKLOADS if command in WORKLOADS else {command}
    own = {"--out", "--csv", "--contents", "--compare-batch", "--recording", "--prompt", "--output"}
    return tuple(
        pair
        for line in COMMANDS
        for pair in pairwise(line.split())
        if line.split()[0] in alike
        and pair[0].startswith("-")
        and not pair[1].startswith("-")
        and pair[0] not in own
    )


def damaged(words: list[str], rng: Random) -> list[str]:
    """The words of a command line after a few changes; half of the lines get mild ones alone."""
    words, mild = list(words), rng.random() < 0.5
    for _ in range(rng.choice((1, 1, 2, 3))):
        (_mildly if mild or not words else _badly)(words, rng)
    return words


def _mildly(words: list[str], rng: Random) -> None:
    """Another number in place of one, or an option more with a value that some command takes."""
    numbers = [place for place, word in enumerate(words) if word[:1].isdigit()]
    if numbers and rng.random() < 0.5:
        words[rng.choice(numbers)] = rng.choice(NUMBERS)
    elif pairs := option_pairs(words[0] if words else ""):
        words += rng.choice(pairs)


def _badly(words: list[str], rng: Random) -> None:
    at = rng.randrange(len(words))
    match rng.randrange(10):
        case 0:
            del words[at]
        case 1:
            words.insert(at, words[at])
        case 2:
            other = rng.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        case 3 | 4 | 5:
            words[at] = rng.choice(ODD)
        case 6:
            words[at] = rng.choice(WORDS)
        case 7:
            words[at] = _misspelt(words[at], rng)
        case 8:
            words[at] = f"{words[at]}={rng.choice(ODD)}"
        case 9:
            words[at:at] = [rng.choice(OPTIONS), rng.choice((*ODD, *WORDS))]


def _misspelt(word: str, rng: Random) -> str:
    at = rng.randrange(len(word) + 1)
    letter = rng.choice("abz019-_=,.: \t\n\0é\ud800'\"")
    return rng.choice((word[:at] + letter + word[at:], word[:at] + word[at + 1 :], word[:at]))


def make(rng: Random, folder: Path) -> Case:
    """A case: one of the command lines, damaged, run in a folder of its own."""
    words = damaged(rng.choice(COMMANDS).split(), rng)
    assert not any("/" in word for word in words)

    def attempt() -> bool:
        with TemporaryDirectory(dir=folder) as own, _standing_in(), _inside(Path(own)):
            for name, data in inputs().items():
                Path(name).write_bytes(data)
            done = run(*words)
            check_done(words, done)
            for name, data in inputs().items():
                assert Path(name).read_bytes() == data, f"{name} was written over"
            hidden = list(Path().glob(".*.part"))
            assert not hidden, hidden
        return done.code == 0

    return Case(text=json.dumps(words), attempt=attempt)


def check_done(words: list[str], done: Done) -> None:
    """How a command may end: an answer, a failure or a refusal, each in its own place."""
    assert done.code in {0, 1, 2}, done
    assert "Traceback" not in done.err, done.err
    assert not set(done.err) & {"\x1b", "\x07", "\r", "\x9b", "\0"}, ascii(done.err)
    if done.code:
        assert not done.out or not words, done.out  # without a word it is the help
        assert "error: " in done.err or "Error" in done.err or not words, done.err
    elif done.out.startswith(("{", "[")) and "--json" in words:
        document = json.loads(done.out, parse_constant=_no_constant)
        if isinstance(document, dict) and "operators" in document and "time" in document:
            check_bound(document)
            check_sums(document)


def _no_constant(literal: str) -> NoReturn:
    raise AssertionError(f"the JSON holds {literal}")


def _stand_in(*_: object, **__: object) -> NoReturn:
    raise WorkError("stands in for the work")


@contextmanager
def _standing_in() -> Iterator[None]:
    with ExitStack() as stack:
        for name in STAND_INS:
            stack.enter_context(mock.patch(name, _stand_in))
        yield


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


COMMAND_LINES = Target(name="command line", make=make, share=5)
