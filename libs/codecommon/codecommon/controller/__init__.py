"""What the author of a reconciler touches, and the engine beneath it.

The author's side: ``reconciler`` says what to implement, ``context`` what to read and write the object with,
``connections`` how to reach the git host, and ``create_claim`` how to create something there. The engine's side:
``engine`` takes messages, ``worker`` carries each one to its answer, ``reconcile`` runs the reconciler, and
``conditions`` turns a result into conditions. A new kind needs no change there. It imports every other package but
``testing``.
"""
