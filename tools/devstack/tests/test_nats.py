from __future__ import annotations

from pathlib import Path

import nats
import pytest

from devstack.errors import PortTaken
from devstack.nats import NatsServer

pytestmark = pytest.mark.nats


async def test_acknowledged_messages_survive_a_crash_on_the_same_port(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        url = server.url
        first = await nats.connect(url, allow_reconnect=False)
        stream = first.jetstream()
        await stream.add_stream(name="KEPT", subjects=["kept"])
        await stream.publish("kept", b"still here")
        await server.kill()
        await first.close()
        await server.start()
        second = await nats.connect(url, allow_reconnect=False)
        message = await second.jetstream().get_last_msg("KEPT", "kept")
        await second.close()
    assert message.data == b"still here"


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "one") as server:
        with pytest.raises(PortTaken, match=str(server.port)):
            await NatsServer(tmp_path / "two", port=server.port).start()
