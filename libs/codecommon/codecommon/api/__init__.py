"""The API group ``code.kedge.faros.sh/v1alpha1``: its kinds, typed models, and the results of reconciling them.

Change it when a CRD changes, a kind is added, or a condition or reason is. It imports nothing of ours, and no I/O:
whoever reads it sees the vocabulary that all other packages speak.
"""
