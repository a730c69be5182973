"""Kernels run on Triton's interpreter where there is no GPU: said before triton is imported.

Tests are in float32: bf16 through tensor descriptors comes out wrong in Triton 3.7's interpreter
(right on a GPU, where the benchmark checks it), and its bf16 stores cut bits off instead of
rounding.
"""

import importlib.util
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
import torch

collect_ignore_glob = [] if find_spec("triton") else ["test_*.py"]

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    early = sys.modules.get("triton")  # torch.utils.flop_counter imports it, where it is there
    assert early is None or early.knobs.runtime.interpret, "set TRITON_INTERPRET=1 for this run"
if importlib.util.find_spec("triton") is None:  # a CPU build of torch does not bring it along
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture(autouse=True)
def quiet_nan() -> Iterator[None]:
    """The interpreter computes with NumPy, which warns of NaN and infinity; a GPU does not."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
