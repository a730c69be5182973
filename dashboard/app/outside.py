"""Nothing leaves the machine unasked: the server library's look-up of an outside address is off.

Streamlit asks an outside server for this machine's public address where it prints its own addresses
and where it refuses an origin, to compare the two. Without that address an origin is allowed if it
is this machine by its own addresses, or stands in `server.corsAllowedOrigins`.
"""

from streamlit import net_util


def ask_nobody() -> None:
    """Replace the look-up by an answer of None, which Streamlit takes for "not known"."""
    net_util.get_external_ip = _unknown


def _unknown() -> None:
    return None
