"""Everything the services of the code provider share, in packages that build on each other.

From the bottom up: ``api`` (kinds, models, results), ``process`` (settings, logs, health), ``kcp`` and ``messaging``
(the two systems inside the platform), ``githost`` (the systems outside), ``controller`` (what a reconciler is and what
runs it), ``testing`` (fakes). A package imports the packages below it and none above; import-linter checks that.
"""
