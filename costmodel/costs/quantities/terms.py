"""The terms of the registry that a newcomer may not know, each in one sentence.

Pages append to the help of a card the terms that its label, its note and its definition use.
"""

import re
from collections.abc import Mapping

TERMS: Mapping[str, str] = {  # as they stand in labels and definitions, after their plurals
    "decode": "a step that makes one new token for each sequence",
    "prefill": "a step that reads a whole prompt",
    "batch": "how many sequences a step works on at once",
    "roofline bound": "the least time that the datasheet's bandwidth and peak allow",
    "compulsory": "what a step must move at least: each weight, row and cache entry once",
    "CUDA graph": "all kernels of a step, recorded once and launched together",
    "eager": "the host launches each kernel by itself, as plain PyTorch does",
    "kernel": "a program that the GPU runs for one or several operators",
    "calibration": "kernel times that were measured once on a GPU of this sort",
    "HBM": "the GPU's main memory, also where it is GDDR",
    "KV cache": "what attention keeps of each earlier token: a key and a value",
    "active": "parameters that one token uses: only the chosen experts and rows count",
    "routing": "the choice of experts or of memory rows",
    "MBU": "compulsory bytes a second over the datasheet's bandwidth",
    "MFU": "model FLOPs a second over the datasheet's dense peak",
    "TTFT": "time to the first token of an answer",
    "TPOT": "time from one token of an answer to the next",
}


def terms_in(text: str) -> dict[str, str]:
    """The terms that a text uses, each with its meaning; words that only begin alike do not count.

    `eagerly` is a form of `eager`, and `kernels` of `kernel`.
    """
    return {
        term: meaning
        for term, meaning in TERMS.items()
        if re.search(rf"(?<![A-Za-z]){re.escape(term)}(s|es|ly)?(?![A-Za-z])", text, re.IGNORECASE)
    }
