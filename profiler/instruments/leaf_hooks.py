"""Contexts around the leaves of a model: how a measurement learns whose work it is looking at."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial

from reference_model.model import ReferenceModel

Around = Callable[[str], AbstractContextManager[object]]


@contextmanager
def around_leaves(model: ReferenceModel, around: Around) -> Iterator[None]:
    """Within this, each leaf's forward runs in `around(path)`.

    Leaves do not nest. Of one that raises, the context sees the error as this one is left.
    """
    with ExitStack() as hooks, ExitStack() as opened:

        def before(path: str, *_: object) -> None:
            opened.enter_context(around(path))

        def after(*_: object) -> None:
            opened.close()

        for path, leaf in model.leaves().items():
            hooks.callback(leaf.register_forward_pre_hook(partial(before, path)).remove)
            hooks.callback(leaf.register_forward_hook(after).remove)
        yield
