"""Where the `ntk` command begins. It imports nothing at first: loading may be interrupted in peace."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C ends it without a word, also while it is loaded."""
    try:
        from service.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)  # as shells have it
