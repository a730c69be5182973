"""A longer context never takes less time, everything else equal: all presets, and a small model.

Layers with chunks are the exception: at the start of a chunk they read none of the tokens before
it. Of their models, contexts within the first chunk are compared. So it is with chosen blocks, of
which the newest is read as far as it is filled: contexts at the end of a block are compared.
"""

from pathlib import Path

import numpy as np
import pytest

from costmodel.costs.calibrations import calibrated
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Workload
from costmodel.questions.sweep import sweep
from costmodel.routing.popularity import Uniform
from tests.strategies import PRESETS

SMALL = Path(__file__).parents[1] / "data" / "hf" / "qwen2.5-0.5b.json"  # fell by 2.9 % once
MODELS = PRESETS | {"qwen2.5-0.5b": load_model(str(SMALL))}
BATCHES = (1, 2, 3, 4, 8, 16, 32, 64, 256)
NEW = 512  # tokens of a prefill
CONTEXTS = tuple(sorted({int(128 * 2 ** (i / 4)) for i in range(41)}))  # 128 to 131,072
TIMES = ("time.floor_s", "time.predicted_s", "time.predicted_graph_s", "time.predicted_eager_s")


def contexts_of(model: ModelConfig) -> tuple[int, ...]:
    chunks = [getattr(mixer, "attention_chunk_size", None) for mixer, _ in model.attention_groups]
    most = min((chunk for chunk in chunks if chunk), default=CONTEXTS[-1] + NEW)
    sizes = ("index_block_size", "index_compress_ratio", "compress_ratio")
    blocks = [getattr(mixer, size, 1) or 1 for mixer, _ in model.attention_groups for size in sizes]
    block = max(blocks)
    whole = dict.fromkeys(context // block * block for context in CONTEXTS)
    return tuple(context for context in whole if context + NEW <= most)


@pytest.mark.parametrize("workload", [Workload(), Workload(phase="prefill", new_tokens=NEW)])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_longer_context_never_takes_less_time(model: ModelConfig, workload: Workload) -> None:
    assert CONTEXTS[0] == 128
    assert CONTEXTS[-1] == 2**17
    contexts = contexts_of(model)
    grid = sweep(
        model,
        workload,
        batches=BATCHES,
        contexts=contexts,
        routings=[Uniform()],
        hardwares=[load_hardware("h200")],
        calibrations=[calibrated("h200")],
    )
    columns = grid.table()
    for name in TIMES:
        times = columns[name].reshape(len(BATCHES), len(contexts)).astype(float)
        assert np.all(times[:, 1:] >= times[:, :-1] * (1 - 1e-12)), name
