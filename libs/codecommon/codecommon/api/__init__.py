"""Typed views of the objects in group ``code.kedge.faros.sh/v1alpha1``; wire names are pydantic aliases."""
