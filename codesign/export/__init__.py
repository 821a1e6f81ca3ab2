"""`codesign export`: a plan as launch commands and manifests of serving engines, and its MILP as a file."""

from codesign.export.deploy import ENGINES, ExportError, deployment, write_files
from codesign.export.milp import write_milp

__all__ = ["ENGINES", "ExportError", "deployment", "write_files", "write_milp"]
