"""Text that a user types, as checked values: counts, lists of counts, a routing, a workload.

A command line and a form give the same text and get the same values, or an `InputError` that names
the field, the value and the rule. Storage formats are parsed in `costmodel/layers/dtype.py`.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from pydantic import ValidationError

from costmodel.errors import InputError, shown
from costmodel.inputs.histogram import read_histogram
from costmodel.inputs.typed_names import did_you_mean
from costmodel.inputs.workload import (
    CHECKPOINT,
    DEFAULT_NEW_TOKENS,
    MAX_BATCH,
    MAX_CONTEXT,
    AttentionFlops,
    Backend,
    Fp32Math,
    Logits,
    Mla,
    MlaCache,
    OfCheckpoint,
    Phase,
    WindowCache,
    Workload,
)
from costmodel.layers.dtype import default_kv_dtype, parse_kv_dtype
from costmodel.layers.formats import ONE_BF16, parse_formats
from costmodel.layers.mesh import AskedMesh, Mesh
from costmodel.layers.placement import IN_HBM, Placement, parse_placement
from costmodel.routing.by_population import NGRAMS, POPULATIONS, ByPopulation
from costmodel.routing.expectation import MAX_NGRAMS
from costmodel.routing.ngrams import MAX_ORDER, OrderLaw, ZipfByOrder
from costmodel.routing.popularity import NgramLaw, Routing, Uniform, Zipf
from costmodel.strict import explained

MAX_LIST = 4096  # values of one list
MAX_CHOICES = 12  # that a message lists
MAX_EXPONENT = 10.0  # of Zipf's law; measured popularities lie below 2
NAMED = (*POPULATIONS, NGRAMS)  # the populations that a routing may name
MAX_SIZE = 10**18  # bytes
PREFIXES = " KMGTP"  # by powers; none: a space
SIZE = re.compile(r"(\d+\.?\d*|\.\d+) ?([KMGTP]?)(i?)B", re.ASCII | re.IGNORECASE)
WHOLE = re.compile(r"\d+(_\d+)*", re.ASCII)  # as Python reads one
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def parse_count(text: str, *, field: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`; spaces around it and `_` between digits are allowed."""
    typed = text.strip()
    digits = typed.replace("_", "") if WHOLE.fullmatch(typed) else ""
    if digits and len(digits) <= len(str(high)):
        value = int(digits)
        if low <= value <= high:
            return value
    raise InputError(f"{field}={shown(text)}: must be a whole number from {low:,} to {high:,}")


def parse_number(text: str, *, field: str, low: float, high: float) -> float:
    """A decimal number from `low` to `high`, such as 3, 0.5 or 1e-3; never infinite or NaN."""
    if DECIMAL.fullmatch(text):
        value = float(text) + 0.0  # -0 becomes 0
        if low <= value <= high:
            return value
    raise InputError(f"{field}={shown(text)}: must be a number from {low:g} to {high:g}")


def parse_size(text: str, *, field: str) -> int:
    """Bytes: a decimal number with a unit, such as 2GB, 1.5TB (of 1000) or 512GiB (of 1024)."""
    match = SIZE.fullmatch(text.strip())
    if match is not None:
        number, prefix, binary = match.groups()
        base: int = 1024 if binary else 1000
        size = float(number) * float(base ** PREFIXES.index(prefix.upper() or " "))
        if 1 <= size <= MAX_SIZE:
            return round(size)
    raise InputError(
        f"{field}={shown(text)}: must be a size from 1B to {MAX_SIZE // 10**12:,}TB, such as 2GB"
        " (of 1000) or 512GiB (of 1024)"
    )


def parse_placed(
    placement: str | None, *, hot_rows: str | None = None, host_memory: str | None = None
) -> Placement:
    """Where tables stand, of the three texts that say so; None: not given."""
    return parse_placement(
        IN_HBM.label if placement is None else placement,
        hot_rows_bytes=0 if hot_rows is None else parse_size(hot_rows, field="hot_rows"),
        host_memory_bytes=None
        if host_memory is None
        else parse_size(host_memory, field="host_memory"),
    )


def parse_choice(text: str, *, field: str, options: Sequence[str]) -> str:
    """One of the options, spelt as it is there."""
    if text in options:
        return text
    if len(options) > MAX_CHOICES:
        meant = did_you_mean(text, options)
        raise InputError(f"{field}={shown(text)}: is none of {len(options):,} choices{meant}")
    known = ", ".join(map(str, options)) or "nothing, since there is no choice"
    raise InputError(f"{field}={shown(text)}: is not one of {known}")


