"""The command line as people, scripts and shells use it."""

import csv
import html
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import version
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from costmodel.cli import main as cli
from costmodel.cli import predict
from costmodel.cli.app import app
from costmodel.cli.options import complete_hardware, complete_model
from costmodel.inputs.catalog import FOLDER, model_names
from costmodel.inputs.hardware import hardware_names
from tests.commands import SPARSECOST, output, refusal, run

SMALL = "olmoe-227m-1.2b"
PAIR = f"{SMALL} ultramemv2-227m-1.2b"
LIMIT_S = 300  # of a wait, on the slowest machine
TABLES = {
    "models": "models",
    "models NAME": f"models {SMALL}",
    "hardware": "hardware",
    "hardware NAME": "hardware h200",
    "predict": f"predict {SMALL}",
    "predict prefill": "predict gpt-oss-20b --phase prefill --batch 7 --context 100000",
    "predict MLA": "predict deepseek-v3 --batch 1048576 --context 134217728",
    "compare": f"compare {PAIR}",
    "compare 8": f"compare {' '.join(model_names()[:8])} --batch 1,1048576",
    "sweep": f"sweep {PAIR} --batch 1,1048576 --context 0,134217728 --routing uniform,zipf:1.0",
    "reproduce": "reproduce",
    "reproduce public": "reproduce --public",
}
every_table = pytest.mark.parametrize("command", TABLES.values(), ids=TABLES)
ROOT = Path(__file__).parents[2]
COMMANDS = {c.callback.__name__: c for c in app.registered_commands if c.callback}


def out(command: str) -> str:
    return output(*shlex.split(command))


def data(command: str) -> Any:  # noqa: ANN401 - any JSON
    return json.loads(out(f"{command} --json"))


