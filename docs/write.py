"""Write every generated part of README.md and docs/ anew: `python -m docs.write`.

Three parts of a page are generated; the rest is written by hand.

- A block between `<!-- NAME:begin -->` and `<!-- NAME:end -->`: a table of `docs.tables`,
  `docs.claims`, `docs.collectives`, `docs.command_reference`, `docs.fused_steps`,
  `docs.held_out`, `docs.host_tables`, `docs.mechanisms`, `docs.ngram_rows`, `docs.pair_summary`,
  `docs.pair_tables`, `docs.pair_words`, `docs.public_tables`, `docs.recorded_runs`,
  `docs.several_gpus` or `docs.three_ways`, or what a command of `COMMANDS` prints.
- A value in a sentence, between `<!--=NAME-->` and `<!--/-->`.
- A `console` block whose first line is its only command: what that command prints. A block of
  several commands lists them without output.

The picture of the README is drawn too, and the rows of held-out steps and of the worst predictions
are written. Tests compare all of it with the committed pages.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from docs.claims import TABLES as CLAIMS
from docs.claims import claims_values
from docs.collectives import TABLES as COLLECTIVES
from docs.collectives import collective_values
from docs.command_reference import TABLES as COMMAND_REFERENCE
from docs.commands import printed
from docs.fused_steps import TABLES as FUSED_TABLES
from docs.fused_steps import fused_values
from docs.held_out import TABLES as HELD_OUT
from docs.held_out_steps import main as write_held_out_steps
from docs.host_tables import TABLES as HOST_TABLES
from docs.measured_values import measured_values
from docs.mechanisms import TABLES as MECHANISMS
from docs.ngram_rows import TABLES as NGRAM_TABLES
from docs.ngram_rows import ngram_values
from docs.pair_summary import TABLES as PAIR_SUMMARY
from docs.pair_summary import fused_speeds
from docs.pair_tables import TABLES as PAIR_TABLES
from docs.pair_words import TABLES as PAIR_WORDS
from docs.picture import FILE as PICTURE
from docs.picture import picture
from docs.predicted_values import predicted_values
from docs.public_tables import TABLES as PUBLIC_TABLES
from docs.public_tables import public_values
from docs.recorded_runs import TABLES as RECORDED_RUNS
from docs.recorded_runs import overlap_values
from docs.several_gpus import TABLES as MESHES
from docs.several_gpus import mesh_values
from docs.tables import TABLES
from docs.three_ways import TABLES as THREE_WAYS_TABLES
from docs.three_ways import three_ways_values
from docs.worst_predictions import main as write_worst_predictions

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"(?ms)^(<!-- (\w+):begin -->\n)(.*?)^(<!-- \2:end -->)$")
VALUE = re.compile(r"(?s)<!--=(\w+)-->(.*?)<!--/-->")
CONSOLE = re.compile(r"(?ms)^```console\n(.*?)^```$")
COMMANDS = {"published": "sparsecost reproduce --markdown"}


@cache
def values() -> Mapping[str, str]:
    """Every number that a sentence may hold, by name."""
    return (
        measured_values()
        | predicted_values()
        | fused_values()
        | fused_speeds()
        | overlap_values()
        | ngram_values()
        | public_values()
        | three_ways_values()
        | collective_values()
        | mesh_values()
        | claims_values()
    )


def current(text: str) -> str:
    """The page with its generated parts as the code makes them now."""
    text = BLOCK.sub(lambda match: f"{match[1]}{_block(match[2])}{match[4]}", text)
    text = VALUE.sub(lambda match: f"<!--={match[1]}-->{_value(*match.groups())}<!--/-->", text)
    return CONSOLE.sub(_console, text)


def commands(block: str) -> list[str]:
    """The commands of a console block, without the prompt."""
    return [line[2:] for line in block.splitlines() if line.startswith("$ ")]


def _block(name: str) -> str:
    if name in COMMANDS:
        return printed(COMMANDS[name])
    tables = TABLES | FUSED_TABLES | HOST_TABLES | MECHANISMS | NGRAM_TABLES | PAIR_TABLES
    tables |= PAIR_SUMMARY | PUBLIC_TABLES | THREE_WAYS_TABLES | COLLECTIVES | MESHES | CLAIMS
    tables |= COMMAND_REFERENCE | HELD_OUT | PAIR_WORDS | RECORDED_RUNS
    return tables[name]()


def _value(name: str, old: str) -> str:
    """The value; as it stands where only its line breaks differ, since sentences are wrapped."""
    new = values()[name]
    return old if old.split() == new.split() else new


def _console(match: re.Match[str]) -> str:
    listed = commands(match[1])
    if len(listed) != 1:
        return match[0]
    return f"```console\n$ {listed[0]}\n{printed(listed[0])}```"


def main() -> None:
    """Write all pages, the picture, the held-out steps and the worst predictions."""
    write_held_out_steps()
    write_worst_predictions()
    PICTURE.write_text(picture(), encoding="utf-8")
    for page in PAGES:
        page.write_text(current(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
