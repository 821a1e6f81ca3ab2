"""From documents to one HTML file that needs no network: styles, script, figures and plotly.js inside.

Names in plans are not trusted: the template escapes them, figures get them escaped for plotly's pseudo-HTML, and
the page's own Content-Security-Policy runs the two scripts that are known by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.files import write_atomically
from codesign.report.page.blocks import Figure
from codesign.report.page.front import front_figure, front_table, order
from codesign.report.page.plan import plan_document
from codesign.report.page.plans import PlanFile

if TYPE_CHECKING:
    from codesign.planner import Explanation

_TEMPLATES = Path(__file__).parent / "templates"


def render_report(plans: Sequence[PlanFile], title: str = "", explanation: Explanation | None = None) -> str:
    """The page of one plan, or of several with their front.  `explanation` belongs to a single plan.

    Raises ValueError where there are no plans.
    """
    if not plans:
        raise ValueError("found no plans; expected at least one")
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    documents = [
        plan_document(plan.solution, plan.problem, explanation if len(plans) == 1 else None) for plan in plans
    ]
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures: list[object] = []

    def place(figure: Figure) -> int:
        figures.append(figure.spec)
        return len(figures) - 1

    several = len(plans) > 1
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    library, packed = _plotly()
    page: str = environment.get_template("report.html.j2").render(
        title=title or documents[0].title,
        names=[plan.name for plan in plans],
        documents=documents,
        front=front_figure(plans) if several else None,
        overview=front_table(plans) if several else None,
        order=order(plans),
        place=place,
        figures=figures,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        hashes=[_hash(script), _hash(library)],
        plotly=packed,
    )
    return page


def write_report(page: str, path: str | Path) -> None:
    """Write the page atomically."""
    write_atomically(Path(path), page)


@cache
def _plotly() -> tuple[str, str]:
    """plotly.js, and the same gzipped and in base64, which is a third of it."""
    from plotly.offline import get_plotlyjs

    library = get_plotlyjs()
    packed = gzip.compress(library.encode(), compresslevel=9, mtime=0)
    return library, base64.b64encode(packed).decode()


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
