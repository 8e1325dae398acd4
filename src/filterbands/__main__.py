"""`python -m filterbands` is `filterbands`."""

import os
import sys


def run() -> int:
    """Run the command line; Ctrl-C while it is loaded gives one line, and not those of what was loading."""
    try:
        from .cli import main
    except KeyboardInterrupt:
        try:
            os.write(2, b"stopped\n")
        finally:
            os._exit(130)
    return main()


if __name__ == "__main__":
    sys.exit(run())
