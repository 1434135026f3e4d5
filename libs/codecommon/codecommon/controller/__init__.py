"""What the author of a reconciler touches, and the engine beneath it.

``reconciler``, ``context`` and ``connections`` are the author's side: what to implement, what to read and write with,
and how to reach the git host. ``runtime`` and what it uses take messages, run reconcilers and turn results into
conditions and acknowledgements; a new kind needs no change there. It imports every other package but ``testing``.
"""
