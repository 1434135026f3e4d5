"""Everything one simulator consists of, without the server around it."""

from __future__ import annotations

from devstack.githubsim.downloads import Downloads
from devstack.githubsim.faults import FaultRules
from devstack.githubsim.journal import Journal
from devstack.githubsim.limits import PrimaryQuota, SecondaryLimits
from devstack.githubsim.switches import SwitchBoard
from devstack.githubsim.world import Clock, World


class Simulation:
    """The world, what may go wrong with it, and the record of what was asked."""

    def __init__(self, clock: Clock, world: World | None = None) -> None:
        self.clock = clock
        self.world = world or World(clock)
        self.journal = Journal()
        self.switches = SwitchBoard()
        self.faults = FaultRules()
        self.quota = PrimaryQuota()
        self.downloads = Downloads()
        self.secondary = SecondaryLimits()
