"""The kind RepositoryCommit."""
