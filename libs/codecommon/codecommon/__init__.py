"""Everything the services of the code provider share, in rooms that build on each other.

From the bottom up: ``api`` (kinds, models, results), ``process`` (settings, logs, health), ``kcp`` and ``messaging``
(the two things we talk to inside), ``githost`` (what we talk to outside), ``controller`` (what a reconciler is and what
runs it), ``testing`` (fakes). A room imports the rooms below it and none above; import-linter checks that.
"""
