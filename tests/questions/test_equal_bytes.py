"""Matches of equal HBM bytes: recomputed by predict, monotone in the sizes, refused by the rule."""

import json
from dataclasses import replace

import pytest

from costmodel.costs.predict import predict
from costmodel.errors import InputError
from costmodel.inputs.catalog import load_model
from costmodel.inputs.hardware import load_hardware
from costmodel.inputs.workload import Workload
from costmodel.layers.placement import Placement
from costmodel.questions.match import match, parse_equal
from costmodel.questions.matching.sizes import resized, size_of, usual_sizes
from tests.commands import output, refusal

H200 = load_hardware("h200")
MOE, ULTRAMEM, ENGRAM = (
    "olmoe-227m-1.2b",
    "ultramemv2-227m-1.2b",
    "engram-227m-1.2b-reconstruction",
)
IN_HOST = Workload(batch=64, context=512, placement=Placement(tables="host"))


@pytest.mark.parametrize(
    ("target", "template", "step"),
    [
        (ULTRAMEM, ENGRAM, IN_HOST),
        (ENGRAM, MOE, Workload(context=512)),
    ],
)
def test_parameters_and_bytes_of_a_step_are_equal_as_predict_counts_them(
    target: str, template: str, step: Workload
) -> None:
    answer = match(
        load_model(target), load_model(template), context=512, equal=("parameters", "bytes"),
        step=step,
    )  # fmt: skip
    wanted, reached = (predict(model, step, H200).costs for model in (answer.target, answer.model))
    for mine, theirs in (
        (
            reached.parameters.total_without_embeddings,
            wanted.parameters.total_without_embeddings,
        ),
        (reached.totals.compulsory_bytes, wanted.totals.compulsory_bytes),
    ):
        assert mine == pytest.approx(theirs, rel=0.01)
    assert answer.reached.hbm_bytes == reached.totals.compulsory_bytes
    assert answer.candidates < 1000


def test_at_a_large_batch_equal_bytes_are_other_sizes_than_equal_flops() -> None:
    """A dense FFN is read whole at any batch; 64 sequences touch nearly all experts of the MoE.

    By FLOPs the sizes are those of the template, within 1 %: it was made as the MoE's equal.
    """
    target, template = load_model(MOE), load_model(ULTRAMEM)
    answer = match(target, template, equal=("parameters", "bytes"), step=Workload(batch=64))
    (_, rows), (before, width) = answer.fields.values()
    assert width > 8 * before
    assert rows < 360 // 8
    assert answer.flops_ratio > 3


@pytest.mark.parametrize("name", [MOE, ULTRAMEM, ENGRAM, "peer-12l-1m"])
@pytest.mark.parametrize("step", [Workload(batch=16), replace(IN_HOST, batch=2)])
def test_bytes_never_fall_when_a_size_grows(name: str, step: Workload) -> None:
    """The search relies on it."""
    model = load_model(name)
    for size in usual_sizes(model):
        stated, value = size_of(model, size)
        moved = [
            float(
                predict(
                    resized(model, {size: int(value) + i * stated.step}), step, H200
                ).costs.totals.compulsory_bytes
            )
            for i in range(6)
        ]
        assert moved == sorted(moved)


def test_the_command_tells_what_was_set_equal() -> None:
    options = ("match", ULTRAMEM, "--to", MOE, "--context", "512", "--equal")
    document = json.loads(output(*options, "parameters,bytes", "--batch", "2", "--json"))
    names = ["parameters.total_without_embeddings", "hbm_bytes.compulsory"]
    assert document["equal"] == [line["quantity"] for line in document["matched"]] == names
    assert [line["batch"] for line in document["matched"]] == [None, 2]
    assert (document["batch"], document["placement"]) == (2, "tables=hbm")
    assert {line["batch"] for line in document["beside"]} == {None, 1, 2, 64, 1024}
    assert "must be parameters,flops or parameters,bytes" in refusal(*options, "flops,bytes")


@pytest.mark.parametrize("text", ["", "parameters", "flops,parameters", "parameters,parameters"])
def test_other_pairs_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="equal="):
        parse_equal(text)
