"""CITATION.cff names the software as pyproject.toml does, and invents nothing."""

import re
import tomllib

from docs.write import ROOT

TEXT = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def fields() -> dict[str, str]:
    """The top-level keys of a YAML file that holds scalars, folded text and lists, and no more."""
    found: dict[str, str] = {}
    for line in TEXT.splitlines():
        if key := re.fullmatch(r"([a-z-]+):(?: (.*))?", line):
            assert key[1] not in found, line
            name, found[key[1]] = key[1], key[2] or ""
        else:
            assert re.fullmatch(r"  \S.*", line), line
            found[name] += f"\n{line.strip()}"
    return found


def test_it_is_a_citation_of_this_software() -> None:
    cited = fields()
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] == "software"
    assert cited["title"] == PROJECT["name"]
    assert cited["version"] == PROJECT["version"]
    assert cited["license"] == PROJECT["license"]
    assert cited["authors"] == "\n- name: The sparsecost developers"


def test_it_has_what_the_format_demands_and_no_invented_address() -> None:
    """CFF 1.2.0 requires `authors`, `cff-version`, `message` and `title`."""
    assert fields().keys() >= {"authors", "cff-version", "message", "title"}
    assert not fields().keys() & {"doi", "url", "repository", "repository-code", "identifiers"}


def test_no_value_needs_quotes() -> None:
    """A plain YAML scalar holds no `: ` and no ` #`, and does not begin with an indicator."""
    for name, value in fields().items():
        first, *lines = value.split("\n")
        folded = first == ">-"
        for line in lines if folded else [first, *lines]:
            plain = line.removeprefix("- ").removeprefix("name: ")
            assert ": " not in plain, name
            assert " #" not in plain, name
            assert not plain.startswith(tuple("&*!|>'\"%@`{}[],?")), name
