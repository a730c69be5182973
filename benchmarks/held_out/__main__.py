"""The command `python -m benchmarks.held_out`, to be run from the root of the project.

--shapes             draw the models and cases anew (they are committed; the seed is fixed)
--commit             write the predictions and digests, to be committed to git before measuring
--check              say whether the files are still those of the commitment
--out FOLDER         measure, on an H200, for --minutes M; --resume goes on
--out FOLDER --sum   write FOLDER/held_out.json anew, and measure nothing
"""

import argparse
import sys
from pathlib import Path
from time import monotonic

from benchmarks.held_out.commitment import check_commitment, commit
from benchmarks.held_out.journal import Journal
from benchmarks.held_out.measure import Instruments, measure
from benchmarks.held_out.shapes import held_out_models, write_shapes
from benchmarks.held_out.summary import NAME, summary, summary_text
from costmodel.errors import InputError, WorkError
from costmodel.inputs.output_file import OutputFile
from costmodel.inputs.parse import parse_count
from costmodel.show.text import printable

MOST_MINUTES = 1440
ENDING_S = 10.0  # for the last file
INTERRUPTED = 130  # the usual exit code after Ctrl-C


def main(arguments: list[str] | None = None, instruments: Instruments | None = None) -> int:
    """Do what the options ask for; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.shapes:
            write_shapes()
        elif options.commit:
            _say(f"committed: {len(commit().predictions):,} predictions")
        elif options.check:
            _say(f"as committed at {check_commitment().committed}")
        else:
            return _measure(options, instruments)
    except (InputError, WorkError) as error:
        _say(f"error: {error}")
        return 2 if isinstance(error, InputError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.held_out", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    for flag in ("shapes", "commit", "check", "resume", "sum"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", default="10")
    return parser


def _measure(options: argparse.Namespace, instruments: Instruments | None) -> int:
    if options.out is None:
        raise InputError("out='': a folder is expected, or one of the other options")
    minutes = parse_count(options.minutes, field="minutes", low=1, high=MOST_MINUTES)
    ends_s = monotonic() + 60 * minutes - ENDING_S
    journal = Journal(out=options.out)
    journal.open(check_commitment(), resume=options.resume or options.sum)
    status = 0
    try:
        if not options.sum:
            whole = measure(journal, held_out_models(), ends_s, _say, instruments)
            _say("all is measured" if whole else "not all is measured")
    except KeyboardInterrupt:
        _say("interrupted: what was measured is kept; go on with --resume")
        status = INTERRUPTED
    finally:
        out = OutputFile(path=options.out / NAME, force=True)
        out.write(summary_text(summary(journal, held_out_models())))
    return status


def _say(message: str) -> None:
    sys.stderr.write(f"{printable(message)}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
