"""Arguments and options that several commands have, each with its help and its completion."""

from pathlib import Path
from typing import Annotated

import typer

from costmodel.costs.calibrations import NONE, offered_names
from costmodel.inputs.catalog import model_names
from costmodel.inputs.hardware import hardware_names
from costmodel.inputs.workload import Backend, MlaCache, WindowCache
from costmodel.layers.mesh import TableSplit


def complete_model(incomplete: str) -> list[str]:
    """The model presets whose names begin with `incomplete`, as the shell offers them."""
    return [name for name in model_names() if name.startswith(incomplete.lower())]


def complete_hardware(incomplete: str) -> list[str]:
    """The GPU presets whose names begin with `incomplete`."""
    return [name for name in hardware_names() if name.startswith(incomplete.lower())]


def complete_calibration(incomplete: str) -> list[str]:
    """The calibrations, one's own too, and `none`, whose names begin with `incomplete`."""
    names = (*offered_names(), NONE)
    return [name for name in names if name.startswith(incomplete.lower())]


ModelArg = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A preset (see: sparsecost models), a TOML file, or a Hugging Face config.json or its"
        " folder.",
        autocompletion=complete_model,
    ),
]
ModelArgs = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL",
        help="Presets, TOML files, or Hugging Face config.json files or their folders.",
        autocompletion=complete_model,
    ),
]
IgnoreKeyOpt = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KEY",
        help="A key of a config.json that is not understood and that you know to cost nothing; may"
        " be repeated.",
    ),
]
HardwareOpt = Annotated[
    str,
    typer.Option(
        metavar="GPU",
        help="A preset (see: sparsecost hardware) or a TOML file.",
        autocompletion=complete_hardware,
    ),
]
MemoryFractionOpt = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="The share of the GPU's memory that may be used, from 0.01 to 1. (Default: 1.)",
    ),
]
MemoryReserveOpt = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory that is kept free beside it, such as 4GiB: CUDA's context, fragments.",
    ),
]
CalibrationOpt = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What predicts times: a shipped calibration, one of your own (own/GPU), a JSON file,"
        " or none for roofline bounds only. (Default: the GPU's; else the H200's, transferred.)",
        autocompletion=complete_calibration,
    ),
]
DtypeOpt = Annotated[
    str | None,
    typer.Option(
        metavar="DTYPE",
        help="Weights: fp32, bf16, fp16, fp8, int8, int4, mxfp4 or nvfp4; int4:128 has a scale for"
        " each 128, fp8:128x128 one for a block. experts=mxfp4,attention=fp8 sets single groups."
        " checkpoint: as the model is shipped. (Default: as your own file says, else bf16.)",
    ),
]
KvDtypeOpt = Annotated[
    str | None,
    typer.Option(
        metavar="DTYPE",
        help="KV cache: fp8 has a scale for each token and head, fp8:tensor none; fp8_ds_mla:"
        " latents (MLA) as vLLM stores them in fp8. (Default: as the weights; bf16 if quantised.)",
    ),
]
RoutingOpt = Annotated[
    str,
    typer.Option(
        metavar="ROUTING",
        help="How evenly experts and memory rows are chosen: uniform, zipf:EXPONENT or a histogram"
        " file, or one for each: experts=uniform,rows=zipf:1.0; that of n-grams may have an"
        " exponent for each order: ngrams=zipf:1.0/0.9/0.8.",
    ),
]
MlaCacheOpt = Annotated[
    MlaCache,
    typer.Option(
        help="What latent attention (MLA) keeps of a token: its latent, or keys and values of all"
        " heads, as engines do that know no latents. The latter is predicted only."
    ),
]
WindowCacheOpt = Annotated[
    WindowCache,
    typer.Option(
        help="What layers with a sliding window keep: the window, or the whole sequence, as engines"
        " do that keep as many tokens in all layers. The latter is predicted only."
    ),
]
BackendOpt = Annotated[
    Backend,
    typer.Option(
        help="Whose kernel launches are counted: PyTorch's own, or this project's fused ones, which"
        " decode steps have."
    ),
]
PlacementOpt = Annotated[
    str | None,
    typer.Option(
        metavar="TABLE=PLACE",
        help="Where tables stand: tables=host puts all memory tables in pinned host memory, read"
        " over the link; disk puts them on a disk. memory.values=host names one by its leaf,"
        " embed=host the input embedding. (Default: tables=hbm.)",
    ),
]
HotRowsOpt = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="HBM that keeps the most popular rows of tables that stand elsewhere, such as 2GB.",
    ),
]
HostMemoryOpt = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory of the host, such as 512GB: larger tables cannot stand there. (Default: as"
        " the GPU's file says, else no limit.)",
    ),
]
GpusOpt = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="GPUs: tp x dp x pp. Sizes that are not given are chosen; auto: the fewest GPUs that"
        " fit. A sweep takes lists of all sizes. Nothing on several GPUs was measured by this"
        " project. (Default: 1.)",
    ),
]
TpOpt = Annotated[
    str | None,
    typer.Option(metavar="N", help="GPUs among which every layer is divided (tensor parallel)."),
]
EpOpt = Annotated[
    str | None,
    typer.Option(
        metavar="N",
        help="Sets into which routed experts are divided, over the tp x dp GPUs of a stage (expert"
        " parallel).",
    ),
]
PpOpt = Annotated[
    str | None,
    typer.Option(metavar="N", help="Stages of layers, one after another (pipeline parallel)."),
]
DpOpt = Annotated[
    str | None,
    typer.Option(metavar="N", help="Groups of GPUs with sequences of their own (data parallel)."),
]
SplitTablesOpt = Annotated[
    TableSplit,
    typer.Option(
        help="How the tp x dp GPUs divide a memory table: a slice of every row, or whole rows."
    ),
]
RedundantExpertsOpt = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="Copies of the most popular experts of a layer, with ep above 1."
    ),
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CsvOpt = Annotated[Path | None, typer.Option("--csv", metavar="PATH", help="Write a CSV file.")]
ForceOpt = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
MarkdownOpt = Annotated[bool, typer.Option("--markdown", help="Print Markdown.")]
