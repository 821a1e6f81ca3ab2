"""From documents to one HTML file that needs no network: styles, script and figures inside.

Names in plans are not trusted: the template escapes them, so do drawings, and the page's own
Content-Security-Policy runs the one script that is known by its hash, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.files import write_atomically
from codesign.report.page.architecture import architecture_document
from codesign.report.page.blocks import Document, Figure, Table
from codesign.report.page.front import front_figure, front_table, order
from codesign.report.page.plan import plan_document
from codesign.report.page.plans import PlanFile
from codesign.report.page.simulated import Simulated

if TYPE_CHECKING:
    from codesign.architecture.solution import ArchitectureSolution
    from codesign.planner import Explanation
    from codesign.study.front import Front

_TEMPLATES = Path(__file__).parent / "templates"


def render_report(
    plans: Sequence[PlanFile],
    title: str = "",
    explanation: Explanation | None = None,
    simulated: Simulated | None = None,
    front: Front | None = None,
) -> str:
    """The page of one plan, or of several with their front.  `explanation` and `simulated` belong
    to a single plan, `front` to the plans of a frontier.

    Raises ValueError where there are no plans.
    """
    if not plans:
        raise ValueError("found no plans; expected at least one")
    documents = [
        plan_document(plan.solution, plan.problem, *((explanation, simulated) if len(plans) == 1 else ()))
        for plan in plans
    ]
    if len(plans) == 1:
        return _page(documents, [plans[0].name], title)
    names = [plan.name for plan in plans]
    return _page(documents, names, title, front_figure(plans, front), front_table(plans, front), order(plans))


def render_architecture(found: ArchitectureSolution, name: str) -> str:
    """The page of designed chips."""
    return _page([architecture_document(found)], [name], "")


def _page(
    documents: Sequence[Document],
    names: Sequence[str],
    title: str,
    front: Figure | None = None,
    overview: Table | None = None,
    shown: Sequence[int] = (0,),
) -> str:
    """The page of documents by name; the first of `shown` is seen at first, the others behind links."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    page: str = environment.get_template("report.html.j2").render(
        title=title or documents[0].title,
        names=names,
        documents=documents,
        front=front,
        overview=overview,
        order=shown,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        script=script,
        hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page


def write_report(page: str, path: str | Path) -> None:
    """Write the page atomically."""
    write_atomically(Path(path), page)
