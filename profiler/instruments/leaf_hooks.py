"""Hooks that run each leaf of a model inside a context: how a measurement is assigned to leaves."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from reference_model.model import ReferenceModel

LeafContext = Callable[[str], AbstractContextManager[object]]
"""Makes the context of a leaf, or of a region that a kernel spans, from its path."""


@contextmanager
def within_leaves(model: ReferenceModel, context: LeafContext) -> Iterator[None]:
    """While this context is open, each leaf's forward runs inside `context(path)`.

    Leaves do not nest. The context of a leaf that raises is closed when this one is left.
    """
    with ExitStack() as hooks, ExitStack() as opened:

        def before(path: str, *_: object) -> None:
            opened.enter_context(context(path))

        def after(*_: object) -> None:
            opened.close()

        for path, leaf in model.leaves().items():
            hooks.callback(leaf.register_forward_pre_hook(partial(before, path)).remove)
            hooks.callback(leaf.register_forward_hook(after).remove)
        yield
