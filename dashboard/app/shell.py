"""The sidebar that all pages share: model, workload and GPU. Its values live in the address.

A page asks `current_selection()` for what was chosen. Where a value breaks a rule, the page shows
only the message that names the value and the rule.
"""

from collections.abc import Callable
from typing import cast, get_args

import streamlit as st

from costmodel.errors import InputError
from costmodel.inputs.catalog import model_names
from costmodel.inputs.hardware import hardware_names, load_hardware
from costmodel.inputs.parse import MAX_EXPONENT
from costmodel.inputs.workload import (
    CHECKPOINT,
    DEFAULT_CONTEXT,
    DEFAULT_NEW_TOKENS,
    MAX_BATCH,
    MAX_CONTEXT,
    MAX_NEW_TOKENS,
    AttentionFlops,
    Backend,
    Logits,
    Mla,
    MlaCache,
    Phase,
    WindowCache,
)
from costmodel.layers.dtype import DTYPES, KV_LAYOUTS
from costmodel.layers.placement import PLACES, Place
from costmodel.routing.popularity import UNIFORM_OVERSTATES
from dashboard.app.address import drop, linked, number, one_of, unbound, whole
from dashboard.app.memory_controls import memory_controls
from dashboard.app.mesh_controls import mesh_controls
from dashboard.app.own_gpu import GPU_PARAM, GPU_TEXT, gpu_form
from dashboard.app.own_model import MAX_LINK_CHARS, packed, unpacked
from dashboard.app.selection import (
    OWN,
    Chosen,
    Selection,
    gpu_of,
    has_storage,
    has_tables,
    selected,
)
from dashboard.app.widgets import plain

OWN_TEXT = "own_text"  # where a session keeps the text of the user's own model
OWN_PARAM = "own"  # where a link keeps it
STATE = "_selection"  # where a session keeps the checked selection, or the reason why there is none
TOO_LONG = (
    "Your own {what} is too long for a link: compressed it has more than"
    f" {MAX_LINK_CHARS:,} characters. The address does not carry it, and a copied link opens"
    " without it."
)
DEFAULT_MODEL, DEFAULT_GPU = "ultramemv2-1b-7b", "h200"
PHASES: tuple[Phase, ...] = get_args(Phase)
BACKENDS: tuple[Backend, ...] = get_args(Backend)
ATTENTION_FLOPS: tuple[AttentionFlops, ...] = get_args(AttentionFlops)
LOGITS: tuple[Logits, ...] = get_args(Logits)
MLA: tuple[Mla, ...] = get_args(Mla)
MLA_CACHES: tuple[MlaCache, ...] = get_args(MlaCache)
WINDOW_CACHES: tuple[WindowCache, ...] = get_args(WindowCache)
USUAL = "usual"
EACH = "each its own"  # a routing of experts, and one of rows
LAWS = ("uniform", "zipf", EACH)
FORMATS = [*DTYPES, "fp8:128x128"]
KV_FORMATS = [*DTYPES, "fp8:tensor", *KV_LAYOUTS]


def current_selection(on_refusal: Callable[[], None] | None = None) -> Selection:
    """The sidebar's selection; where it breaks a rule, the page ends here with the reason.

    `on_refusal` draws, below the reason, what helps the user to correct the values.
    """
    selection = st.session_state.get(STATE)
    if not isinstance(selection, Selection):
        refused("The sidebar's choice cannot be costed", str(selection))
        if on_refusal is not None:
            on_refusal()
        st.stop()
    return selection


def refused(title: str, reason: str) -> None:
    """Draw a page that has no answer: a heading, and the reason below it."""
    st.title(plain(title))
    st.error(plain(reason), icon=":material/error:")


def sidebar() -> None:
    """Draw the controls and keep their values for `current_selection`."""
    with st.sidebar:
        chosen = _controls(
            _own_text(OWN_TEXT, OWN_PARAM, "model"), _own_text(GPU_TEXT, GPU_PARAM, "GPU")
        )
    try:
        st.session_state[STATE] = selected(chosen)
    except InputError as error:
        st.session_state[STATE] = str(error)


