"""Which modules a list of a quantization_config names, by the rules of the tool that wrote it.

- `paths` (transformers, AutoAWQ, vLLM): an entry is a module's path or some whole steps of it, and
  names what lies within, too: `gate` is `mlp.gate` but not `mlp.gate_proj`, `layers.1` and
  `layers.1*` are layer 1 and not 10 to 19. A `*` before the end is any text. An entry that begins
  with `re:`, or holds characters of a regular expression, is one, and ends where a step ends.
  (Loaders have matched such lists as substrings or by unanchored expressions, by which `mlp.gate`
  also hit `mlp.gate_proj`; the weights were written as the list says.)
- `globs` (NVIDIA's ModelOpt): an entry with `*` or `?` is a glob over the whole path, in which `*`
  also spans dots: `layers.1*` covers 10 to 19, and is written only where that is so. Other entries
  are as in `paths`.
- `names` (compressed-tensors): an entry is the whole name of a module or, after `re:`, an
  expression that the beginning of a name matches.

The entry `Linear` is the class of all projections, the LM head among them.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, Literal, TypeAlias

from costmodel.inputs.hf.quantization.automaton import Automaton, Piece
from costmodel.inputs.hf.quantization.modules import FRONTS, Module, without_front
from costmodel.inputs.hf.quantization.patterns import glob, regex

Style: TypeAlias = Literal["paths", "globs", "names"]

LINEAR_CLASS: Final = "Linear"
_EXPERT: Final = re.compile(r"experts\\*\.(\d{1,6})(?!\d)")
_IN_REGEX: Final = re.compile(r"[\\\[\](){}+^$|]")
_IN_GLOB: Final = re.compile(r"[*?]")


class ModuleList:
    """The entries of one list, asked for modules."""

    def __init__(self, entries: Sequence[str], *, style: Style, field: str) -> None:
        """Read the entries.

        Args:
            entries: As the file has them.
            style: Whose rules they follow.
            field: What messages call the list.

        Raises:
            InputError: A pattern cannot be read.
        """
        self._style = style
        self._literal: set[str] = set()
        self._patterns = Automaton(field)
        self._answers: dict[str, bool] = {}  # names known already
        self._linear = False  # whether the class of all linear layers is in the list
        for entry in entries:
            if entry == LINEAR_CLASS:
                self._linear = True
            elif style == "names":
                self._add_name(entry, field)
            else:
                self._add_path(entry, field, globs=style == "globs")

    def names(self, module: Module) -> bool:
        """Whether the list names the module, by any of its spellings."""
        if self._linear and module.kind in ("linear", "expert", "lm_head"):
            return True
        return any(self._answer(name) for name in module.names)

    def _answer(self, name: str) -> bool:
        if name not in self._answers:
            self._answers[name] = self._has(name)
        return self._answers[name]

    def _add_name(self, entry: str, field: str) -> None:
        if entry.startswith("re:"):
            self._patterns.add(regex(entry[3:], field=field))
        else:
            self._literal.add(without_front(entry))

    def _add_path(self, entry: str, field: str, *, globs: bool) -> None:
        if entry.startswith("re:") or (not globs and _IN_REGEX.search(entry)):
            self._patterns.add(_until_step(regex(entry.removeprefix("re:"), field=field)))
            return
        path = entry if globs else entry.rstrip("*.") or entry
        if not _IN_GLOB.search(path):
            self._literal.add(without_front(path))
            return
        for start in ("",) if globs else ("", "*."):
            self._patterns.add(glob(f"{start}{path}", field=field))
            self._patterns.add(glob(f"{start}{path}.*", field=field))

    def _has(self, name: str) -> bool:
        if self._style == "names":
            if name in self._literal:
                return True
        elif any(path in self._literal for path in _steps_within(name)):
            return True
        return any(self._patterns.match(front + name) for front in FRONTS)


def looked_at(entries: Sequence[str], num_experts: int) -> set[int]:
    """The experts that stand for all of a layer, given every entry of a file's lists.

    One, where no entry speaks of experts; else the first, the middle and the last one, and each
    that an entry names by its index.
    """
    about = [entry for entry in entries if "experts" in entry]
    if not about:
        return {0}
    indices = {int(index) for entry in about for index in _EXPERT.findall(entry)}
    return {0, num_experts // 2, num_experts - 1} | {i for i in indices if i < num_experts}


def _steps_within(name: str) -> Iterator[str]:
    """Each run of whole steps of a path."""
    steps = name.split(".")
    for first in range(len(steps)):
        for last in range(first + 1, len(steps) + 1):
            yield ".".join(steps[first:last])


def _until_step(piece: Piece) -> Piece:
    """A pattern that matches only up to the end of a step of a path."""

    def build(automaton: Automaton, then: int) -> int:
        dot = automaton.on(frozenset("."), then)
        return piece(automaton, automaton.fork(dot, automaton.border(then, start=False)))

    return build