def parse_counts(text: str, *, field: str, low: int, high: int) -> tuple[int, ...]:
    """Different whole numbers from `low` to `high`: a list of numbers and ranges, in its order.

    `64-256/64` is the range from 64 to at most 256 in steps of 64, `1-64` one in steps of 1.

    Raises:
        InputError: An item is neither, a number stands twice, or there are over `MAX_LIST`.
    """
    items = text.split(",")
    count = len(items)  # of the values at least
    if count <= MAX_LIST:
        ranges = [parse_span(item, field=field, low=low, high=high) for item in items]
        count = sum(map(len, ranges))
    if count > MAX_LIST:
        raise InputError(f"{field}: holds {count:,} values; at most {MAX_LIST:,} are taken")
    values = [value for span in ranges for value in span]
    if len(set(values)) != count:
        raise InputError(f"{field}={shown(text)}: a value is listed twice")
    return tuple(values)


def parse_span(text: str, *, field: str, low: int, high: int) -> range:
    """One whole number, or `from-to/step`: the numbers of a range, its first always among them."""
    span, slash, step = text.partition("/")
    first, dash, last = span.partition("-")
    try:
        start = parse_count(first, field=field, low=low, high=high)
        end = parse_count(last, field=field, low=low, high=high) if dash else start
        every = parse_count(step, field=field, low=1, high=high) if slash else 1
    except InputError:
        start, end, every = 0, -1, 0
    if every and end < start:
        raise InputError(f"{field}={shown(text)}: ends below its beginning")
    if not every or (slash and not dash):
        raise InputError(
            f"{field}={shown(text)}: must be a whole number from {low:,} to {high:,}, or"
            " from-to/step of such (64-256/64)"
        )
    return range(start, end + 1, every)


def parse_batches(text: str) -> tuple[int, ...]:
    """A list of batch sizes, in sequences."""
    return parse_counts(text, field="batch", low=1, high=MAX_BATCH)


def parse_contexts(text: str) -> tuple[int, ...]:
    """A list of context lengths, in cached tokens per sequence."""
    return parse_counts(text, field="context", low=0, high=MAX_CONTEXT)


def parse_routing(text: str, *, files: bool = True) -> Routing:
    """The routing that a text names, of all populations alike or of each.

    A law is `uniform`, `zipf:EXPONENT` or the path of a histogram file.
    `experts=LAW,rows=LAW,ngrams=LAW` names one for each population: of experts and rows that are
    not named it is uniform, of n-grams that of the rows. That of n-grams may have an exponent for
    each order, with or without the number of different n-grams: `zipf:1.0/0.9/0.8@1000000`.

    Args:
        text: What was typed.
        files: Whether a law may be a file; not so where the text comes from elsewhere.
    """
    if "=" not in text or (files and _exists(text)):
        return _parse_law(text, of=text, files=files)
    laws: dict[str, str] = {}
    for item in text.split(","):
        population, equals, law = item.partition("=")
        if not equals or population not in NAMED:
            raise InputError(
                f"routing={shown(text)}: {shown(item)} is not POPULATION=LAW;"
                f" populations are {', '.join(POPULATIONS)} and {NGRAMS}"
            )
        if population in laws:
            raise InputError(f"routing={shown(text)}: names {population} twice")
        laws[population] = law
    experts, rows = (
        _parse_law(laws[kind], of=f"{kind}={laws[kind]}", files=files)
        if kind in laws
        else Uniform()
        for kind in POPULATIONS
    )
    ngrams = _parse_ngrams(laws[NGRAMS], files=files) if NGRAMS in laws else rows
    if experts == rows == ngrams:
        return experts
    return ByPopulation(experts=experts, rows=rows, ngrams=None if ngrams == rows else ngrams)


def split_routings(text: str) -> tuple[str, ...]:
    """The texts of several routings, separated by commas.

    Neighbours that name different populations are one routing: `zipf:1,experts=zipf:1,rows=uniform`
    holds two.
    """
    routings: list[str] = []
    named: set[str] = set()  # the populations of the last routing
    for item in text.split(","):
        population = item.partition("=")[0]
        if population not in NAMED or "=" not in item:
            named = set()
            routings.append(item)
        elif not named or population in named:
            named = {population}
            routings.append(item)
        else:
            named.add(population)
            routings[-1] += f",{item}"
    return tuple(routings)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # a name too long for the file system, or with a null byte
        return False