def program(*arguments: str, stdout: int = subprocess.PIPE, **env: str) -> subprocess.Popen[bytes]:
    """The installed command, in an environment where Python buffers its output as for a user."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | env
    command = [str(SPARSECOST), *arguments]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, env=env)


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


def plain(markdown: str) -> str:
    return html.unescape(re.sub(r"\\([\\|`*_\[\]])", r"\1", markdown))


@every_table
def test_the_terminal_says_what_markdown_says_and_folds_no_line(command: str) -> None:
    shown = [cells(line) for line in out(command).splitlines()]
    rows = 0
    page = out(f"{command} --markdown").splitlines()
    for above, line in pairwise(["", *page]):
        if line.startswith("| ") and above.startswith(("| ", "|-")):
            row = [plain(cell).strip() for cell in re.split(r"(?<!\\) \| ", line[2:-2])]
            assert [cell for cell in row if cell] in shown
            rows += 1
        elif line and not line.startswith("|"):
            assert cells(plain(line.removeprefix("### "))) in shown
    assert rows


def test_the_commands() -> None:
    assert set(COMMANDS) >= {"models", "hardware", "predict", "compare", "sweep", "reproduce"}
    text = out("--help")
    assert all(f" {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_each_help_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = COMMANDS[name]
    assert command.epilog is not None
    example = command.epilog.removeprefix("Example: sparsecost ")
    assert example.split()[0] == name
    text = out(f"{name} --help")
    assert " ".join(command.epilog.split()) in " ".join(text.split())
    for option in re.findall(r"--[a-z-]+", example):
        assert option in text
    before = set(tmp_path.iterdir())
    printed = out(example)
    written = [file for file in tmp_path.iterdir() if file not in before]
    assert printed or written
    expected = {"sweep": ["sweep.csv"]}
    assert [file.name for file in written] == expected.get(name, [])


def test_version_and_no_command() -> None:
    assert out("--version") == f"{version('sparsecost')}\n"
    assert "Usage: sparsecost" in run().out + run().err


@pytest.mark.parametrize("command", ["models", "hardware", "reproduce", f"models {SMALL}"])
def test_json_is_one_value_and_nothing_else(command: str) -> None:
    document = data(command)
    assert document
    assert out(f"{command} --json") == json.dumps(document, indent=2) + "\n"


def test_lists_name_every_preset() -> None:
    assert [row["preset"] for row in data("models")] == list(model_names())
    assert [row["preset"] for row in data("hardware")] == list(hardware_names())
    assert data(f"models {SMALL}") in data("models")
    assert data("hardware h200") in data("hardware")


def records(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (f"predict {SMALL} --batch 3", "operators"),
        (f"compare {PAIR} --batch 1,1000000", "rows"),
        (f"sweep {PAIR} --batch 1,7 --context 0,9", "rows"),
    ],
)
def test_csv_holds_the_numbers_of_the_json(command: str, key: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert out(f"{command} --csv {path}") == ""
    rows, expected = records(path), data(command)[key]
    assert len(rows) == len(expected)
    for row, record in zip(rows, expected, strict=True):
        assert row.pop("ignored_keys") == ""  # which the JSON holds among the notes of a model
        own = {name for name in row if not name.startswith("all_layers_")}
        assert own <= set(record)
        told = {name: "" if record[name] is None else str(record[name]) for name in own}
        assert {name: row[name] for name in own} == told
    assert {"floor_s", "time.floor_s"} & set(rows[0])


def test_csv_has_operators_of_one_layer_and_of_all(tmp_path: Path) -> None:
    command = f"predict {SMALL} --batch 3"
    assert out(f"{command} --csv {tmp_path / 'a.csv'}") == ""
    rows, found = records(tmp_path / "a.csv"), data(command)
    assert {row["numbers_of"] for row in rows} == {"one layer"}
    assert any(int(row["count"]) > 1 for row in rows)
    for total, name in (
        (found["flops"]["total"], "flops"),
        (found["hbm_bytes"]["compulsory"], "compulsory_bytes"),
        (found["hbm_bytes"]["activations"], "activation_bytes"),
        (found["hbm_bytes"]["read"], "hbm_read_bytes"),
    ):
        assert sum(float(row[f"all_layers_{name}"]) for row in rows) == pytest.approx(total)
        for row in rows:
            all_layers = int(row["count"]) * float(row[name])
            assert float(row[f"all_layers_{name}"]) == pytest.approx(all_layers)
    assert not any(name in rows[0] for name in ("all_layers_count", "all_layers_path"))


def test_a_sweep_goes_into_each_kind_of_file(tmp_path: Path) -> None:
    command = f"sweep {PAIR} --batch 1,64 --context 0,4096 --hardware h200,b200"
    rows = data(command)["rows"]
    assert len(rows) == 16
    for suffix in ("csv", "json", "parquet"):
        assert out(f"{command} --out {tmp_path}/a.{suffix}") == ""
    noted = [{**row, "ignored_keys": ""} for row in rows]
    assert json.loads((tmp_path / "a.json").read_text())["rows"] == noted
    assert [int(row["batch"]) for row in records(tmp_path / "a.csv")] == [r["batch"] for r in rows]
    assert (tmp_path / "a.parquet").read_bytes().startswith(b"PAR1")


@pytest.mark.parametrize(
    "options",
    [
        *map(" ".join, combinations(("--json", "--markdown", "--csv a.csv"), 2)),
        *("--json --out a.csv", "--markdown --out a.json", "--out a.csv --csv b.csv"),
        "--json --markdown --csv a.csv",
    ],
)
def test_outputs_exclude_one_another(
    options: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = ["sweep"] if "--out" in options else ["predict", "sweep", "compare"]
    for command in commands:
        names = PAIR if command == "compare" else SMALL
        message = refusal(command, *names.split(), *options.split())
        assert "exclude one another" in message
        assert list(tmp_path.iterdir()) == []


def test_a_comparison_marks_what_does_not_fit() -> None:
    command = f"compare {PAIR} --batch 1,1000,1170,1171,1172,1173,5000"
    document, lines = data(command), out(command).splitlines()
    assert [row["batch"] for row in document["rows"][::2]] == document["workload"]["batch"]
    starts = [cells(line) for line in lines]
    for first, second in zip(document["rows"][::2], document["rows"][1::2], strict=True):
        marks = ["" if row["fits"] else " *" for row in (first, second)]
        at = next(i for i, c in enumerate(starts) if c[:1] == [f"{first['batch']:,}"])
        assert starts[at][1] == first["model"] + marks[0]
        assert starts[at + 1][0] == second["model"] + marks[1]
        assert all(row["fits"] == (row["batch"] <= row["max_batch"]) for row in (first, second))
    assert {row["fits"] for row in document["rows"]} == {True, False}
    kept = [cells for cells in starts if len(cells) == 8 and cells[1].endswith(" B")]
    for row, line in zip(document["rows"][:2], kept, strict=True):
        assert (line[0], line[-1]) == (row["model"], f"{row['max_batch']:,}")
    assert set(document["findings"]) <= set(lines)
    assert any(line.startswith("* does not fit the ") for line in lines)
    assert not any(line.startswith("*") for line in out(f"compare {PAIR} --batch 1").splitlines())


def test_presets_are_completed() -> None:
    assert complete_model("ultramem") == [n for n in model_names() if n.startswith("ultramem")]
    assert complete_model("OLMOE-1") == ["olmoe-1b-7b"]
    assert complete_model("") == list(model_names())
    assert complete_hardware("h1") == ["h100-pcie", "h100-sxm"]
    assert complete_hardware("x") == complete_model("../") == []


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("sparsecost predict olmoe-1", {"olmoe-1b-7b"}),
        ("sparsecost compare olmoe-1b-7b llama-3.1-7", {"llama-3.1-70b"}),
        ("sparsecost predict olmoe-1b-7b --hardware mi", {"mi250", "mi300x"}),
        ("sparsecost hardware b", {"b200", "b300"}),
        ("sparsecost predict olmoe-1b-7b --phase pre", {"prefill"}),
        ("sparsecost com", {"compare"}),
    ],
)
def test_the_shell_completes(
    typed: str, offered: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_SPARSECOST_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert set(run().out.split()) == offered


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["--version", "hardware h200 --json", "models", "hardware --markdown", f"predict {SMALL}"],
)
def test_a_reader_that_goes_away_is_no_error(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    running = program(*command.split(), stdout=writing)
    os.close(writing)
    assert running.communicate()[1] == b""
    assert running.returncode == 1


@pytest.mark.slow
def test_a_full_disk_is_told_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        for command in ("hardware --json", "models"):
            running = program(*command.split(), stdout=full.fileno())
            told = b"error: stdout: cannot be written: No space left on device\n"
            assert running.communicate()[1] == told
            assert running.returncode == 1


def test_a_closed_or_full_stdout_inside_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sparsecost", "hardware", "h200", "--json"])
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert sys.stdout.name == os.devnull
    sys.stdout.close()
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 1


@pytest.mark.slow
def test_text_beyond_ascii_does_not_stop_an_ascii_terminal(tmp_path: Path) -> None:
    text = (FOLDER / f"{SMALL}.toml").read_text().replace("OLMoE", "ÖLMoE")
    (tmp_path / "a.toml").write_text(text)
    for options in (["--markdown"], ["--json"], []):
        running = program("models", f"{tmp_path}/a.toml", *options, PYTHONIOENCODING="ascii")
        told, error = running.communicate()
        assert (running.returncode, error) == (0, b"")
        assert b"LMoE-227M" in told


def writing(process: int, folder: Path) -> bool:
    """Whether a process has opened a file in a folder."""
    with suppress(FileNotFoundError):  # a descriptor that was closed meanwhile
        opened = [each.readlink() for each in Path(f"/proc/{process}/fd").iterdir()]
        return any(folder in path.parents for path in opened)
    return False


@pytest.mark.slow
def test_an_interrupt_leaves_neither_a_traceback_nor_half_a_file(tmp_path: Path) -> None:
    batches, contexts = (",".join(map(str, range(1, n))) for n in (4000, 300))
    options = ("--batch", batches, "--context", contexts, "--out", f"{tmp_path}/a.csv")
    running = program("sweep", SMALL, *options)
    until = time.monotonic() + LIMIT_S
    while not writing(running.pid, tmp_path) and time.monotonic() < until:
        time.sleep(0.01)
    assert list(tmp_path.iterdir()) == []  # what is written has no name yet
    running.send_signal(signal.SIGINT)
    told, error = running.communicate(timeout=LIMIT_S)
    assert (running.returncode, told) == (130, b"")
    assert b"Traceback" not in error
    assert list(tmp_path.iterdir()) == []


INTERRUPTED_EARLY = """
import os, signal, sys

class Interrupting:  # finds no module, but presses Ctrl-C when the library of the options is wanted
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from costmodel.cli.main import main
main()
"""


@pytest.mark.slow
def test_an_interrupt_while_the_commands_are_imported_prints_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_EARLY, "models"], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.slow
def test_an_interrupt_that_is_ignored_stays_ignored() -> None:
    """As in a job that the shell has sent to the background."""
    program = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{INTERRUPTED_EARLY}"
    done = subprocess.run(
        [sys.executable, "-c", program, "hardware"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"h200" in done.stdout


def test_the_start_of_the_program_imports_little() -> None:
    program = "import sys, costmodel.cli.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not {"typer", "pydantic", "numpy"} & set(done.stdout.split())


def test_an_interrupt_at_any_time_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "typed_models", interrupted)
    done = run("predict", SMALL)
    assert (done.code, done.out) == (130, "")
    assert "Traceback" not in done.err
