"""Models side by side on several GPUs: who is faster at which batch, and what exchanges change.

Each model has GPUs of its own. What is said holds at the batches that were compared: between them,
and on another mesh, it may not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from costmodel import units
from costmodel.costs.latency import Unknown
from costmodel.costs.predict import Prediction
from costmodel.costs.quantities.step import STEP_QUANTITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshedPair:
    """Two models at the same batches, in ascending order.

    Attributes:
        batches: Those compared, at which both fit their GPUs.
        too_large: Those at which one does not.
        sides: The predictions of each model, by batch.
        predicted: Whether predicted times are compared, or else bounds, within which exchanges hide
            behind other work.
    """

    batches: tuple[int, ...]
    too_large: tuple[int, ...]
    sides: tuple[tuple[Prediction, ...], tuple[Prediction, ...]]
    predicted: bool

    @property
    def names(self) -> tuple[str, str]:
        """The models."""
        first, second = (side[0].model.name for side in self.sides)
        return first, second

    def winners(self, *, without_exchanges: bool = False) -> list[int | None]:
        """Which side is faster at each batch: 0, 1, or None of equal ones."""
        found: list[int | None] = []
        for pair in zip(*self.sides, strict=True):
            first, second = (self._seconds(one, exchanged=not without_exchanges) for one in pair)
            found.append(None if first == second else int(second < first))
        return found

    def _seconds(self, prediction: Prediction, *, exchanged: bool) -> float:
        time = prediction.time
        if not self.predicted or isinstance(time, Unknown):
            return float(prediction.floor_s)
        seconds = float(time.predicted_s)
        return seconds if exchanged else seconds - exchanges_s(prediction)

    def taken(self, side: int) -> list[int]:
        """Batches at which a side would be faster without exchanges, and is not with them."""
        both = zip(self.winners(without_exchanges=True), self.winners(), strict=True)
        return [
            batch
            for batch, (before, after) in zip(self.batches, both, strict=True)
            if before == side != after
        ]


def exchanges_s(prediction: Prediction) -> float:
    """Seconds that a step spends on exchanges between GPUs; 0 on one."""
    of = prediction.parallel
    return 0.0 if of is None else float(of.all_spent.typical_s)


def mesh_sentences(rows: Sequence[Sequence[Prediction]]) -> list[str]:
    """Each model beside the first one, in words; `rows` holds predictions by batch, then model."""
    ordered = sorted(rows, key=lambda row: row[0].workload.batch)
    return [pair_sentence(_pair(ordered, place)) for place in range(1, len(ordered[0]))]


def _pair(rows: Sequence[Sequence[Prediction]], place: int) -> MeshedPair:
    """The first model and another one, by batch."""
    both = [(row[0], row[place]) for row in rows]
    fitting = [pair for pair in both if all(one.memory.fits for one in pair)]
    return MeshedPair(
        batches=tuple(first.workload.batch for first, _ in fitting),
        too_large=tuple(
            first.workload.batch
            for first, second in both
            if not (first.memory.fits and second.memory.fits)
        ),
        sides=(tuple(first for first, _ in fitting), tuple(second for _, second in fitting)),
        predicted=not any(isinstance(one.time, Unknown) for pair in both for one in pair),
    )


def pair_sentence(pair: MeshedPair) -> str:
    """GPUs that each side needs, which is faster at which batch, and what exchanges change."""
    left_out = ""
    if pair.too_large:
        words = batches_words(pair.too_large, pair.too_large)
        left_out = f" At {words} one of them does not fit its GPUs."
    if not pair.batches:
        return left_out.strip()
    label = STEP_QUANTITIES["time.predicted_s" if pair.predicted else "time.floor_s"].label
    winners, names = pair.winners(), pair.names
    needs = " and ".join(
        f"{name} on {_gpus(side)}" for name, side in zip(names, pair.sides, strict=True)
    )
    faster = "; ".join(
        f"{names[side]} is faster at {batches_words(pair.batches, chosen)}"
        for side in (0, 1)
        if (chosen := [b for b, won in zip(pair.batches, winners, strict=True) if won == side])
    )
    head = f"By {label}, {needs}: {faster or 'both are equally fast'}."
    told = [head, _communication(pair)] if pair.predicted else [head]
    return " ".join(sentence for sentence in told if sentence) + left_out


def _communication(pair: MeshedPair) -> str:
    """From which batch exchanges take an advantage away; that they do not; empty on one GPU."""
    told = [
        f"communication takes the advantage from {name} at {batches_words(pair.batches, batches)},"
        " where it would be faster without exchanges"
        for side, name in enumerate(pair.names)
        if (batches := pair.taken(side))
    ]
    if told:
        words = "; ".join(told)
        return f"{words[0].upper()}{words[1:]}."
    shares = [max(map(_share, side)) for side in pair.sides]
    most = " and ".join(
        f"{units.formatted(share, 'share')} of the time of {name}"
        for name, share in zip(pair.names, shares, strict=True)
        if share  # on one GPU there is none
    )
    if not most:
        return ""
    return f"Communication takes the advantage from neither at these batches: it is at most {most}."


def _share(prediction: Prediction) -> float:
    """Exchanges over the predicted time of a step."""
    assert not isinstance(prediction.time, Unknown)
    return exchanges_s(prediction) / float(prediction.time.predicted_s)


def _gpus(side: Sequence[Prediction]) -> str:
    """`8 GPUs`, or `2 to 16 GPUs` where batches need different numbers."""
    numbers = [prediction.gpus for prediction in side]
    least, most = min(numbers), max(numbers)
    if least == most:
        return f"{most:,} GPU{'' if most == 1 else 's'}"
    return f"{least:,} to {most:,} GPUs"


def batches_words(batches: Sequence[int], chosen: Sequence[int]) -> str:
    """`batch 1`, or `batches 1 to 64 and 1,024`: runs of the batches compared."""
    marks = groupby(batches, key=lambda batch: batch in set(chosen))
    runs = [list(run) for is_chosen, run in marks if is_chosen]
    words = [f"{run[0]:,}" if len(run) == 1 else f"{run[0]:,} to {run[-1]:,}" for run in runs]
    *first, last = words
    joined = f"{', '.join(first)} and {last}" if first else last
    return f"batch{'' if len(chosen) == 1 else 'es'} {joined}"
