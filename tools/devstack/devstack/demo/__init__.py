"""``make demo``, ``make up`` and ``make down``: the whole stack for a person to look at."""
