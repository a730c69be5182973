"""In a terminal of 80 columns no table and no message passes the edge."""

import io
import shlex

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.commands import run

pytestmark = pytest.mark.slow

COLUMNS = 80
COMMANDS = [
    "models",
    "models ultramemv2-1b-7b",
    "hardware",
    "hardware h200",
    "predict ultramemv2-227m-1.2b --batch 64",
    "predict deepseek-v3 --phase prefill --dtype checkpoint --gpus 8 --batch 16",
    "compare olmoe-1b-7b ultramemv2-1b-7b deepseek-v3 --batch 1,64",
    "compare olmoe-1b-7b ultramemv2-1b-7b --gpus 2",
    "explain olmoe-1b-7b moe.experts --batch 64",
    "explain olmoe-1b-7b time.predicted_s",
    "sweep olmoe-1b-7b ultramemv2-1b-7b --batch 1,64 --hardware h200,b200",
    "sweep ultramemv2-1b-7b --set memory.knum=256,512 --set memory.share_ratio=0.25,0.5",
    "request deepseek-v3 --batch 16 --price-per-hour 3",
    "request olmoe-1b-7b --target-tpot 20",
    "match olmoe-227m-1.2b --to ultramemv2-227m-1.2b",
    "reproduce",
    "reproduce --claims",
    "validate h200-memory-plus-227m-1.2b",
    "predict no-such-model",
    "predict olmoe-1b-7b --batch x",
    "sweep ultramemv2-1b-7b --set memory.knums=256",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_passes_the_edge(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(
        "costmodel.show.text.Console",
        lambda **_: Console(
            file=terminal, force_terminal=True, width=COLUMNS, no_color=True, markup=False
        ),
    )
    run(*shlex.split(command))
    lines = [
        line.replace("\x1b[1m", "").replace("\x1b[0m", "")
        for line in terminal.getvalue().splitlines()
    ]
    assert lines
    assert [line for line in lines if cell_len(line.rstrip()) > COLUMNS] == []
