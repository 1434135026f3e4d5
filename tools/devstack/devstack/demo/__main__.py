"""``python -m devstack.demo [demo|up|down]``."""

from __future__ import annotations

import os
import sys

from devstack import connect_with_github
from devstack.demo.down import down
from devstack.demo.screen import Screen
from devstack.demo.session import run
from devstack.demo.show import show
from devstack.demo.up import up
from devstack.env_file import EnvFile
from devstack.errors import StackError
from devstack.paths import REPOSITORY
from devstack.settings import Settings


def main() -> int:
    screen = Screen()
    command = sys.argv[1] if len(sys.argv) > 1 else "demo"
    if command == "down":
        return down(screen)
    env_file = EnvFile()
    try:
        if command == "up":
            env_file = EnvFile.read(REPOSITORY / ".env")
        # What the shell says stands before what the file says.
        settings = Settings.from_environ({**env_file.values, **os.environ})
        if command == "up":
            connect_with_github.check(settings.oauth)
    except StackError as problem:
        screen.say(f"failed: {env_file.explain(problem, os.environ)}")
        return 2
    match command:
        case "demo":
            return run(show(settings, screen), screen)
        case "up":
            return run(up(settings, screen), screen, when_stopped=0)
        case _:
            screen.plain("usage: python -m devstack.demo [demo|up|down]")
            return 2


if __name__ == "__main__":
    sys.exit(main())
