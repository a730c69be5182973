"""What a quantisation does to the modules of a model: rules, and modules that are left alone."""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import ConfigDict, Field, TypeAdapter

from costmodel.inputs.hf.fields import NAMES_OR_NULL, Fields
from costmodel.inputs.hf.quantization.module_lists import ModuleList, Style
from costmodel.inputs.hf.quantization.modules import Module, ModuleKind
from costmodel.layers.dtype import Dtype

_STRICT: Final = ConfigDict(strict=True)
BITS: Final[TypeAdapter[int]] = TypeAdapter(Annotated[int, Field(ge=2, le=8)], config=_STRICT)
GROUP: Final[TypeAdapter[int]] = TypeAdapter(  # -1: a whole row
    Annotated[int, Field(ge=-1, le=2**16)], config=_STRICT
)
KERNELS: Final = frozenset({"backend", "fuse_max_seq_len", "quant_method", "version"})
"""Keys of all methods that do not change what is stored."""

PROJECTIONS: Final[frozenset[ModuleKind]] = frozenset({"linear", "expert"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A format, and the modules that have it; None: as the checkpoint's unquantised ones."""

    dtype: Dtype | None
    modules: ModuleList | None = None  # None: all of the scheme's kinds


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """How one `quantization_config` stores the weights and the KV cache."""

    method: str  # for people
    rules: tuple[Rule, ...]  # the first that applies to a module holds
    kept: tuple[ModuleList, ...] = ()  # lists of modules that are left alone
    kinds: frozenset[ModuleKind] = PROJECTIONS  # of modules that a rule without a list is about
    entries: tuple[str, ...] = ()  # of all lists, as the file has them
    kv_dtype: Dtype | None = None
    experts: Dtype | None = None  # of experts that no list leaves alone, whatever the rules say
    notes: tuple[str, ...] = ()

    def dtype_of(self, module: Module) -> Dtype | None:
        """The format of a module; None: it is left alone."""
        if any(kept.names(module) for kept in self.kept):
            return None
        if module.kind == "expert" and self.experts is not None:
            return self.experts
        for rule in self.rules:
            if module.kind in self.kinds if rule.modules is None else rule.modules.names(module):
                return rule.dtype
        return None


def names_at(fields: Fields, *keys: str) -> list[str]:
    """The names of modules that a file lists at any of `keys`."""
    return [name for key in keys for name in fields.optional(key, NAMES_OR_NULL, None) or []]


def module_list(fields: Fields, key: str, entries: list[str], style: Style) -> ModuleList:
    """The list of a key of the file."""
    return ModuleList(entries, style=style, field=f"{fields.where}: {fields.prefix}{key}")


def one_format(
    fields: Fields,
    method: str,
    dtype: Dtype,
    kept: list[str],
    *,
    key: str = "modules_to_not_convert",
    notes: tuple[str, ...] = (),
) -> Scheme:
    """All projections in one format, but for the modules that the file lists at `key`."""
    return Scheme(
        method=method,
        rules=(Rule(dtype=dtype),),
        kept=(module_list(fields, key, kept, "paths"),),
        entries=tuple(kept),
        notes=notes,
    )
