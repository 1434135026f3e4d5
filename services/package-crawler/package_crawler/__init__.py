"""Mirrors published packages."""
