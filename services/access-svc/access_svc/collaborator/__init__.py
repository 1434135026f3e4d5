"""Collaborator: one user with access to one repository."""
