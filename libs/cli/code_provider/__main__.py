"""The ``code-provider`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

from code_provider.services import SERVICES, main_of

USAGE: Final = f"""\
usage: code-provider [serve|init|nats-auth|doctor|SERVICE]

  serve      run all of the provider's services (the default)
  init       install the provider's API in its workspace and declare its streams in NATS, then exit
  nats-auth  write a nats-server's users, and a key for each service (--help says more)
  doctor     check what the services need, and say what to mend (--help says more)
  SERVICE    run one service: {", ".join(SERVICES)}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Returns the exit code: its own, or 2 for arguments that are not known. A service exits by itself."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Imported late, because init needs neither the services nor their memory.
    match arguments or ["serve"]:
        case ["init"]:
            from code_provider.init import init

            return init(os.environ)
        case ["serve"]:
            from code_provider.serve import serve

            return serve(os.environ)
        case ["nats-auth", *options]:
            from code_provider.nats_auth import nats_auth

            return nats_auth(options)
        case ["doctor", *options]:
            from code_provider.doctor import doctor

            return doctor(options, os.environ)
        case [service] if service in SERVICES:
            return main_of(service)()
        case ["-h" | "--help" | "help"]:
            print(USAGE, end="")
            return 0
        case _:
            print(USAGE, end="", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
