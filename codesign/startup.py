"""What has to happen before other packages are imported, so that a small command starts in a second.

Pyomo has all of scipy.stats loaded as soon as anybody imports SciPy (0.4 s), for functions of its own that we never
call.  Without its callback it does so where one of those is called.
"""

from pyomo.common.dependencies import DeferredImportCallbackFinder

getattr(DeferredImportCallbackFinder, "_callbacks", {}).pop("scipy", None)
