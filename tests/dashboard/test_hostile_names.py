"""A name from outside stays text on every page, wherever Streamlit reads Markdown."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from costmodel.inputs.catalog import load_model
from costmodel.recordings import folders
from dashboard.app.entry import PAGES
from dashboard.app.own_model import model_text, packed
from dashboard.app.pins import PINNED, PREFIX
from dashboard.app.widgets import WORD_JOINER, plain
from dashboard.pages.profile import data as profiling
from tests.dashboard.pages import page_at
from tests.recording_values import case, leaf_paths, recording, run, written

# No mark of Markdown stands before these, so that an escape within would show itself.
NAME = (
    "http://evil.eu www.evil.eu a@evil.eu :material/home: :rocket: $x$ :red[x] **b** [l](http://e.eu)"
    " `cc` <b> ~~g~~"
)
LIVE = (
    "http://e", "www.evil", "a@evil", ":material/home", ":rocket", " $x", ":red[", " **b", " [l",
    "](", " `cc", " <b", " ~~g",
)  # fmt: skip
READ_AS_MARKDOWN = {  # by kind of message; of every other kind its label and its help
    "Alert": ("body",),
    "Heading": ("body", "help"),
    "Markdown": ("body", "help"),
    "Metric": ("label", "help", "delta"),
    "Progress": ("text",),
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://a.b", f"http\\:{WORD_JOINER}//a.b"),
        ("see HTTPS://a.b", f"see HTTPS\\:{WORD_JOINER}//a.b"),
        ("www.a.b", f"www{WORD_JOINER}.a.b"),
        ("a@b.c", f"a@{WORD_JOINER}b.c"),
        (":rocket:", f"\\:{WORD_JOINER}rocket\\:"),
        (":material/home:", f"\\:{WORD_JOINER}material/home\\:"),
        ("1. first", "1\\. first"),
        ("- first", "\\- first"),
        ("=====", "\\====="),
        ("zipf:1.0 at 3.5 ms, @ 2", "zipf\\:1.0 at 3.5 ms, @ 2"),  # copies as it is
    ],
)
def test_plain_text_is_cut_where_it_would_come_to_life(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.slow
@pytest.mark.parametrize("view", [name for name, *_ in PAGES])
def test_no_page_brings_a_name_to_life(
    view: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(load_model("ultramemv2-227m-1.2b"), name=NAME, source=NAME, notes=(NAME,))
    monkeypatch.setattr(folders, "SHIPPED", tmp_path)
    monkeypatch.setenv(folders.VARIABLE, str(tmp_path / "none"))
    monkeypatch.setattr(profiling, "has_torch", lambda: True)
    made = recording(model, case(time=run({"graph_s": NAME})), paths=leaf_paths(model))
    written(made, tmp_path, "a.json")
    link = packed(model_text(model))
    assert link is not None
    at = page_at(view)
    at.session_state[PINNED] = {f"{PREFIX}{NAME}": model_text(model)}
    at.query_params.update(own=link, model="your own", ex_own="true", ex_all="true", ex_how="true")
    at.query_params.update(NAME=NAME, batch=NAME, cmp_models=[f"{PREFIX}{NAME}", "olmoe-1b-7b"])
    at.run()
    assert not at.exception
    texts = list(markdown_of(at._tree))
    assert any("evil" in text for _, text in texts)
    alive = {(where, mark, text) for where, text in texts for mark in LIVE if mark in f" {text}"}
    assert not alive


def markdown_of(node: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - of AppTest's tree
    """Each text below a node that Streamlit reads as Markdown, and where it stands."""
    for child in getattr(node, "children", {}).values():
        yield from markdown_of(child)
    proto = getattr(node, "proto", None)
    if proto is None:
        return
    kind = type(proto).__name__
    for name in READ_AS_MARKDOWN.get(kind, ("label", "help")):
        text = getattr(proto, name, "")
        if isinstance(text, str) and text:
            yield f"{kind}.{name}", text
    if kind == "ButtonGroup":
        yield from ((kind, option.content) for option in proto.options)
    if node.type == "table":
        cells = node.value.astype(str)
        yield from ((node.type, text) for text in [*cells.columns, *cells.to_numpy().ravel()])
