"""Short names of recorded models, for tables."""

from collections import Counter
from collections.abc import Sequence

MAX_NAME = 28  # characters of a model's name in a table


def short_names(models: Sequence[str], backends: Sequence[str]) -> list[str]:
    """Short names of models: `OLMoE-227M` of `OLMoE-227M/1.2B`.

    `#2` marks the second of a name that was measured by one backend.
    """
    names = [name.partition(" (")[0] for name in models]
    heads = {name: name.partition("/")[0] for name in names}
    models_of_head = Counter(heads.values())
    shortened: list[str] = []
    seen: Counter[tuple[str, str]] = Counter()
    for name, backend in zip(names, backends, strict=True):
        short = heads[name] if models_of_head[heads[name]] == 1 else name
        short = short if len(short) <= MAX_NAME else f"{short[: MAX_NAME - 3]}..."
        seen[short, backend] += 1
        times = seen[short, backend]
        shortened.append(short if times == 1 else f"{short} #{times}")
    return shortened
