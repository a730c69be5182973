"""Quantities of a match of one model's sizes to another's; costs of both are those of a step."""

from costmodel.costs.quantities.quantity import Quantity

MATCH_QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        Quantity(
            name="context",
            label="cached tokens of the matched step",
            unit="tokens",
            counts="what was given",
            formula="costmodel.questions.match:match",
        ),
        Quantity(
            name="batch",
            label="sequences of the matched step",
            unit="count",
            counts="what was given for HBM bytes that are set equal, else 1",
            formula="costmodel.questions.match:Match.batch",
        ),
        Quantity(
            name="fields.template",
            label="size in the template",
            unit="count",
            counts="the varied size before the match",
            formula="costmodel.questions.match:match",
        ),
        Quantity(
            name="fields.matched",
            label="matched size",
            unit="count",
            counts="the varied size after the match",
            formula="costmodel.questions.match:match",
        ),
        Quantity(
            name="fields.step",
            label="step of the size",
            unit="count",
            counts="matched sizes are multiples of it",
            formula="costmodel.questions.match:match",
        ),
        Quantity(
            name="candidates",
            label="candidates weighed",
            unit="count",
            counts="models of other sizes of which the numbers to set equal were computed",
            formula="costmodel.questions.match:match",
        ),
        Quantity(
            name="difference",
            label="match minus target",
            unit="count",
            counts="of a quantity of both models, in its own unit",
            formula="costmodel.show.match_json:match_records",
        ),
        Quantity(
            name="difference_percent",
            label="match above target",
            unit="percent",
            counts="100 (match / target - 1); null where the target has none",
            formula="costmodel.show.match_json:match_records",
        ),
    )
}
