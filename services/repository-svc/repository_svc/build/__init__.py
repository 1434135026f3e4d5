"""The kind RepositoryBuildStatus."""
