"""The reference of `docs/command_reference.md`: commands, arguments and options, from the code."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import typer.main

from costmodel.cli.app import app
from docs.markdown import markdown

Entry = tuple[str, str]  # an option as it is typed, and its help
SHARED = 2  # commands that have an option alike: it then stands in the list of common ones
TYPE = re.compile(r"<(str|list\[\w+\]|int range)>")  # Python's, which tells a user nothing
EXAMPLE = re.compile(r"\s*Example: (.*)", re.DOTALL)


@cache
def commands() -> dict[str, tuple[str, str, list[Entry]]]:
    """Of each command by name: its usage, its help, and its parameters."""
    group: Any = typer.main.get_command(app)
    whole = group.make_context("sparsecost", [], resilient_parsing=True)
    found = {}
    for name in sorted(group.list_commands(whole)):
        command = group.get_command(whole, name)
        own = command.make_context(name, [], parent=whole, resilient_parsing=True)
        usage = " ".join(("sparsecost", name, *command.collect_usage_pieces(own)))
        text = "\n\n".join(part for part in (command.help, command.epilog) if part)
        records = [parameter.get_help_record(own) for parameter in command.params]
        found[name] = usage, text, [entry for entry in records if entry]
    return found


def command_reference() -> str:
    """A section for each command; options that are alike in several stand at the end."""
    common = _common()
    parts = []
    for name, (usage, text, entries) in commands().items():
        example = EXAMPLE.search(text)
        about = " ".join(EXAMPLE.sub("", text).split())
        own = [entry for entry in entries if entry not in common]
        shared = [entry[0].split()[0] for entry in entries if entry in common]
        lines = [f"### {name}", "", about, "", "```text", usage, "```", ""]
        if own:
            lines += [markdown(("argument, option", "meaning"), _rows(own), text=2)]
        if shared:
            links = ", ".join(f"`{typed}`" for typed in shared)
            lines += [f"And of the [common options](#common-options): {links}.", ""]
        if example is not None:
            lines += ["```text", " ".join(example[1].split()), "```", ""]
        parts.append("\n".join(lines))
    rows = [
        (*row, ", ".join(names)) for row, names in zip(_rows(common), common.values(), strict=True)
    ]
    table = markdown(("option", "meaning", "commands"), rows, text=3)
    return "\n".join((*parts, "### Common options\n", table))


def _common() -> dict[Entry, list[str]]:
    """What several commands take alike, with their names; most of them first."""
    users: dict[Entry, list[str]] = {}
    for name, (_, _, entries) in commands().items():
        for entry in entries:
            users.setdefault(entry, []).append(name)
    common = {entry: names for entry, names in users.items() if len(names) >= SHARED}
    return dict(sorted(common.items(), key=lambda item: item[0]))


def _rows(entries: Iterable[Entry]) -> list[Entry]:
    return [(f"`{_cell(typed)}`", _cell(text)) for typed, text in entries]


def _cell(text: str) -> str:
    """Text of a cell of a table, on one line."""
    return " ".join(TYPE.sub("", text).replace("|", "\\|").split())


TABLES: dict[str, Callable[[], str]] = {"command_reference": command_reference}
