"""Where the program `sparsecost` starts: it imports little, so that Ctrl-C is quiet at once.

The commands and their libraries take some tenths of a second to import. Ctrl-C ends the process
meanwhile as the system does it, without Python's traceback; after that `KeyboardInterrupt` lets a
command tidy up.
"""

import signal


def main() -> None:
    """Import the commands, and run the one that `sys.argv` names."""
    handler = signal.getsignal(signal.SIGINT)
    by_python = handler is signal.default_int_handler  # not ignored, as in a job of `nohup`
    if by_python:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from costmodel.cli.app import run
    finally:
        if by_python:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
