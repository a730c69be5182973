"""Before any test: an interrupt interrupts.

A shell starts what it puts into the background with SIGINT ignored, and children inherit that; the
tests that interrupt a command would then wait for it in vain.
"""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
