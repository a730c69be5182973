"""Triton's interpreter, made faster for tests without changing what it computes."""

import math
from collections.abc import Sequence
from functools import cache
from types import FunctionType
from typing import Any

from triton.language import core
from triton.runtime import interpreter


def speed_up() -> None:
    """Once in a process: what the interpreter does anew at each call is done once."""
    if hasattr(interpreter, "prepared"):
        return
    _prepare_once_a_launch()
    _keep_formats()
    _keep_shapes()
    # Each sum and product of 32-bit integers is done again in 64 bits, for a check that a GPU
    # lacks; what would overflow comes out wrong, and the oracles say so
    interpreter.interpreter_builder.options = interpreter.InterpreterOptions(
        sanitize_overflow=False
    )


def _prepare_once_a_launch() -> None:
    """Replace the functions of `triton.language` once a launch, and so once by its own.

    The interpreter does it at each call of a device function within a kernel: a third of its time,
    though they are replaced already.
    """
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
    interpreter.prepared = prepared


def _keep_formats() -> None:
    """Look each NumPy format up once."""
    look_up = interpreter._get_np_dtype
    remembered = cache(look_up)

    def numpy_format(kind: Any) -> Any:  # noqa: ANN401
        element = getattr(kind, "element_ty", kind)
        return look_up(kind) if element.is_ptr() or kind.is_ptr() else remembered(element)

    interpreter._get_np_dtype = numpy_format


def _keep_shapes() -> None:
    """Make the shape of a block and of a tensor once, not with each of them: nothing changes one.

    They are few, but a tensor of it is made with each operation.
    """

    make_block = core.block_type.__init__

    @cache
    def of_block(sizes: tuple[int, ...]) -> tuple[Any, int]:
        made = core.block_type.__new__(core.block_type)
        make_block(made, core.int32, list(sizes))  # checks the sizes
        return made.shape, made.numel

    @cache
    def of_tensor(sizes: tuple[int, ...]) -> tuple[Any, Any]:
        shape = core.tuple([core.constexpr(size) for size in sizes])
        return shape, core.constexpr(math.prod(sizes))

    def block(self: Any, element_ty: Any, shape: Sequence[Any]) -> None:  # noqa: ANN401
        sizes = tuple([core._unwrap_if_constexpr(size) for size in shape])
        self.element_ty = element_ty
        self.shape, self.numel = of_block(sizes)
        self.name = f"<{sizes}, {element_ty}>"

    def tensor(self: Any, handle: Any, type: Any) -> None:  # noqa: A002, ANN401 - as it is named there
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.shape, self.numel = of_tensor(tuple(type.shape) if type.is_block() else ())

    core.block_type.__init__ = block
    core.tensor.__init__ = tensor
