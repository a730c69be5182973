"""A sweep on a mesh: every point is what `predict` gives for it."""

import pytest

from costmodel.cli.workload_options import TypedMesh
from costmodel.costs.calibrations import calibrated
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import Hardware, load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import AskedMesh, Mesh
from costmodel.questions.grid import Grid, aligned
from costmodel.questions.sweep import sweep
from costmodel.routing.popularity import Uniform, Zipf
from tests.questions.test_sweep import assert_equal_to_predictions

H200, H100 = load_hardware("h200"), load_hardware("h100-sxm")


@pytest.mark.parametrize(
    ("name", "mesh"),
    [
        ("mixtral-8x7b", Mesh(tp=2, dp=4, ep=4)),
        ("olmoe-1b-7b", Mesh(dp=8, ep=8, redundant_experts=8)),
        ("llama-3.1-8b", Mesh(tp=8, pp=2)),
        ("ultramemv2-227m-1.2b", Mesh(dp=8)),
        ("ultramemv2-227m-1.2b", Mesh(tp=2, dp=4, tables="rows")),
        ("qwen3.5-27b", Mesh(tp=4)),
    ],
)
@pytest.mark.parametrize("gpus", [[H200], [H200, H100]])
def test_every_point_on_a_mesh(name: str, mesh: Mesh, gpus: list[Hardware]) -> None:
    assert_equal_to_predictions(
        load_model(name),
        Workload(mesh=mesh),
        batches=[8, 16, 64],
        contexts=[0, 999],
        routings=[Uniform(), Zipf(1.0)],
        hardwares=gpus,
    )


def test_a_mesh_that_is_to_be_chosen_suits_the_largest_step() -> None:
    work = Workload(mesh=AskedMesh(fewest=True))
    grid = sweep(
        load_model("llama-3.1-70b"),
        work,
        batches=[1, 128],
        contexts=[2048],
        routings=[Uniform()],
        hardwares=[H200],
        calibrations=[calibrated("h200")],
    )
    assert isinstance(grid.workload.mesh, Mesh)
    assert grid.workload.mesh.gpus == 2
    with pytest.raises(InputError, match="gpus='auto': gives the GPUs of this sweep different"):
        sweep(
            load_model("llama-3.1-70b"),
            work,
            batches=[1, 128],
            contexts=[2048],
            routings=[Uniform()],
            hardwares=[H200, load_hardware("l40s")],
        )


def test_grids_of_several_meshes_say_theirs() -> None:
    """Also the one of one GPU, which by itself has no such columns."""

    def grid(mesh: Mesh) -> Grid:
        return sweep(
            load_model("llama-3.1-8b"),
            Workload(mesh=mesh),
            batches=[4, 8],
            contexts=[0],
            routings=[Uniform()],
            hardwares=[H200],
        )

    alone, *meshed = aligned([grid(mesh) for mesh in (Mesh(), Mesh(tp=2), Mesh(tp=2, dp=2))])
    assert [record["mesh"] for record in alone.records()] == ["1 GPU"] * 2
    told = [(record["gpus"], record["mesh"]) for one in meshed for record in one.records()]
    assert told == [(2, "2 GPUs (tp 2)")] * 2 + [(4, "4 GPUs (tp 2, dp 2)")] * 2
    (record, _) = alone.records()
    assert record["parallel.communication.bytes"] is None
    assert "mesh" not in aligned([grid(Mesh())])[0].columns


def test_a_typed_list_of_meshes() -> None:
    assert TypedMesh().meshes() == (Mesh(),)
    assert TypedMesh(tp="1,2", dp="1,4").meshes() == (
        *(Mesh(), Mesh(dp=4), Mesh(tp=2), Mesh(tp=2, dp=4)),
    )
    assert TypedMesh(gpus="2,auto").meshes() == (AskedMesh(gpus=2), AskedMesh(fewest=True))
    assert TypedMesh(tp="1-4/3").meshes() == (Mesh(), Mesh(tp=4))
    with pytest.raises(InputError, match=r"mesh: 1,000,000 meshes are listed; at most 4,096"):
        TypedMesh(tp="1-1000", dp="1-1000").meshes()
    with pytest.raises(InputError, match=r"mesh='2 GPUs \(tp 2\)': is listed twice"):
        TypedMesh(tp="2,2").meshes()
