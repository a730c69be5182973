"""Steps to cost, and ways to look into operators: what the tests of layers share."""

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from costmodel.inputs.model import ModelConfig
from costmodel.layers.attention import Attention
from costmodel.layers.base import LayerKind
from costmodel.layers.dtype import parse_kv_dtype
from costmodel.layers.ffn import DenseFfn
from costmodel.layers.formats import parse_formats
from costmodel.layers.numbers import Number
from costmodel.layers.operator import Operator, OperatorKind, Part, Step
from costmodel.layers.site import Site
from costmodel.routing.popularity import Routing, Uniform


def make_step(
    *,
    batch: int = 1,
    new_tokens: int = 1,
    cached: int = 0,
    dtype: str = "bf16",
    kv_dtype: str = "bf16",
    routing: Routing | None = None,
    attention_flops: Literal["causal", "full"] = "causal",
    logits: Literal["last", "all"] = "last",
    mla: Literal["absorbed", "expanded"] = "absorbed",
    mla_cache: Literal["latent", "expanded"] = "latent",
    window_cache: Literal["window", "whole"] = "window",
) -> Step:
    return Step(
        batch=batch,
        new_tokens=new_tokens,
        cached=cached,
        tokens=batch * new_tokens,
        formats=parse_formats(dtype, field="dtype"),
        kv_dtype=parse_kv_dtype(kv_dtype, field="kv_dtype"),
        routing=routing or Uniform(),
        attention_flops=attention_flops,
        logits=logits,
        mla=mla,
        mla_cache=mla_cache,
        window_cache=window_cache,
        activation_bytes=4 if dtype == "fp32" else 2,
    )


def changed(step: Step, **fields: Any) -> Step:  # noqa: ANN401 - any field of a step
    """The step with other fields; its tokens follow."""
    new = dataclasses.replace(step, **fields)
    return dataclasses.replace(new, tokens=new.batch * new.new_tokens)


def one_layer(kind: LayerKind, step: Step, *, hidden_size: int) -> dict[str, Operator]:
    """The operators of layer 0, by leaf: `attention.core`."""
    found = kind.operators(Site.of((0,), hidden_size), step)
    by_leaf = {op.path.removeprefix("layers.0."): op for op in found}
    assert len(by_leaf) == len(found)
    return by_leaf


def parts(operator: Operator) -> dict[str, Part]:
    by_name = {part.name: part for part in operator.parts}
    assert len(by_name) == len(operator.parts)
    return by_name


def flops(operator: Operator) -> dict[str, tuple[OperatorKind, Number]]:
    """Kind and FLOPs of each part that has any."""
    return {part.name: (part.kind, part.flops) for part in operator.parts if part.flops}


def quantity(operator: Operator, name: str) -> dict[str, Any]:
    """One quantity of each part that has any of it."""
    return {part.name: getattr(part, name) for part in operator.parts if getattr(part, name)}


def weights(operator: Operator) -> dict[str, tuple[str, int, int]]:
    """Group, rows and columns of each parameter tensor."""
    by_name: dict[str, tuple[str, int, int]] = {
        w.name: (w.group, w.rows, w.cols) for w in operator.weights
    }
    assert len(by_name) == len(operator.weights)
    return by_name


def total(operators: Iterable[Operator], name: str) -> Any:  # noqa: ANN401 - a sum of any quantity
    return sum(op.count * op.total(name) for op in operators)


TINY_ATTENTION = Attention(num_attention_heads=2, num_key_value_heads=1, head_dim=4)
TINY_FFN = DenseFfn(intermediate_size=12)


def tiny_model(**fields: Any) -> ModelConfig:  # noqa: ANN401 - any field of a model
    """Three layers of D = 8, unless told otherwise."""
    given: dict[str, Any] = {
        "name": "tiny",
        "source": "a test",
        "hidden_size": 8,
        "vocab_size": 11,
        "num_hidden_layers": 3,
        "attention": TINY_ATTENTION,
        "ffn": TINY_FFN,
    }
    return ModelConfig(**(given | fields))
