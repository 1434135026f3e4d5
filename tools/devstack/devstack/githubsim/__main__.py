"""`python -m devstack.githubsim`: serve until SIGINT or SIGTERM. One JSON line on standard output says where."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from pathlib import Path

from devstack.githubsim import state_file
from devstack.githubsim.server import GithubSim


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m devstack.githubsim", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--state-file",
        type=Path,
        help="read accounts, tokens and repositories here at the start, if "
        "there is such a file, and write them back at the end",
    )
    asyncio.run(_serve(parser.parse_args()))


async def _serve(arguments: argparse.Namespace) -> None:
    path: Path | None = arguments.state_file
    world = state_file.load(path, time.time) if path else None
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    async with GithubSim.serve(host=arguments.host, port=arguments.port, world=world) as sim:
        print(json.dumps({"url": sim.url, "downloads": sim.downloads_url}), flush=True)
        await stop.wait()
    if path:
        state_file.save(path, sim.simulation.world)


if __name__ == "__main__":
    main()
