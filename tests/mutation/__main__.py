"""Does a test notice? Changes one formula at a time in a copy of the tree, and runs the fast tests.

    python -m tests.mutation --seed 0 --places 60
    python -m tests.mutation --seed 1 --places 20 costmodel/routing costmodel/costs/energy.py

`changes.py` says what is changed, `mutants.py` where. The places are drawn by the seed, as many
from each folder; each mutant meets the tests of its own folder first, then those that import its
module, then all other fast ones, until one fails. Format, lint, types, slow tests and those of
`COMPARES_ITSELF` do not count. A mutant is killed, or it survives: then a test is missing, or it
belongs into `equivalent.py` with the reason. One that takes more than `CPU_S` or `MEMORY_BYTES` is
timed out: noticed, but by no test. Exit status 1 if any survived. By hand, not in CI: 60 places
take half an hour of CPU time.
"""

import argparse
import ast
import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Literal, TypeAlias

from tests.mutation.changes import signatures_of
from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import Mutant, draw, places

ROOT = Path(__file__).parents[2]
FOLDERS = tuple(f"costmodel/{name}" for name in ("layers", "routing", "costs", "validation"))
FAST = "not slow and not browser and not gpu"  # as `make check` runs them
AT_ONCE = 2  # mutants: the tests of more would keep each other waiting
CPU_S = 300  # of one run of tests; all fast ones take 100
MEMORY_BYTES = 8 * 2**30  # of address space: a mutant may ask for an array of any size

