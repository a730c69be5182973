"""What a benchmark has measured so far: one JSON, written anew after every case.

A run that is cut off leaves all cases that it finished. A case that fails is kept as its error's
text, and the run goes on.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import add_ratios, circumstances, copy_bytes_per_s, product_flops_per_s

ONLY = "model="  # before the name of a model: its steps, products and tuning alone
Result = dict[str, Any]
Case = Callable[[str, Callable[[], Result]], Result]
"""Measures one case under a name, and keeps what came out."""


def generator() -> torch.Generator:
    """The same random numbers for every case."""
    return torch.Generator(device="cuda").manual_seed(11)


def ceilings() -> dict[str, float]:
    """One reading of both."""
    reading = {"copy_bytes_per_s": copy_bytes_per_s(), "product_flops_per_s": product_flops_per_s()}
    torch.cuda.empty_cache()
    return reading


def tried(call: Callable[[], Any]) -> Any:  # noqa: ANN401 - what the call gives
    """The result, or what went wrong."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - one case's failure is that case's result
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    finally:
        torch.cuda.empty_cache()


class Report:
    """The JSON of a run, from its command line: OUT.json [PHASE ...] [model=NAME ...].

    Attributes:
        data: What was measured, by phase.
        wanted: The phases that were named; empty: all.
        models: The models that were named; empty: all.
    """

    def __init__(self, words: list[str]) -> None:
        self.path = Path(words[0])
        self.wanted = [word for word in words[1:] if not word.startswith(ONLY)]
        self.models = [word.removeprefix(ONLY) for word in words[1:] if word.startswith(ONLY)]
        self.data: Result = {"circumstances": circumstances(), "seconds": {}, "ceilings": []}
        self._began = time.monotonic()

    def phase(self, name: str, call: Callable[[Case], Any]) -> None:
        """Run a phase, unless others were named; `call` gives its result, or measures by case."""
        if self.wanted and name not in self.wanted:
            return
        cases: Result = {}
        self.data[name] = cases

        def case(label: str, measure: Callable[[], Result]) -> Result:
            cases[label] = found = tried(measure)
            self._write()
            return found  # type: ignore[no-any-return]

        found = tried(lambda: call(case))
        if found is not None:
            self.data[name] = cases | found if cases else found
        self.data["seconds"][name] = round(time.monotonic() - self._began, 1)
        self._write()
        print(name, self.data["seconds"][name], "s", flush=True)  # noqa: T201 - progress

    def read_ceilings(self, times: int = 1) -> None:
        """Take readings of what the card can do at best."""
        self.data["ceilings"] += [ceilings() for _ in range(times)]

    def end(self) -> None:
        """One more reading, what the card was at the end, and all ratios."""
        self.read_ceilings()
        self.data["circumstances_after"] = circumstances()
        self._write()

    def _write(self) -> None:
        add_ratios(self.data, self.data["ceilings"])
        self.path.write_text(json.dumps(self.data, indent=1))
