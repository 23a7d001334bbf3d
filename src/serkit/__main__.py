"""Entry point: ``serkit …`` and ``python -m serkit …``. Ctrl-C prints one line from the first moment on."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

SAID = b"serkit: stopped; nothing was started\n"


def open_streams() -> None:
    """Give a standard stream that the caller closed, as ``>&-`` does, the null device: nothing comes, all is dropped.

    Otherwise the next file that is opened takes its number, and whatever prints would write into it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, mode))


def main() -> None:
    """Load the command line and run it; see :func:`serkit.cli.main` for how it ends."""

    def stop(*_: Any) -> None:
        os.write(2, SAID)
        os._exit(130)

    open_streams()
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a program in the background ignores it
    if heard:
        signal.signal(signal.SIGINT, stop)  # an import that is interrupted would end in a traceback
    from serkit import cli
    from serkit.interrupts import postpone_when_unsafe

    try:
        cli.main(postpone_when_unsafe if heard else None)
    except KeyboardInterrupt:  # as it was leaving: the last word is said
        sys.exit(cli.STOPPED)


if __name__ == "__main__":
    main()
