"""Git hosts: the backend protocol, its registry, and the GitHub implementation."""
