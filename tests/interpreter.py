"""Triton's interpreter, made faster for tests without changing what it computes."""

from functools import cache
from types import FunctionType
from typing import Any

from triton.runtime import interpreter


def speed_up() -> None:
    """Prepare `triton.language` once a launch, and look formats up once.

    The interpreter replaces the functions of `triton.language` by its own, anew at each call of a
    device function within a kernel: a third of its time, though they are replaced already.
    """
    if hasattr(interpreter, "prepared"):
        return
    replace_all, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__
    prepared: set[int] = set()  # global names of functions that this launch has seen

    def replace_new(function: FunctionType) -> Any:  # noqa: ANN401 - triton has no types
        if id(function.__globals__) in prepared:
            return interpreter._LangPatchScope()
        prepared.add(id(function.__globals__))
        return replace_all(function)

    def launch_prepared(self: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        prepared.clear()
        return launch(self, *args, **options)

    interpreter._patch_lang = replace_new
    interpreter.GridExecutor.__call__ = launch_prepared
    look_up = interpreter._get_np_dtype
    remembered = cache(look_up)

    def numpy_format(kind: Any) -> Any:  # noqa: ANN401
        element = getattr(kind, "element_ty", kind)
        return look_up(kind) if element.is_ptr() or kind.is_ptr() else remembered(element)

    interpreter._get_np_dtype = numpy_format
    interpreter.prepared = prepared
