"""DeployKey: one SSH key with access to one repository."""
