"""The command line as a process: Ctrl-C is answered from the first line on, while modules are still imported."""

from __future__ import annotations

import os
import sys

from codesign import interrupts

_NO_PLAN, _INTERRUPTED = 4, 130
"""Exit codes of an interrupt before there is anything: of `solve`, and of all other commands, as shells have it."""


def main() -> None:
    """Run the command line of this process."""
    interrupts.listen()
    try:
        from codesign.cli import main as run

        run()
    except KeyboardInterrupt:
        print("codesign: interrupted", file=sys.stderr)
        _end(_INTERRUPTED)
    except SystemExit as end:
        if end.code in (_NO_PLAN, _INTERRUPTED):  # perhaps in the midst of an import: nothing is to be tidied up
            _end(end.code)
        raise
    except Exception:
        if not interrupts.heard():
            raise
        print("codesign: interrupted", file=sys.stderr)
        _end(_INTERRUPTED)


def _end(code: int | str | None) -> None:
    """End at once."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_NO_PLAN if sys.argv[1:2] == ["solve"] else _INTERRUPTED if code != _NO_PLAN else _NO_PLAN)


if __name__ == "__main__":
    main()
