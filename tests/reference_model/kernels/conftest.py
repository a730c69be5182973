"""Kernels are tested on Triton's interpreter (`tests/conftest.py`), in tiles that no GPU takes.

Tests are in float32: bf16 through tensor descriptors comes out wrong in Triton 3.7's interpreter
(right on a GPU, where the benchmark checks it), and its bf16 stores cut bits off instead of
rounding.
"""

import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
import torch

collect_ignore_glob = [] if find_spec("triton") else ["test_*.py"]  # Linux alone has triton


@pytest.fixture(autouse=True)
def interpreted() -> None:
    from reference_model.kernels.launch import INTERPRETED

    if not INTERPRETED:
        pytest.skip("tiles of these tests are too small for a GPU")


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture(autouse=True)
def quiet_nan() -> Iterator[None]:
    """The interpreter computes with NumPy, which warns of NaN and infinity; a GPU does not."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
