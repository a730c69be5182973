"""Kernels run on Triton's interpreter where there is no GPU: said before triton is imported."""

import os
import warnings
from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np
import pytest
import torch

collect_ignore_glob = [] if find_spec("triton") else ["test_*.py"]

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture(autouse=True)
def quiet_nan() -> Iterator[None]:
    """The interpreter computes with NumPy, which warns of NaN and infinity; a GPU does not."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
