"""Control plane, git host simulator and development hub for tests and demos."""
