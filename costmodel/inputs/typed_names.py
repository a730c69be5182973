"""What a name that is no preset may mean: a model of a hub, an address, a slip of the finger."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final
from urllib.parse import urlsplit

from costmodel.errors import MAX_SHOWN, InputError, shown

MAX_MEANT: Final = 3  # names that one message proposes
LIKENESS: Final = 0.6  # of two names one of which may be a slip for the other; 1: equal
_ADDRESS: Final = re.compile(
    r"(https?://|hf://|hf\.co/|huggingface\.co/)", re.ASCII | re.IGNORECASE
)
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)  # owner/name


def did_you_mean(typed: str, names: Sequence[str]) -> str:
    """The names that are like the one typed, in parentheses; "" if there are none."""
    name = typed.lower()
    if not name or len(name) > MAX_SHOWN:
        return ""
    like = get_close_matches(name, names, n=MAX_MEANT, cutoff=LIKENESS)
    meant = like or [other for other in names if name in other][:MAX_MEANT]
    return f" (did you mean {' or '.join(meant)}?)" if meant else ""


def not_fetched(typed: str, presets: Sequence[str]) -> InputError | None:
    """The refusal of an address, or of a model's name on the Hugging Face Hub; None: it is neither.

    Args:
        typed: What the user gave; no file has this path.
        presets: Their names. The one whose name begins the model's is proposed.
    """
    address = _ADDRESS.match(typed)
    is_file_name = typed.lower().endswith((".json", ".toml"))
    if address is None and (is_file_name or _HUB_NAME.fullmatch(typed) is None):
        return None
    hub_name = typed
    if address is not None:
        begin = typed if "://" in address[0] else f"https://{typed}"
        try:
            parts = urlsplit(begin)
        except ValueError:  # a broken IPv6 address
            return InputError(f"model={shown(typed)}: is an address; nothing is fetched")
        path = parts.netloc + parts.path if parts.scheme.lower() == "hf" else parts.path
        hub_name = "/".join(path.strip("/").split("/")[:2])
    what = "is an address" if address else "is no file, and a name on a hub stays a name"
    preset = preset_like(hub_name, presets)
    hint = f"; the preset {preset} may be that model" if preset else ""
    return InputError(
        f"model={shown(typed)}: {what}: nothing is fetched. Download the model's config.json and"
        f" give its path or its folder{hint}"
    )


def preset_like(hub_name: str, presets: Sequence[str]) -> str | None:
    """The preset whose name is, or begins, a model's name on a hub (`Qwen/Qwen3-30B-A3B-FP8`)."""
    name = hub_name.rpartition("/")[2].lower().removeprefix("meta-")
    like = [preset for preset in presets if name == preset or name.startswith(f"{preset}-")]
    return max(like, key=len, default=None)