def _own_text(key: str, param: str, what: str) -> str:
    """The text of the user's own model or GPU: of this session, or else of the link opened."""
    link = unbound(param)
    if key not in st.session_state and link is not None:
        try:
            st.session_state[key] = unpacked(link, field=param)
        except InputError as error:
            drop(param, str(error))
    text = st.session_state.get(key, "")
    if not isinstance(text, str) or not text:
        return ""
    link = packed(text)  # a change of page drops what no widget is bound to
    if link is None:
        st.warning(TOO_LONG.format(what=what))
    elif st.query_params.get(param) != link:
        st.query_params[param] = link
    return text


def _controls(own: str, own_gpu: str) -> Chosen:
    names = [*model_names(), *([OWN] if own else [])]
    model = st.selectbox(
        "Model",
        names,
        index=names.index(OWN if own else DEFAULT_MODEL),
        **linked("model", one_of(names), instead=OWN if own else DEFAULT_MODEL),
        help="A preset, or a model of your own from the Explore page.",
    )
    phase = st.segmented_control(
        "Phase",
        PHASES,
        default="decode",
        required=True,
        **linked("phase", one_of(PHASES), instead="decode"),
        help="Decode: one new token per sequence. Prefill: a whole prompt at once.",
        on_change=_other_phase,
    )
    batch = _count("Batch, sequences", "batch", low=1, high=MAX_BATCH, default=64)
    context = _count(
        "Context, cached tokens a sequence",
        "context",
        low=0,
        high=MAX_CONTEXT,
        default=DEFAULT_CONTEXT[phase],
    )
    new_tokens = 1
    if phase == "prefill":
        new_tokens = _count(
            "New tokens a sequence",
            "new_tokens",
            low=1,
            high=MAX_NEW_TOKENS,
            default=DEFAULT_NEW_TOKENS["prefill"],
        )
    tables: Place = _tables() if has_tables(str(model), own) else "hbm"
    gpus = [*hardware_names(), *([OWN] if own_gpu else [])]
    hardware = st.selectbox(
        "GPU",
        gpus,
        index=gpus.index(OWN if own_gpu else DEFAULT_GPU),
        **linked("gpu", one_of(gpus), instead=OWN if own_gpu else DEFAULT_GPU),
        help="A preset, or a GPU of your own from the form below.",
    )
    _gpu_form(str(hardware), own_gpu)
    mesh = mesh_controls(has_tables=has_tables(str(model), own))
    fraction, reserve = memory_controls()
    with st.expander("Formats, routing, conventions", key="conventions"):
        formats = [USUAL, *FORMATS, *([CHECKPOINT] if has_storage(str(model), own) else [])]
        dtype = st.selectbox(
            "Weights",
            formats,
            **linked("dtype", one_of(formats), instead=USUAL),
            help="Usual: as your own model's file states it, else bf16. Checkpoint: as the model"
            " is shipped, where that is known to differ.",
        )
        kv_dtype = st.selectbox(
            "KV cache",
            [USUAL, *KV_FORMATS],
            **linked("kv_dtype", one_of([USUAL, *KV_FORMATS]), instead=USUAL),
            help="Usual: the format of the weights, or bf16 where they are quantised. fp8 has a"
            " scale for each token and head, fp8:tensor has none. fp8_ds_mla: latents (MLA) as vLLM"
            " stores them in fp8.",
        )
        routing = _routing()
        backend = st.segmented_control(
            "Kernels",
            BACKENDS,
            default="torch",
            required=True,
            **linked("backend", one_of(BACKENDS), instead="torch"),
            help="Whose launches are counted: PyTorch's own kernels, or this project's fused ones"
            " for decode steps. Times are predicted of PyTorch's.",
        )
        attention = st.segmented_control(
            "Attention FLOPs",
            ATTENTION_FLOPS,
            default="causal",
            required=True,
            **linked("attention", one_of(ATTENTION_FLOPS), instead="causal"),
        )
        logits = st.segmented_control(
            "Logits",
            LOGITS,
            default="last",
            required=True,
            **linked("logits", one_of(LOGITS), instead="last"),
        )
        mla = st.segmented_control(
            "Latent attention",
            [USUAL, *MLA],
            default=USUAL,
            required=True,
            **linked("mla", one_of([USUAL, *MLA]), instead=USUAL),
        )
        mla_cache = st.segmented_control(
            "Cache of latent attention",
            MLA_CACHES,
            default="latent",
            required=True,
            **linked("mla_cache", one_of(MLA_CACHES), instead="latent"),
            help="What MLA keeps of a token: its latent, or keys and values of all heads.",
        )
        window_cache = st.segmented_control(
            "Cache of sliding windows",
            WINDOW_CACHES,
            default="window",
            required=True,
            **linked("window_cache", one_of(WINDOW_CACHES), instead="window"),
            help="What layers with a window keep: the window, or the whole sequence.",
        )
    return Chosen(
        model=str(model),
        own=own,
        phase=phase,
        batch=batch,
        context=context,
        new_tokens=new_tokens,
        dtype=None if dtype == USUAL else str(dtype),
        kv_dtype=None if kv_dtype == USUAL else str(kv_dtype),
        routing=routing,
        hardware=str(hardware),
        backend=backend,
        attention_flops=attention,
        logits=logits,
        mla=None if mla == USUAL else cast("Mla", mla),
        mla_cache=mla_cache,
        window_cache=window_cache,
        tables=tables,
        gpus=mesh,
        memory_fraction=fraction,
        memory_reserve_gib=reserve,
        own_gpu=own_gpu,
    )


