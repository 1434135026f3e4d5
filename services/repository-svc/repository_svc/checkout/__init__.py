"""The kind RepositoryCheckout."""
