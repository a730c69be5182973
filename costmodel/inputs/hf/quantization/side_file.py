"""NVIDIA's `hf_quant_config.json`, which states the quantisation of the `config.json` beside it."""

from pathlib import Path
from typing import Final

from costmodel.errors import InputError, shown
from costmodel.inputs.files import read_json_object
from costmodel.inputs.hf.fields import Fields

SIDE_FILE: Final = "hf_quant_config.json"


def read_side_file(config: Path, model_type: str) -> Fields | None:
    """The object `quantization` of the side file; None: there is no such file.

    The file is looked for under its one name in the folder of a file named `config.json`. A link
    is followed only to the folder to which `config.json` itself leads, as in the Hugging Face
    cache, where both lead to the folder of blobs.

    Raises:
        InputError: It leads elsewhere, cannot be read, or holds keys that are not understood.
    """
    path = config.with_name(SIDE_FILE)
    if config.name != "config.json" or not path.is_file():
        return None
    where = f"file={shown(str(path))}"
    if path.resolve().parent != config.resolve().parent:
        raise InputError(f"{where}: leads to another folder than config.json")
    whole = Fields(read_json_object(path), model_type=model_type, where=where)
    inner = whole.child("quantization")
    whole.finish({"producer"})
    return inner
