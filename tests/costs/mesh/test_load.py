"""The busiest GPU of a mesh, copies of experts, and what their divided work costs."""

import dataclasses

import pytest

from costmodel.costs.mesh.load import busiest_load, busiest_reads, with_busiest_load
from costmodel.costs.mesh.step import mesh_step
from costmodel.inputs.catalog import load_model
from costmodel.inputs.workload import Workload
from costmodel.layers.mesh import Mesh
from costmodel.layers.moe import MoeFfn
from costmodel.layers.ultramem import UltraMem
from costmodel.routing.popularity import Zipf

CAPACITY = 10**12


def moe(experts: int, chosen: int) -> MoeFfn:
    return MoeFfn(num_experts=experts, num_experts_per_tok=chosen, moe_intermediate_size=64)


def test_two_of_four_experts_on_two_gpus() -> None:
    """Of six pairs of experts two stand on one GPU: loads 2 and 0; else 1 and 1. The mean is 1."""
    step = Workload(batch=1).step()
    assert busiest_load(moe(4, 2), step, Mesh(tp=2, ep=2)) == pytest.approx(4 / 3)


def test_all_groups_meet_at_the_experts() -> None:
    """Two groups of one token are two tokens: 2 of 2 experts each, one a GPU: no imbalance."""
    step = Workload(batch=1).step()
    assert busiest_load(moe(2, 2), step, Mesh(dp=2, ep=2)) == pytest.approx(1.0)
    one = busiest_load(moe(64, 8), Workload(batch=64).step(), Mesh(tp=8, ep=8))
    many = busiest_load(moe(64, 8), Workload(batch=16).step(), Mesh(dp=4, tp=2, ep=8))
    assert many == pytest.approx(one)


def test_without_sets_nothing_is_uneven() -> None:
    assert busiest_load(moe(4, 2), Workload(batch=1).step(), Mesh(tp=2)) == 1.0


def test_only_rows_of_experts_are_more() -> None:
    model, mesh = load_model("olmoe-1b-7b"), Mesh(tp=8, ep=8)
    step = mesh_step(model, Workload(batch=16).step(), mesh, CAPACITY)
    ffn = model.ffn_groups[0][0]
    assert isinstance(ffn, MoeFfn)
    load = busiest_load(ffn, step.gpu_step, mesh)
    assert load > 1.1
    for operator in step.gpu_operators:
        busy = with_busiest_load(operator, step.gpu_step, mesh)
        if operator.leaf == "moe.experts":
            assert busy.total("flops") == pytest.approx(load * operator.total("flops"))
            assert busy.total("weight_bytes") == operator.total("weight_bytes")
        else:
            assert busy is operator


def test_copies_take_room_and_even_out() -> None:
    """64 experts and 8 copies on 8 GPUs: 9 each, and half of the load of a copied one."""
    model, skewed = load_model("olmoe-1b-7b"), Zipf(1.0)
    step = Workload(batch=256, routing=skewed).step()
    plain, copied = Mesh(tp=8, ep=8), Mesh(tp=8, ep=8, redundant_experts=8)
    one, more = (mesh_step(model, step, mesh, CAPACITY) for mesh in (plain, copied))
    experts = 16 * 3 * 2048 * 1024 * 2  # of all layers, one a layer, bytes
    assert more.fullest.weights_bytes - one.fullest.weights_bytes == experts
    ffn = model.ffn_groups[0][0]
    assert isinstance(ffn, MoeFfn)
    assert busiest_load(ffn, step, copied) < busiest_load(ffn, step, plain)


def test_reads_of_a_table_divided_over_its_rows() -> None:
    """Two GPUs, two reads: both on one in half of all cases, so the busiest has 1.5 of a mean 1."""
    model = load_model("ultramemv2-227m-1.2b")
    (ultramem,) = model.memory
    assert isinstance(ultramem, UltraMem)
    memory = dataclasses.replace(ultramem, knn=1, num_heads=1)
    small = dataclasses.replace(model, memory=(memory,))
    mesh = Mesh(dp=2, tables="rows")
    step = mesh_step(small, Workload(batch=2).step(), mesh, CAPACITY)
    (values,) = [one for one in step.gpu_operators if one.leaf == "memory.values"]
    assert busiest_reads(values, step.gpu_step, mesh) == pytest.approx(1.5)
    busy = with_busiest_load(values, step.gpu_step, mesh)
    assert busy.total("row_bytes") == pytest.approx(1.5 * values.total("row_bytes"))
    by_width = dataclasses.replace(mesh, tables="width")
    assert busiest_reads(values, step.gpu_step, by_width) is None
    skewed = Workload(batch=1, routing=Zipf(1.0)).step()
    assert busiest_reads(values, skewed, mesh) is None
