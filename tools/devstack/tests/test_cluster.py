"""The plain client for a workspace of kcp."""

from __future__ import annotations

import pytest
from aiohttp import web

from devstack.cluster import Cluster, open_session
from devstack.errors import ApiError
from devstack.kubeconfig import Access
from devstack.ports import LOOPBACK, free_ports

BUSY = (429, {"Retry-After": "0"})


@pytest.mark.parametrize("last", [200, 503])
async def test_a_server_that_is_busy_is_asked_again_and_any_other_answer_is_one(last: int) -> None:
    answers = [BUSY, BUSY, (last, {})]

    async def answer(request: web.Request) -> web.Response:
        status, headers = answers.pop(0)
        return web.json_response({"items": []}, status=status, headers=headers)

    app = web.Application()
    app.router.add_get("/api/v1/namespaces/default/secrets", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    port = free_ports(1)[0]
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
        async with open_session() as session:
            cluster = Cluster(session, Access(f"http://{LOOPBACK}:{port}", None, None))
            if last == 200:
                assert await cluster.list("secrets") == []
            else:
                with pytest.raises(ApiError, match="503"):
                    await cluster.list("secrets")
    finally:
        await runner.cleanup()
    assert answers == []
