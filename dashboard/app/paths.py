"""Paths of operators as charts and tables name them, without the numbers of their layers."""

import re

from costmodel.layers.site import expanded_paths

LAYER = re.compile(r"(?<=\.)\d+(?=\.|$)")  # its number within a path


def leaf_of(path: str) -> str:
    """The leaf of one or of many layers: `attention.core` of `layers.{0-2,5}.attention.core`."""
    first = expanded_paths(path)[0]
    return first.split(".", 2)[2] if first.startswith("layers.") else first


def pattern_of(path: str) -> str:
    """The path of one leaf with a star for its layer: `layers.*.attention.core`."""
    return LAYER.sub("*", path)
