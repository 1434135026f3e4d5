"""The service as a process."""

import json
import signal
import subprocess
import sys
import urllib.request


def test_it_is_ready_without_any_dependency_and_stops_when_asked() -> None:
    with subprocess.Popen([sys.executable, "-m", "access_svc"], env={}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        messages: list[str] = []
        for line in process.stderr:
            messages.append(json.loads(line)["message"])
            if messages[-1] == "started":
                break
        address = messages[0].rpartition(" ")[2]
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as response:
            assert json.load(response)["ready"] is True

        process.send_signal(signal.SIGTERM)

        assert process.wait(10) == 0
        assert [message for message in messages if "not" in message and "in this release" in message]