# Tests whose expected value is the code's own output, or that run for none of our formulas. Tests
# that arrays give what single numbers give stay where both sides are written apart (`tests/costs`,
# `tests/routing`): single numbers are held to hand calculations in the same file, so they are an
# oracle for the arrays; and a mutant of what both sides share changes both, and passes.
COMPARES_ITSELF = {
    "tests/browser": "pages against predictions of the same formulas",
    "tests/dashboard": "pages against predictions of the same formulas",
    "tests/docs": "committed pages against what commands print",
    "tests/cli/test_cli.py": "text, CSV and completion against the JSON of the same command",
    "tests/mutation": "tests of this script, which read the source",
    "tests/show/test_labels.py": "style: where words stand in the source",
    "tests/questions/test_batched.py": "designs as arrays against the same designs one by one",
    "tests/questions/test_designs.py": "designs against `predict` of the same model",
    "tests/questions/test_sweep.py": "points of a sweep against `predict` of the same step",
    "tests/questions/test_request.py::test_sums_are_those_of_single_predictions": "so it says",
    "tests/recordings/test_calibration.py::test_every_point_of_a_sweep_is_its_own_prediction": (
        "so it says"
    ),
    "tests/validation/test_repeatability.py::test_the_table_says_what_was_measured": (
        "a committed page against what a command prints"
    ),
}
PROGRAM = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_CPU, ({CPU_S}, {CPU_S}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
sys.argv[0] = "pytest"
runpy.run_module("pytest", run_name="__main__")
"""
OPTIONS = (
    *("-x", "-q", "--no-header", "--tb=line", "-rfE", "-n", "0", "-m", FAST),
    *("-p", "no:cacheprovider", "--hypothesis-profile=mutants"),
)
PASSED, FAILED, STOPPED, NO_TESTS = 0, 1, 2, 5  # exit statuses of pytest
SHOWN = 60  # characters of a change on either side

Verdict: TypeAlias = Literal["killed", "survived", "timed out", "equivalent"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one mutant, and through which test or reason."""

    mutant: Mutant
    verdict: Verdict
    by: str = ""

    def __str__(self) -> str:
        """Three lines: where, what, and who noticed."""
        mutant = self.mutant
        before, after = _difference(mutant.before, mutant.after)
        where = f"{mutant.path}:{mutant.line} {mutant.function}"
        return f"{self.verdict:10} {where}\n    {before}  ->  {after}\n    {self.by}"


def _difference(before: str, after: str) -> tuple[str, str]:
    """Both texts from a little before the first character in which they differ."""
    pairs = enumerate(zip(before, after, strict=False))
    first = next((at for at, (old, new) in pairs if old != new), 0)
    start = max(0, first - SHOWN // 2)
    old, new = (" ".join(text[start : start + 2 * SHOWN].split()) for text in (before, after))
    return old, new


class Tree:
    """A private copy of the working tree, in which one mutant at a time is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, files.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        compileall.compile_dir(  # by content: a mutant may have the size and second of the original
            folder / "costmodel",
            quiet=1,
            invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH,
        )

    def tests(self, files: Iterable[str]) -> tuple[int, str]:
        """Run the fast tests of these files until one fails; the exit status and the last lines."""
        left_out = [f"--deselect={test}" for test in COMPARES_ITSELF]
        command = (sys.executable, "-c", PROGRAM, *OPTIONS, *left_out, *files)
        environment = os.environ | {"PYTHONPATH": str(self.folder)}
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    def outcome(self, mutant: Mutant, stages: Iterable[list[str]]) -> Outcome:
        """Try a mutant against one list of test files after the other."""
        path = self.folder / mutant.path
        source = path.read_text()
        path.write_text(mutant.applied(source))
        try:
            for files in filter(None, stages):
                status, printed = self.tests(files)
                if status in {PASSED, NO_TESTS}:
                    continue
                if status not in {FAILED, STOPPED}:
                    return Outcome(mutant=mutant, verdict="timed out", by=f"status {status}")
                return Outcome(mutant=mutant, verdict="killed", by=_first_failure(printed))
        finally:
            path.write_text(source)
        return Outcome(mutant=mutant, verdict="survived", by="by all fast tests")


def _first_failure(printed: str) -> str:
    """The test that failed, and the first line of why: an assertion, or what else ended it."""
    test = re.search(r"^(?:FAILED|ERROR) (\S+)", printed, re.MULTILINE)
    why = re.search(
        r"^E +((?:assert|[\w.]+(?:Error|Exception|Warning)\b).*)", printed, re.MULTILINE
    )
    return f"{test[1] if test else printed[-200:]}: {why[1][:SHOWN] if why else 'unknown'}"


def stages(module: str, imports: dict[str, set[str]]) -> Iterator[list[str]]:
    """Test files by their distance from a module: of its folder, importing it, and the others."""
    _, folder, *_ = module.split(".")
    stem = module.rpartition(".")[2]
    named = [file for file in imports if Path(file).stem == f"test_{stem}"]
    near = [file for file in imports if file.startswith(f"tests/{folder}/") and file not in named]
    near.sort(key=lambda file: module not in imports[file])
    importing = [file for file, found in imports.items() if module in found]
    importing.sort(key=lambda file: len(imports[file]))  # those of little else come first
    seen: set[str] = set()
    for files in (named + near, importing, list(imports)):
        yield [file for file in files if file not in seen]
        seen |= set(files)


def imports_of_tests() -> dict[str, set[str]]:
    """Every test file that counts, with the modules of the cost model that it imports."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        file = path.relative_to(ROOT).as_posix()
        if not any(file.startswith(test) for test in COMPARES_ITSELF):
            found[file] = set(_imported(ast.parse(path.read_text())))
    return found


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names)


def sources(where: Iterable[str]) -> Iterator[list[list[Mutant]]]:
    """The places of each folder or file, which are drawn from by turns."""
    signatures = signatures_of(sorted((ROOT / "costmodel").rglob("*.py")))
    for name in where:
        path = ROOT / name
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
        yield [
            place
            for file in files
            for place in places(file.relative_to(ROOT).as_posix(), file.read_text(), signatures)
        ]


def tried(mutants: Iterable[Mutant], folder: Path) -> Iterator[Outcome]:
    """Every mutant's outcome, in order; `AT_ONCE` run side by side."""
    imports = imports_of_tests()
    trees: Queue[Tree] = Queue()
    for number in range(AT_ONCE):
        trees.put(Tree(folder / str(number)))
    tree = trees.get()
    status, printed = tree.tests(imports)
    trees.put(tree)
    if status != PASSED:
        sys.exit(f"the tests fail without any change:\n{printed}")

    def one(mutant: Mutant) -> Outcome:
        reason = EQUIVALENT.get((mutant.path, mutant.function, mutant.before, mutant.after))
        if reason is not None:
            return Outcome(mutant=mutant, verdict="equivalent", by=reason)
        module = mutant.path.removesuffix(".py").replace("/", ".")
        tree = trees.get()
        try:
            return tree.outcome(mutant, stages(module, imports))
        finally:
            trees.put(tree)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(one, mutants)


def main() -> None:
    """Draw, try, and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--places", type=int, default=60)
    parser.add_argument("where", nargs="*", default=FOLDERS, help="folders or files; usually four")
    asked = parser.parse_args()
    mutants = draw(sources(asked.where), asked.places, asked.seed)
    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for outcome in tried(mutants, Path(folder)):
            counted[outcome.verdict] += 1
            print(outcome, flush=True)
    print(", ".join(f"{number} {verdict}" for verdict, number in counted.most_common()))
    sys.exit(counted["survived"] > 0)


if __name__ == "__main__":
    main()
