"""README and docs/: generated parts are current, links lead somewhere, and commands run."""

import re
import shlex
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from costmodel.cli.app import app
from costmodel.cli.plugins import ENTRY_POINTS
from costmodel.inputs.model import model_from_table
from costmodel.inputs.parse import parse_routing
from docs.commands import printed
from docs.picture import FILE as PICTURE
from docs.picture import picture
from docs.write import BLOCK, CONSOLE, PAGES, ROOT, VALUE, commands, current, values

README = ROOT / "README.md"
INDEX = ROOT / "docs" / "README.md"
LARGEST_README = 12 * 1024
NOT_RUN = re.compile(r"(?ms)^```bash\n(.*?)^```$")  # too large for CI, or no command of ours
TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
LISTED = sorted(
    {
        command
        for text in TEXTS.values()
        for block in CONSOLE.findall(text)
        for command in commands(block)
    }
)
OUTSIDE = sorted(
    {
        re.sub(r"\s+#.*", "", line)
        for text in TEXTS.values()
        for block in NOT_RUN.findall(text)
        for line in block.splitlines()
    }
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@each_page
def test_generated_parts_are_current(page: Path) -> None:
    assert current(TEXTS[page]) == TEXTS[page], "run: python -m docs.write"


def test_the_picture_is_current() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), "run: python -m docs.write"


@pytest.mark.parametrize("part", [BLOCK, VALUE, CONSOLE], ids=["block", "value", "output"])
def test_a_changed_digit_is_found(part: re.Pattern[str]) -> None:
    """In the last generated part with a digit, of each page that has one."""
    damaged_pages = 0
    for text in TEXTS.values():
        parts = [match[0] for match in part.finditer(text) if len(commands(match[0])) <= 1]
        parts = [generated for generated in parts if re.search(r"\d", generated)]
        if not parts:
            continue
        whole = parts[-1]
        at = list(re.finditer(r"\d", whole))[-1].start()
        damaged = f"{whole[:at]}{(int(whole[at]) + 1) % 10}{whole[at + 1 :]}"
        repaired = current(text.replace(whole, damaged))
        assert repaired.split() == text.split()  # but for line breaks within a value
        damaged_pages += 1
    assert damaged_pages >= 2


@each_page
def test_a_wrapped_line_does_not_begin_with_a_mark(page: Path) -> None:
    """Markdown would take it for a list, or, where it begins with a value, for HTML.

    A numbered list begins with 1 behind an empty line, and counts on.
    """
    prose = re.sub(r"(?ms)^```.*?^```$", "", TEXTS[page])
    assert not re.findall(r"(?m)^ *(?:[*+] |\d+[)] |<!--=).*", prose)
    before, number = "", 0
    for line in prose.splitlines():
        item = re.match(r"(\d+)[.] ", line)
        if item is not None:
            first = number + 1 if before else 1
            assert int(item[1]) == first, line
        if item is not None or not line:
            number = int(item[1]) if item is not None else 0
        else:
            assert not re.match(r" +\d+[.] ", line), line
        before = line


def test_every_value_is_used() -> None:
    used = {name for text in TEXTS.values() for name, _ in VALUE.findall(text)}
    assert used == set(values())


def test_every_mark_is_closed() -> None:
    for page, text in TEXTS.items():
        assert len(VALUE.findall(text)) == text.count("<!--="), page.name
        assert len(BLOCK.findall(text)) == text.count(":begin -->"), page.name


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) <= LARGEST_README


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    heads = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```$", "", text))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@each_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if target.startswith("https://"):
            assert re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", target), target
            continue
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found.read_text(encoding="utf-8")), target


@each_page
def test_paths_and_modules_in_sentences_exist(page: Path) -> None:
    """`costmodel/layers`, `python -m docs.write` and the like."""
    prose = re.sub(r"(?ms)^```.*?^```$", "", TEXTS[page])
    spans = [span.strip("/") for span in prose.split("`")[1::2]]
    paths = [span for span in spans if re.fullmatch(r"[a-z_]+/[\w/.]*", span)]
    modules = [span.split()[2] for span in spans if span.startswith("python -m ")]
    modules += [span for span in spans if re.fullmatch(r"(?:costmodel|docs)(?:\.\w+)+", span)]
    for path in paths:
        assert (ROOT / path).exists(), path
    for module in modules:
        parts = module.split(".")
        files = [ROOT.joinpath(*parts[:n]).with_suffix(".py") for n in range(2, len(parts) + 1)]
        files.append(ROOT.joinpath(*parts, "__main__.py"))
        assert any(file.exists() for file in files), module


