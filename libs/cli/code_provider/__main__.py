"""The ``code-provider`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

USAGE = """\
usage: code-provider [serve|init]

  serve  run the provider's services (the default)
  init   install the provider's API in its workspace, then exit
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Returns the exit code: its own, or 2 for arguments that are not known."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Imported late, because init needs neither the services nor their memory.
    match arguments or ["serve"]:
        case ["init"]:
            from code_provider.init import init

            return init(os.environ)
        case ["serve"]:
            from code_provider.serve import serve

            return serve(os.environ)
        case ["-h" | "--help" | "help"]:
            print(USAGE, end="")
            return 0
        case _:
            print(USAGE, end="", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