def _parse_ngrams(text: str, *, files: bool) -> NgramLaw:
    """The law of n-grams: one for all orders, or `zipf:` with an exponent for each."""
    of = f"{NGRAMS}={text}"
    law, _, exponents = text.partition(":")
    if law != "zipf" or not {"/", "@"} & set(exponents) or (files and _exists(text)):
        return _parse_law(text, of=of, files=files)
    items = exponents.split("/")
    if len(items) > MAX_ORDER:
        raise InputError(f"routing={shown(of)}: has {len(items)} orders; at most {MAX_ORDER}")
    return ZipfByOrder(tuple(_parse_order(item, order, of) for order, item in enumerate(items, 1)))


def _parse_order(text: str, order: int, of: str) -> OrderLaw:
    """`EXPONENT`, or `EXPONENT@NGRAMS` from order 2 on: at order 1 the ids are counted."""
    exponent, at, ngrams = text.partition("@")
    law = _parse_zipf(of, exponent)
    if not at:
        return OrderLaw(law)
    if order == 1:
        raise InputError(
            f"routing={shown(of)}: at order 1 the token ids are the rows; @ stands from order 2 on"
        )
    try:
        return OrderLaw(law, parse_count(ngrams, field="", low=1, high=MAX_NGRAMS))
    except InputError:
        raise InputError(
            f"routing={shown(of)}: after @ stands a whole number of n-grams from 1 to"
            f" {MAX_NGRAMS:,}"
        ) from None


def _parse_law(text: str, *, of: str, files: bool) -> Routing:
    """The law of a population; `of` is the text of which it is part, for messages."""
    if text == "uniform":
        return Uniform()
    law, colon, exponent = text.partition(":")
    if colon and law == "zipf":
        return _parse_zipf(of, exponent)
    if files and text and _exists(text):
        return read_histogram(Path(text))
    file = " or a histogram file" if files else ""
    laws = "uniform, zipf:EXPONENT" if files else "uniform or zipf:EXPONENT"
    raise InputError(
        f"routing={shown(of)}: expected {laws}{file}, alike or as experts=LAW,rows=LAW,ngrams=LAW"
    )


def _parse_zipf(text: str, exponent: str) -> Zipf:
    try:
        return Zipf(parse_number(exponent, field="exponent", low=0, high=MAX_EXPONENT))
    except InputError:
        raise InputError(
            f"routing={shown(text)}: the exponent must be a number from 0 to {MAX_EXPONENT:g}"
        ) from None


class Conventions(TypedDict, total=False):
    """The other fields of a workload; each defaults as there."""

    attention_flops: AttentionFlops
    logits: Logits
    fp32_math: Fp32Math
    mla: Mla | None
    mla_cache: MlaCache
    window_cache: WindowCache
    backend: Backend
    placement: Placement
    mesh: Mesh | AskedMesh


def parse_workload(
    *,
    phase: Phase,
    batch: int,
    context: int,
    new_tokens: int | None = None,
    dtype: str | None,
    kv_dtype: str | None,
    routing: Routing,
    **conventions: Unpack[Conventions],
) -> Workload:
    """The workload of what a command line or a form gives: the one place that makes it.

    Args:
        phase: decode or prefill.
        batch: Sequences.
        context: Cached tokens per sequence.
        new_tokens: New tokens per sequence; None: the phase's default.
        dtype: The storage formats of the weights as text, such as `int4:128`, `experts=mxfp4` or
            `checkpoint`; None: those of a user's file that states them, else bf16.
        kv_dtype: That of the KV cache, or a layout of it; None: the checkpoint's where its formats
            are taken and it states one, else the weights' default format, or bf16 if that is
            quantised.
        routing: The popularity of experts and table rows.
        conventions: The other fields of `Workload`.

    Raises:
        InputError: A value breaks a rule.
    """
    cache = None if kv_dtype is None else parse_kv_dtype(kv_dtype, field="kv_dtype")
    weights, of_checkpoint = ONE_BF16, None
    if dtype is None or dtype == CHECKPOINT:
        of_checkpoint = OfCheckpoint(required=dtype is not None, kv_dtype=cache)
    else:
        weights = parse_formats(dtype, field="dtype")
    try:
        return Workload(
            phase=phase,
            batch=batch,
            context=context,
            new_tokens=DEFAULT_NEW_TOKENS[phase] if new_tokens is None else new_tokens,
            formats=weights,
            kv_dtype=cache or default_kv_dtype(weights.default),
            of_checkpoint=of_checkpoint,
            routing=routing,
            **conventions,
        )
    except ValidationError as error:
        raise InputError(explained(error)) from None
