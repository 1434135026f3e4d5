"""Everything the services of the code provider share."""
