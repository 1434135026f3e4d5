"""Reconciles Repositories."""