def _gpu_form(name: str, own: str) -> None:
    """The form of a GPU of the user's own; it begins with the chosen one, if that is valid."""
    try:
        basis = gpu_of(name, own)
    except InputError:  # of a link; `selected` says what is wrong with it
        basis, own = load_hardware(DEFAULT_GPU), ""
    gpu_form(basis, own if name == OWN else "", entry=OWN, preset=DEFAULT_GPU)


def _tables() -> Place:
    """Where the memory tables of the chosen model stand."""
    place: Place = st.segmented_control(
        "Tables",
        PLACES,
        default="hbm",
        required=True,
        **linked("tables", one_of(PLACES), instead="hbm"),
        help="Where the memory tables stand: in the GPU's memory, in host memory, from which rows"
        " cross the link, or on a disk, which only a GPU's file of your own can state.",
    )
    return place


def _routing() -> str:
    """The routing of experts and rows alike, or one law for each."""
    law = st.segmented_control(
        "Routing",
        LAWS,
        default="uniform",
        required=True,
        **linked("routing", one_of(LAWS), instead="uniform"),
        help="How often each expert or memory row is chosen: all alike, or by Zipf's law, of which"
        f" exponent 0 is uniform. {UNIFORM_OVERSTATES}",
    )
    if law == "zipf":
        return f"zipf:{_exponent('Zipf exponent', 'exponent', 1.0)}"
    if law == EACH:
        experts = _exponent("Zipf exponent of experts", "exponent_experts", 0.0)
        rows = _exponent("Zipf exponent of rows", "exponent_rows", 1.0)
        return ",".join(
            f"{population}={f'zipf:{exponent}' if exponent else 'uniform'}"
            for population, exponent in (("experts", experts), ("rows", rows))
        )
    return "uniform"


def _exponent(label: str, key: str, default: float) -> float:
    return float(
        st.number_input(
            label,
            min_value=0.0,
            max_value=MAX_EXPONENT,
            value=default,
            step=0.1,
            **linked(key, number(0, MAX_EXPONENT), instead=default),
        )
    )


def _other_phase() -> None:
    """Set the usual context of the newly chosen phase, unless the user set another one."""
    phase: Phase = st.session_state["phase"]
    before: Phase = "prefill" if phase == "decode" else "decode"
    if st.session_state["context"] == DEFAULT_CONTEXT[before]:
        st.session_state["context"] = DEFAULT_CONTEXT[phase]


def _count(label: str, key: str, *, low: int, high: int, default: int) -> int:
    return int(
        st.number_input(
            label,
            min_value=low,
            max_value=high,
            value=default,
            step=1,
            **linked(key, whole(low, high), instead=default),
        )
    )
