"""What a sentence says, without its wording: the numbers and names in it, in their order."""

import re

NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


def says(text: str, *told: float | str) -> bool:
    """Whether one line of the text has these numbers and names, one after the other."""
    return any(_says(line, told) for line in text.splitlines())


def _says(line: str, told: tuple[float | str, ...]) -> bool:
    at = 0
    for each in told:
        if isinstance(each, str):
            found = line.find(each, at)
            end = found + len(each)
        else:
            numbers = NUMBER.finditer(line, at)
            match = next((m for m in numbers if float(m[0].replace(",", "")) == each), None)
            found, end = match.span() if match else (-1, at)
        if found < 0:
            return False
        at = end
    return True
