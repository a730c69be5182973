"""Fits of leaf times: known parameters are found again; the shipped fit is of committed data."""

import hashlib
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from costmodel.costs.calibrations import FOLDER
from costmodel.costs.kernel_times import LEAVES
from costmodel.recordings.leaf_calibration import load_leaf_calibration
from costmodel.recordings.leaf_fit import load_leaf_fit
from profiler.calibrate.leaves.fit import START, fitted, predicted_s
from profiler.calibrate.leaves.points import points_of

ROOT = Path(__file__).parents[4]
MEASURED = ROOT / "benchmarks" / "leaves" / "h200-leaves-torch.json"
PRODUCTS = ("attention.output", "attention.qkv", "lm_head", "ffn.down")
NOISE = 0.02


def test_known_parameters_are_found_again() -> None:
    """From products of the measured shapes, with 2 % of noise about a known model."""
    pytest.importorskip("scipy")
    known = START | {
        "gemm.launch_s": 4e-6,
        "gemm.step_s": 2e-7,
        "gemm.hbm_bytes_per_s": 3.1e12,
        "gemm.flops_per_s": 5.5e14,
    }
    rng = Random(5)  # noqa: S311 - no secret
    points = [
        replace(
            point,
            measured_s=predicted_s(known, point, keeps=False) * (1 + rng.uniform(-NOISE, NOISE)),
        )
        for point in points_of(load_leaf_calibration(MEASURED))
        if point.leaf in PRODUCTS
    ]
    assert len(points) > 50
    found = fitted(points, keeps=False)
    for name in ("gemm.launch_s", "gemm.step_s", "gemm.hbm_bytes_per_s", "gemm.flops_per_s"):
        assert found[name] == pytest.approx(known[name], rel=0.1), name


def test_the_shipped_fit_is_of_the_committed_leaves() -> None:
    fit = load_leaf_fit(FOLDER / f"h200{LEAVES}.json")
    for backend, of in fit.backends.items():
        source = MEASURED.parent / of.source
        assert hashlib.sha256(source.read_bytes()).hexdigest() == of.sha256
        assert set(START) <= set(of.parameters)
        assert of.shapes == len({p.shape for p in points_of(load_leaf_calibration(source))}), (
            backend
        )
