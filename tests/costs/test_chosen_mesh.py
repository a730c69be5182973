"""The mesh that is chosen where a user leaves it open."""

import pytest

from costmodel.costs.predict import Prediction, predict
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import AskedMesh, Mesh


def predicted(name: str, asked: AskedMesh, batch: int = 8, hardware: str = "h200") -> Prediction:
    return predict(load_model(name), Workload(batch=batch, mesh=asked), load_hardware(hardware))


def chosen(prediction: Prediction) -> Mesh:
    mesh = prediction.workload.mesh
    assert isinstance(mesh, Mesh)
    return mesh


def test_one_gpu_where_one_is_enough() -> None:
    prediction = predicted("olmoe-1b-7b", AskedMesh(fewest=True))
    assert chosen(prediction) == Mesh()
    assert prediction.parallel is None


def test_the_fewest_that_fit() -> None:
    """141 GB of weights in bf16 do not fit one H200 (150 GB) with KV of 128 x 2,048 tokens."""
    prediction = predicted("llama-3.1-70b", AskedMesh(fewest=True), batch=128)
    assert chosen(prediction).gpus == 2
    assert prediction.memory.fits
    assert chosen(predicted("deepseek-v3", AskedMesh(fewest=True))).gpus == 16  # 1.34 TB


def test_what_is_asked_for_is_kept() -> None:
    mesh = chosen(predicted("llama-3.1-70b", AskedMesh(gpus=8, pp=2)))
    assert (mesh.gpus, mesh.pp) == (8, 2)
    mesh = chosen(predicted("mixtral-8x7b", AskedMesh(gpus=8, dp=4, ep=4)))
    assert mesh == Mesh(tp=2, dp=4, ep=4)


def test_of_meshes_without_stages_the_fastest() -> None:
    """By bound and exchanges: none of the others is shorter."""
    best = predicted("mixtral-8x7b", AskedMesh(gpus=4), batch=64)
    assert best.parallel is not None
    least = best.floor_s + best.parallel.all_spent.typical_s
    for mesh in AskedMesh(gpus=4, pp=1).of(4, most_tp=8, has_experts=True):
        other = predict(
            load_model("mixtral-8x7b"), Workload(batch=64, mesh=mesh), load_hardware("h200")
        )
        assert other.parallel is not None
        assert least <= other.floor_s + other.parallel.all_spent.typical_s


def test_meshes_of_four_gpus() -> None:
    meshes = list(AskedMesh(gpus=4).of(4, most_tp=2, has_experts=True))
    sizes = {(mesh.tp, mesh.dp, mesh.pp, mesh.ep) for mesh in meshes}
    assert sizes == {
        *((1, 4, 1, 1), (1, 4, 1, 4), (2, 2, 1, 1), (2, 2, 1, 4)),
        *((1, 2, 2, 1), (1, 2, 2, 2), (2, 1, 2, 1), (2, 1, 2, 2), (1, 1, 4, 1)),
    }
    assert [mesh.pp for mesh in meshes] == sorted(mesh.pp for mesh in meshes)


def test_a_mesh_that_does_not_fit_is_shown_where_its_size_was_asked_for() -> None:
    assert not predicted("deepseek-v3", AskedMesh(gpus=4)).memory.fits


def test_none_that_divides() -> None:
    with pytest.raises(InputError, match=r"gpus=7: no mesh does for 'Llama-3.1-8B'"):
        predicted("llama-3.1-8b", AskedMesh(gpus=7), batch=1)
