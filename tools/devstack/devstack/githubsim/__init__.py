"""A simulator of GitHub's REST API for tests and demonstrations.

`GithubSim.serve()` runs one in this process, `python -m devstack.githubsim` in its own; `SimControl` sets
up accounts and repositories, breaks things, and reads what was asked, in either case.
"""

from devstack.githubsim.control import SimControl
from devstack.githubsim.server import GithubSim

__all__ = ["GithubSim", "SimControl"]
