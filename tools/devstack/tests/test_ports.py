"""Which ports are free."""

from __future__ import annotations

from devstack.ports import held_ports, is_free


def test_a_held_port_is_nobody_elses_until_it_is_let_go() -> None:
    with held_ports(2) as held:
        ports = [one.getsockname()[1] for one in held]
        assert [is_free(port) for port in ports] == [False, False]
        held[0].close()
        assert [is_free(port) for port in ports] == [True, False]
    assert is_free(ports[1])
