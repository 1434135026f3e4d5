"""Reconciles Connections."""