def test_every_page_is_reached_from_the_readme() -> None:
    """By its links and those of the pages that they lead to; the index alone has all."""
    reached, waiting = {README}, [README]
    while waiting:
        for page in linked_pages(waiting.pop()) - reached:
            reached.add(page)
            waiting.append(page)
    assert reached == set(PAGES)
    assert linked_pages(INDEX) | {INDEX, README} == set(PAGES)


def linked_pages(page: Path) -> set[Path]:
    """The pages that a page links to."""
    targets = re.findall(r"\]\(([\w./]+\.md)", TEXTS[page])
    return {(page.parent / target).resolve() for target in targets} & set(PAGES)


def test_a_generated_part_stands_on_one_page() -> None:
    names = [name for text in TEXTS.values() for _, name, *_ in BLOCK.findall(text)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("command", LISTED)
def test_listed_command_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It succeeds, and prints something or writes the file that it names."""
    monkeypatch.chdir(tmp_path)
    assert printed.__wrapped__(command) or any(tmp_path.iterdir())


def test_every_command_is_shown() -> None:
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    names |= {entry.name for entry in entry_points(group=ENTRY_POINTS)}
    shown = {line.split()[1] for line in (*LISTED, *OUTSIDE) if line.startswith("sparsecost ")}
    assert shown == names


@pytest.mark.parametrize("command", [line for line in OUTSIDE if line.startswith("sparsecost ")])
def test_command_that_is_not_run_has_its_options(command: str) -> None:
    help_text = printed(f"sparsecost {command.split()[1]} --help")
    for option in re.findall(r"--[a-z-]+", command):
        assert option in help_text


def test_modules_that_pages_run_exist() -> None:
    for line in OUTSIDE:
        if line.startswith("python -m "):
            module = shlex.split(line)[2]
            assert (ROOT / f"{module.replace('.', '/')}.py").exists(), line


def fenced(page: str, language: str) -> str:
    """The only block of a language on a page."""
    (block,) = all_fenced(page, language)
    return block


def all_fenced(page: str, language: str) -> list[str]:
    """The blocks of a language on a page."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", (ROOT / page).read_text())


def test_the_python_example_works(capsys: pytest.CaptureFixture[str]) -> None:
    program = fenced("README.md", "python")
    exec(compile(program, "README.md", "exec"), {})  # noqa: S102 - our own README
    assert "layers.{0-15}.memory.values" in capsys.readouterr().out


def test_the_toml_example_is_a_model() -> None:
    whole, tables, beside = map(tomllib.loads, all_fenced("docs/models.md", "toml"))
    model = model_from_table(whole, where="models.md")
    assert model.attention_groups[0][1] == (0, 2, 4, 6, 8, 10)
    with_tables = {**whole, "hidden_size": 3072, "memory": tables["memory"]}
    kinds = [memory.kind for memory in model_from_table(with_tables, where="models.md").memory]
    assert kinds == ["per_layer_embedding", "ngram_embedding"]
    longcat = model_from_table({**whole, **beside, "num_hidden_layers": 56}, where="models.md")
    assert longcat.shortcut_placements == [tuple((i, i + 1) for i in range(0, 56, 2))]


def test_the_histogram_example_is_read(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(fenced("docs/models.md", "json"))
    expected = parse_routing(str(path)).expected_distinct(4, 2, 1, kind="experts")
    assert expected == pytest.approx(2)  # one token touches the two it chose
