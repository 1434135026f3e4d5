"""Reconciles DeployKeys and Collaborators."""
