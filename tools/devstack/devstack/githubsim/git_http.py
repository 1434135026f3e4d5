"""Git's own smart protocol over HTTP: `git clone`, `git fetch` and `git push` of what the API shows.

The credential is a token as the password of any user. Who may read may fetch, who may write may push.
"""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web

from devstack.githubsim import gitstore
from devstack.githubsim.access import RANK, role_of
from devstack.githubsim.identity import identify
from devstack.githubsim.records import Repository
from devstack.githubsim.simulation import Simulation

_SERVICES = ("git-upload-pack", "git-receive-pack")


def add_routes(app: web.Application, simulation: Simulation) -> None:
    app.router.add_get("/{owner}/{name}.git/info/refs", partial(_advertise, simulation))
    app.router.add_post("/{owner}/{name}.git/{service}", partial(_exchange, simulation))


async def _advertise(simulation: Simulation, request: web.Request) -> web.Response:
    service = request.query.get("service", "")
    repository = _admitted(simulation, request, service)
    advertised = await _run(simulation, repository, service, "--http-backend-info-refs", request, b"")
    line = f"# service={service}\n"
    body = f"{len(line) + 4:04x}{line}0000".encode() + advertised
    return web.Response(body=body, headers=_headers(f"application/x-{service}-advertisement"))


async def _exchange(simulation: Simulation, request: web.Request) -> web.Response:
    service = request.match_info["service"]
    repository = _admitted(simulation, request, service)
    answer = await _run(simulation, repository, service, "--stateless-rpc", request, await request.read())
    if service == "git-receive-pack":
        simulation.world.pushed(repository)
    return web.Response(body=answer, headers=_headers(f"application/x-{service}-result"))


def _admitted(simulation: Simulation, request: web.Request, service: str) -> Repository:
    if service not in _SERVICES:
        raise web.HTTPForbidden
    world = simulation.world
    caller = identify(world, request.headers.get("Authorization"), simulation.clock()).caller
    owner = world.account(request.match_info["owner"])
    repository = world.find(owner, request.match_info["name"]) if owner is not None else None
    writes = service == "git-receive-pack"
    if caller.user is None and (writes or repository is None or repository.visibility != "public"):
        raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="GitHub"'})
    if repository is None:
        raise web.HTTPNotFound
    role = role_of(world, caller.user, repository)
    if role is None and repository.visibility != "public":
        raise web.HTTPNotFound
    # Which branch a clone checks out.
    world.git.set_default(repository.id, repository.default_branch)
    if writes and (role is None or RANK[role] < RANK["write"] or repository.archived):
        raise web.HTTPForbidden
    return repository


async def _run(
    simulation: Simulation, repository: Repository, service: str, mode: str, request: web.Request, stdin: bytes
) -> bytes:
    await asyncio.sleep(simulation.switches.everybody.latency)
    path = simulation.world.git.path(repository.id)
    process = await asyncio.create_subprocess_exec(
        "git",
        service.removeprefix("git-"),
        "--stateless-rpc",
        *(["--http-backend-info-refs"] if mode == "--http-backend-info-refs" else []),
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**gitstore.environment(), "GIT_PROTOCOL": request.headers.get("Git-Protocol", "")},
    )
    try:
        output, _ = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output


def _headers(content_type: str) -> dict[str, str]:
    return {"Content-Type": content_type, "Cache-Control": "no-cache"}
