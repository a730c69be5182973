"""What the backend `fused` can run: one refusal names the field, the value and the rule.

It runs on an NVIDIA GPU of compute capability 9.0 or newer, in bf16. It decodes (one new token a
sequence) models of grouped-query attention, or latent attention in its absorbed form, with gated
feed-forward layers, experts and memory layers; and it runs whole prompts, where attention has
neither latents nor windows nor sinks.
"""

import torch

from costmodel.backends.fused_support import refusal
from costmodel.costs.operators import build_operators
from costmodel.inputs.model import ModelConfig
from costmodel.inputs.workload import Mla, Workload

OLDEST = (9, 0)  # compute capability: tensor descriptors and programmatic dependent launch


def model_refusal(config: ModelConfig, *, new: int = 1, mla: Mla = "absorbed") -> str | None:
    """Why there are no kernels for a model's steps of so many new tokens; None if there are."""
    workload = Workload(mla=mla)
    if new > 1:
        workload = Workload(phase="prefill", context=0, new_tokens=new, mla=mla)
    step = workload.step()
    return refusal(build_operators(config, step), step)


def device_refusal(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why kernels cannot run on a device in a format; None if they can."""
    if device.type != "cuda":
        return f"needs a GPU: device=cuda, not {device.type}"
    if dtype != torch.bfloat16:
        return f"runs bf16, not {str(dtype).removeprefix('torch.')}"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST:
        have, least = (".".join(map(str, version)) for version in (capability, OLDEST))
        return f"needs compute capability {least} or newer; this GPU has {have}"
    return None
