"""The target of links that carry a model: the text in `?own=`, damaged packed and unpacked."""

import base64
import json
import zlib
from pathlib import Path
from random import Random

from costmodel.inputs.catalog import FOLDER
from dashboard.app.own_model import packed, read_model, unpacked
from tests.fuzz.files import check_model, config_files, toml_files
from tests.fuzz.mutations import damaged, damaged_bytes
from tests.fuzz.target import Case, Target, refused

ODD = ("", "=", "-", "_", "a", "\ud800", "\uff11", "A" * 6001, "eJw", "%00", " ", "\n", "null")
BOMB = base64.urlsafe_b64encode(zlib.compress(b"[" * 10_000_000, 9)).decode()


def make(rng: Random, _: Path) -> Case:
    """A case: the link of a model, damaged, unpacked and read as the pages do."""
    good = rng.choice(rng.choice((config_files(), toml_files(FOLDER))))
    text = good.decode()
    how = rng.random()
    if how < 0.4:
        text = damaged_bytes(good, rng, good).decode("utf-8", "replace")
    elif how < 0.6 and text.startswith("{"):
        text = json.dumps(damaged(json.loads(text), rng, {}), default=str)
    link: list[str] = [rng.choice((*ODD, BOMB))]
    if how < 0.9:
        refused(lambda: link.append(packed(text) or ""))
    if how > 0.7:
        link.append(
            damaged_bytes(link[-1].encode("ascii", "replace"), rng, b"-_=").decode("latin-1")
        )

    def attempt() -> bool:
        models = []
        if refused(lambda: models.append(read_model(unpacked(link[-1])))):
            return False
        return not refused(lambda: check_model(models[0], Random(0)))

    return Case(text=link[-1], attempt=attempt)


LINKS = Target(name="link", make=make, share=2)
