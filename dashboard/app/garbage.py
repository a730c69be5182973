"""What stands for good is exempt from the collection of garbage.

Streamlit collects after every redraw, and looks through all that a process holds: a tenth of a
second once the dashboard's modules, presets and recordings are there, none of which is ever garbage.
"""

import gc
from functools import cache


@cache
def exempt(reached: str) -> None:
    """Exempt what the process holds by now; once in a process for each point that it reaches.

    A page's first drawing is such a point: it imports and reads what later ones only look up.
    """
    gc.collect()
    gc.freeze()
