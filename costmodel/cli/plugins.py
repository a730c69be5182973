"""The commands of the other rooms, found by entry point, so that the core imports none of them.

A room declares `name = "module:function"` under `sparsecost.commands` in `pyproject.toml`. Its
module is imported when help lists the commands or the command is called, never for another command.
"""

from importlib.metadata import entry_points
from typing import Any

import typer
import typer.main
from typer.core import TyperGroup

ENTRY_POINTS = "sparsecost.commands"


class Rooms(TyperGroup):
    """The core's own commands, and after them those of the rooms that are installed."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer's own Context
        """Every command: the core's, then the rooms'."""
        self._open()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - typer's own Command
        """The core's command of this name, or a room's."""
        if cmd_name not in self.commands:
            self._open()
        return super().get_command(ctx, cmd_name)

    def _open(self) -> None:
        for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
            if entry.name not in self.commands:
                room = typer.Typer(add_completion=False)
                room.command(entry.name)(entry.load())
                self.add_command(typer.main.get_command(room), entry.name)
