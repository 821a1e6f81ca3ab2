"""The command line's process, also `python -m codesign`: interrupted at any moment, it ends without a traceback."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from codesign.cli import main as run

        run()
    except KeyboardInterrupt:  # while the first modules are imported, or when all is done
        sys.exit(130)


if __name__ == "__main__":
    main()
