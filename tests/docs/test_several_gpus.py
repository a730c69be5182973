"""The page of several GPUs: every kind of layer has its line, and no kind says nothing."""

from costmodel.layers.base import FfnKind, MemoryKind, MixerKind
from docs.several_gpus import EXCHANGING, TABLES, mesh_exchanges
from docs.write import ROOT

PAGE = (ROOT / "docs" / "several_gpus.md").read_text(encoding="utf-8")


def test_every_kind_says_what_is_divided() -> None:
    kinds = [
        kind
        for base in (MixerKind, FfnKind, MemoryKind)
        for kind in base.__subclasses__()
        if kind.__module__.startswith("costmodel.layers")
    ]
    for kind in kinds:
        assert f"| `{kind.kind}` | " in PAGE, kind
        assert f"| `{kind.kind}` |  |" not in PAGE, kind


def test_every_block_stands_on_the_page() -> None:
    assert all(f"<!-- {name}:begin -->" in PAGE for name in TABLES)


def test_examples_of_exchanges_are_those_of_the_hand_worked_cases() -> None:
    """An all-reduce of 64 tokens of 8,192 in bf16 is 1.049 MB, 7 / 8 of it twice a GPU sends."""
    assert EXCHANGING[0][0] == "llama-3.1-70b"
    (line,) = (line for line in mesh_exchanges().splitlines() if "ffn.all_reduce` | 80" in line)
    assert "| 1.049 MB | 1.835 MB |" in line
