"""The decode step of transformers' OLMoE of the same size, beside ours: as a graph, and compiled.

Random weights, the same context and batches, a static cache, attention by PyTorch's SDPA and
experts by its grouped product. `compiled` is torch.compile of the whole model with its default
settings, captured as a graph like the rest.
"""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.timing import Timer

CONTEXT = 2048
BATCHES = (1, 4, 16, 64, 256)
Result = dict[str, Any]


def olmoe(layers: int = 16) -> Any:  # noqa: ANN401 - transformers is not installed where types are checked
    """OlmoeForCausalLM of OLMoE-1B-7B's sizes on the GPU, in bf16."""
    from transformers import OlmoeConfig, OlmoeForCausalLM

    config = OlmoeConfig(
        vocab_size=50304,
        hidden_size=2048,
        intermediate_size=1024,
        num_hidden_layers=layers,
        num_attention_heads=16,
        num_key_value_heads=16,
        num_experts=64,
        num_experts_per_tok=8,
    )
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = OlmoeForCausalLM._from_config(  # noqa: SLF001 - the way to random weights
            config, attn_implementation="sdpa", experts_implementation="grouped_mm"
        ).eval()
    torch.set_default_dtype(torch.float32)
    return model


def step_of(model: Any, forward: Any, batch: int) -> Callable[[], object]:  # noqa: ANN401
    """One decode step at position CONTEXT; the cache holds zeros."""
    from transformers import StaticCache

    cache = StaticCache(config=model.config, max_cache_len=CONTEXT + 8)
    ids = torch.randint(0, model.config.vocab_size, (batch, 1), device="cuda")
    position = torch.tensor([CONTEXT], device="cuda")

    def run() -> None:
        forward(
            input_ids=ids,
            past_key_values=cache,
            cache_position=position,
            position_ids=position[None],
            use_cache=True,
        )

    return run


@torch.no_grad()
def measured(timer: Timer) -> Result:
    """Microseconds of a step by batch, as a graph and compiled as a graph."""
    import transformers

    results: Result = {"transformers": transformers.__version__}
    model = olmoe()
    compiled = torch.compile(model)
    for batch in BATCHES:
        for name, forward in (("graph", model), ("compiled", compiled)):
            try:
                step = step_of(model, forward, batch)
                for _ in range(3):
                    step()
                us: Any = timer.step_us(step, replays=9)
            except Exception as error:  # noqa: BLE001 - a failure is this case's result
                us = {"error": f"{type(error).__name__}: {error}"[:400]}
            results[f"{name}, batch {batch}"] = us
            torch.cuda.empty_cache()
    return results
