"""Commands of the other packages, found by entry point, so that `costmodel` imports none of them.

A package declares `name = "module:function"` under `sparsecost.commands` in `pyproject.toml`. The
module is imported when help lists the commands or this command is called, never for another one.
"""

from importlib.metadata import entry_points
from typing import Any

import typer
import typer.main
from typer.core import TyperGroup

ENTRY_POINTS = "sparsecost.commands"


class PluginGroup(TyperGroup):
    """The commands of `costmodel`, followed by those that installed packages declare."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer's own Context
        """The names of all commands: those of `costmodel` first."""
        self._add_plugins()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 - typer's own Command
        """The command of this name, wherever it is declared; None if there is none."""
        if cmd_name not in self.commands:
            self._add_plugins()
        return super().get_command(ctx, cmd_name)

    def _add_plugins(self) -> None:
        for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
            if entry.name not in self.commands:
                plugin = typer.Typer(add_completion=False)
                plugin.command(entry.name)(entry.load())
                self.add_command(typer.main.get_command(plugin), entry.name)
