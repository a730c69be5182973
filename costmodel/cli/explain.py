"""The command `sparsecost explain`: how one number of a step or of served requests follows."""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from costmodel.cli.options import (
    CalibrationOpt,
    HardwareOpt,
    IgnoreKeyOpt,
    JsonOpt,
    MarkdownOpt,
    MemoryFractionOpt,
    MemoryReserveOpt,
    ModelArg,
)
from costmodel.cli.output import check_exclusive, print_output
from costmodel.cli.request import parse_price
from costmodel.cli.typed_models import typed_models
from costmodel.cli.workload_options import TypedWorkload, takes_workload
from costmodel.costs.calibrations import calibrated
from costmodel.costs.operators import build_operators
from costmodel.errors import InputError, shown
from costmodel.inputs.catalog import load_model
from costmodel.inputs.memory_limit import load_limited
from costmodel.inputs.parse import parse_count
from costmodel.inputs.workload import MAX_NEW_TOKENS, Workload

if TYPE_CHECKING:
    from costmodel.costs.predict import Prediction
    from costmodel.explain.explanation import Explanation
    from costmodel.questions.request import Served

EPILOG = "Example: sparsecost explain olmoe-1b-7b time.floor_s --batch 64 --context 2048"
DEFAULT_PROMPT, DEFAULT_OUTPUT = 2048, 256
NEAR, LIKENESS = 3, 0.5  # names that a wrong one is answered with, and how near they must be


def complete_number(ctx: typer.Context, incomplete: str) -> list[str]:
    """Numbers of the JSON, and paths of the model's operators, that begin with `incomplete`."""
    from costmodel.explain.mesh import MESH
    from costmodel.explain.numbers import STEP_NUMBERS
    from costmodel.explain.request import REQUEST_BUILDERS

    names = [*STEP_NUMBERS, *MESH, *REQUEST_BUILDERS]
    try:
        operators = build_operators(load_model(ctx.params["model"]), Workload().step())
        names += [operator.leaf for operator in operators]
    except (InputError, KeyError):
        pass  # the model is not typed, or wrong
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


@takes_workload
def explain(
    model: ModelArg,
    number: Annotated[
        str,
        typer.Argument(
            metavar="NUMBER",
            help="A name in the JSON of predict or request, such as hbm_bytes.compulsory or"
            " ttft.predicted_s, or an operator: its path, that of one layer, or its leaf, such as"
            " moe.router.",
            autocompletion=complete_number,
        ),
    ],
    *,
    typed: TypedWorkload,
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Tokens of each prompt, for a number of request. (Default: 2048.)"
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Tokens of each output, for a number of request. (Default: 256.)"
        ),
    ] = None,
    price_per_hour: Annotated[
        str | None, typer.Option(metavar="USD", help="Of one GPU, for a cost of request.")
    ] = None,
    ignore_key: IgnoreKeyOpt = None,
    hardware: HardwareOpt = "h200",
    memory_fraction: MemoryFractionOpt = None,
    memory_reserve: MemoryReserveOpt = None,
    calibration: CalibrationOpt = None,
    as_json: JsonOpt = False,
    as_markdown: MarkdownOpt = False,
) -> None:
    """How a number follows: its formula with the values put in, its terms and its source.

    A name that predict and request share is that of predict, unless --prompt or --output is given.
    """
    from costmodel.costs.predict import predict
    from costmodel.explain.explanation_json import explanation_json
    from costmodel.explain.numbers import STEP_NUMBERS
    from costmodel.explain.request import REQUEST_BUILDERS, explain_request
    from costmodel.explain.tables import explanation_tables
    from costmodel.questions.request import Request, serve

    check_exclusive(as_json, as_markdown)
    gpu = load_limited(hardware, memory_fraction, memory_reserve)
    (config,) = typed_models([model], ignore_key)
    workload, curves = typed.only_workload(), calibrated(hardware, calibration)
    request = Request(
        prompt=_tokens(prompt, "prompt", DEFAULT_PROMPT),
        output=_tokens(output, "output", DEFAULT_OUTPUT),
        batch=workload.batch,
        price_per_hour=None if price_per_hour is None else parse_price(price_per_hour),
    )
    of: Prediction | Served
    sized = prompt is not None or output is not None
    if number in REQUEST_BUILDERS and (sized or number not in STEP_NUMBERS):
        if typed.phase != "decode" or (typed.context, typed.new_tokens) != (None, None):
            raise InputError(
                f"number={shown(number)}: is of requests, which --prompt and --output size;"
                " --phase, --context and --new-tokens are of a single step"
            )
        of = serve(config, request, workload, gpu, curves)
        explanation = explain_request(of, number)
    else:
        of = predict(config, workload, gpu, curves)
        explanation = _of_step(of, number)
        if sized:
            raise InputError(
                f"number={shown(number)}: is of a single step, which --context and --new-tokens"
                " size; --prompt and --output are of requests"
            )
    print_output(
        as_json=as_json,
        as_markdown=as_markdown,
        data=lambda: explanation_json(explanation, of),
        tables=lambda: explanation_tables(explanation, of),
    )


def _tokens(text: str | None, field: str, default: int) -> int:
    """Tokens of a request, as typed or the default."""
    return default if text is None else parse_count(text, field=field, low=1, high=MAX_NEW_TOKENS)


def _of_step(prediction: "Prediction", number: str) -> "Explanation":
    """A number of one step, or one of its operators.

    Raises:
        InputError: It is neither, or names several operators.
    """
    from costmodel.explain.mesh import MESH
    from costmodel.explain.numbers import STEP_NUMBERS, explain_operator, explain_step, operators_at
    from costmodel.explain.request import REQUEST_BUILDERS

    if number in STEP_NUMBERS or number in MESH:
        return explain_step(prediction, number)
    operators = operators_at(prediction, number)
    if len(operators) != 1:
        leaves = [operator.leaf for operator in prediction.costs.operators]
        names = [*STEP_NUMBERS, *MESH, *REQUEST_BUILDERS, *leaves]
        raise _refusal(number, [operator.path for operator in operators], names)
    return explain_operator(prediction, number)


def _refusal(number: str, paths: list[str], names: list[str]) -> InputError:
    """Why a number is refused: it names several operators, or none, with the names near it."""
    if paths:
        return InputError(
            f"number={shown(number)}: names several operators; give one of {', '.join(paths)}"
        )
    near = get_close_matches(number, dict.fromkeys(names), n=NEAR, cutoff=LIKENESS)
    hint = f"; near it: {', '.join(near)}" if near else ""
    return InputError(
        f"number={shown(number)}: is no name in the JSON of predict or request and no operator of"
        f" this model{hint}"
    )
