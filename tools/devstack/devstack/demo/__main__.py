"""``python -m devstack.demo [demo|up|down]``."""

from __future__ import annotations

import os
import sys

from devstack.demo.down import down
from devstack.demo.screen import Screen
from devstack.demo.session import run
from devstack.demo.show import show
from devstack.demo.up import up
from devstack.errors import StackError
from devstack.settings import Settings


def main() -> int:
    screen = Screen()
    command = sys.argv[1] if len(sys.argv) > 1 else "demo"
    try:
        settings = Settings.from_environ(os.environ)
    except StackError as problem:
        screen.say(f"failed: {problem}")
        return 2
    match command:
        case "demo":
            return run(show(settings, screen), screen)
        case "up":
            return run(up(settings, screen), screen, when_stopped=0)
        case "down":
            return down(screen)
        case _:
            screen.plain("usage: python -m devstack.demo [demo|up|down]")
            return 2


if __name__ == "__main__":
    sys.exit(main())
