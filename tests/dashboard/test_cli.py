"""The launcher: refuses what Streamlit would only log, and listens for this machine alone."""

import json
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from streamlit import config
from streamlit.web import cli as streamlit_cli

from costmodel.cli.plugins import ENTRY_POINTS
from costmodel.errors import WorkError
from dashboard import cli
from tests.commands import refusal, run

ROOT = Path(__file__).parents[2]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def launched(*arguments: str) -> tuple[list[str], str]:
    """The arguments that Streamlit was started with, and what was said on stderr."""
    started: list[list[str]] = []

    def start() -> None:
        started.append(sys.argv[1:])

    with mock.patch.object(streamlit_cli, "main", start):
        done = run("dashboard", *arguments)
    assert done.code == 0, done
    (streamlit_arguments,) = started
    return streamlit_arguments, done.err


def test_a_taken_port_is_named(taken: int) -> None:
    said = refusal("dashboard", "--port", str(taken), "--headless")
    assert said == f"port={taken}: is taken; choose another with --port"


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])  # of documentation
def test_an_address_of_another_machine_is_named(address: str) -> None:
    said = refusal("dashboard", "--address", address)
    assert said == f"address='{address}': is none of this machine"


@pytest.mark.parametrize("port", ["0", "65536", "x"])
def test_a_port_that_cannot_be_is_refused(port: str) -> None:
    done = run("dashboard", "--port", port)
    assert done.code == 2
    assert "'--port'" in done.err


def test_it_listens_on_localhost_and_says_nothing(free: int) -> None:
    arguments, said = launched("--port", str(free))
    assert said == ""
    assert arguments[:2] == ["run", str(ROOT / "dashboard" / "app" / "entry.py")]
    assert f"--server.port={free}" in arguments
    assert "--server.address=localhost" in arguments
    assert not any("headless" in argument for argument in arguments)
    assert "--server.headless=true" in launched("--port", str(free), "--headless")[0]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_an_address_of_this_machine_alone_is_not_warned_of(free: int, address: str) -> None:
    assert launched("--port", str(free), "--address", address)[1] == ""


def test_an_open_address_is_warned_of(free: int) -> None:
    _, said = launched("--port", str(free), "--address", "0.0.0.0")  # noqa: S104
    assert said.startswith("warning: address='0.0.0.0': anybody who reaches it can")
    assert "start profiles" in said


def test_every_option_is_one_that_streamlit_knows() -> None:
    known = config.get_config_options(force_reparse=False)
    for option in cli.OPTIONS:
        assert option.removeprefix("--").split("=")[0] in known


def test_a_checkout_and_an_installation_start_with_the_same_settings() -> None:
    """The folder .streamlit says for `streamlit run app.py` what the flags say for the command."""
    file = (ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8")
    settings = dict(leaves(tomllib.loads(file)))
    assert settings.pop("server.address") == "localhost"  # which the command passes by itself
    for option in cli.OPTIONS:
        name, _, text = option.removeprefix("--").partition("=")
        value = settings.pop(name)
        assert text == (value if isinstance(value, str) else json.dumps(value)), name
    assert not settings


def test_the_themes_colours_can_be_read() -> None:
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for the parts of controls (1.4.11).

    Streamlit draws white text on the primary colour of the page, and text in the primary colour of
    the sidebar on a tenth of it; its backgrounds are `config.py`'s defaults.
    """
    white, page, sidebar = "#ffffff", "#171614", "#21201d"
    given = dict(option.removeprefix("--").split("=", 1) for option in cli.OPTIONS)
    light, dark = given["theme.light.primaryColor"], given["theme.dark.primaryColor"]
    assert contrast(white, "#767676") == pytest.approx(4.54, abs=0.005)  # WCAG's own example
    assert contrast(light, white) > 4.5
    assert contrast(dark, white) > 4.5
    assert contrast(dark, page) > 3
    said = given["theme.dark.sidebar.primaryColor"]
    assert contrast(said, mixed(said, sidebar, 0.1)) > 4.5


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """WCAG 2.2, "relative luminance"; `colour` is #rrggbb."""
    levels = [value / 255 for value in bytes.fromhex(colour[1:])]
    red, green, blue = (
        level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def mixed(colour: str, ground: str, share: float) -> str:
    """`colour`, of which only `share` covers the ground."""
    pairs = zip(bytes.fromhex(colour[1:]), bytes.fromhex(ground[1:]), strict=True)
    return "#" + bytes(round(share * a + (1 - share) * b) for a, b in pairs).hex()


def leaves(table: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting by its dotted name."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def test_without_streamlit_it_says_what_to_install() -> None:
    with mock.patch.object(cli, "find_spec", return_value=None), pytest.raises(WorkError) as caught:
        cli.dashboard(port=8501, address="localhost", headless=True)
    assert 'pip install "sparsecost[dashboard]"' in str(caught.value)


def test_the_command_is_found_without_importing_streamlit(tmp_path: Path) -> None:
    program = (
        "import sys; from importlib.metadata import entry_points;"
        f" found = [each.load() for each in entry_points(group={ENTRY_POINTS!r})];"
        " sys.exit(bool({'streamlit', 'pandas', 'plotly', 'torch'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
