"""The report page: what it says, that names cannot break it, and how it behaves in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from codesign import load_problem
from codesign.cli import app
from codesign.report.page import PlanFile, ReportError, read_plans, render_report
from codesign.report.page.front import efficient
from codesign.report.page.plan import plan_document
from codesign.report.page.render import write_report
from codesign.solution import Solution, load_solution

ROOT = Path(__file__).parent.parent
HOSTILE = """<script>alert(1)</script><img src=x onerror="alert(2)">'{{7*7}}</title>"""
LARGEST = 5_000_000


def reference() -> PlanFile:
    """The agent fleet with its problem."""
    solution = load_solution(ROOT / "solutions" / "agent-fleet.json")
    return PlanFile("agent-fleet", solution, load_problem(ROOT / "problems" / "agent-fleet.yaml"))


def renamed(solution: Solution, old: str, new: str) -> Solution:
    """A solution in which one name stands for another, wherever it does."""
    text = solution.to_json().replace(json.dumps(old), json.dumps(new))
    return Solution.model_validate_json(text)


def scaled(solution: Solution, cost: float, energy: float) -> Solution:
    totals = solution.totals
    assert totals is not None
    changed = {
        "cost_per_task": totals.cost_per_task * cost,
        "energy_per_task_j": totals.energy_per_task_j * energy,
    }
    return solution.model_copy(update={"totals": totals.model_copy(update=changed)})


@pytest.fixture(scope="module")
def plan() -> PlanFile:
    return reference()


@pytest.fixture(scope="module")
def front(plan: PlanFile) -> list[PlanFile]:
    """Three plans: cheap, frugal, and one that the first beats in both."""
    factors = {"cheap": (1.0, 1.0), "frugal": (1.2, 0.8), "beaten": (1.1, 1.1)}
    return [PlanFile(name, scaled(plan.solution, *f)) for name, f in factors.items()]


# ---- what it says


def test_the_answer_is_three_sentences_with_the_plans_own_figures(plan):
    buy, tasks, binds = plan_document(plan.solution).answer
    totals = plan.solution.totals
    assert f"{totals.cost_per_hour:,.2f} $/h" in buy
    assert all(f"{count:,} × {name}" in buy for name, count in totals.accelerators.items())
    assert "every latency promise holds" in tasks
    assert all(task.name in tasks for task in plan.solution.tasks)
    assert "binds" in binds


def test_every_part_of_a_report_is_there(plan):
    document = plan_document(plan.solution, plan.problem)
    names = [section.name for section in document.sections]
    assert names == ["buy", "fleet", "routing", "tasks", "money", "promises", "resources", "intensity", "worth",
                     "accuracy", "provenance"]  # fmt: skip


def test_a_missed_promise_is_said(plan):
    task = plan.solution.tasks[0]
    late = task.slo[0].model_copy(update={"achieved": 2 * task.slo[0].target})
    tasks = (task.model_copy(update={"slo": (late, *task.slo[1:])}), *plan.solution.tasks[1:])
    document = plan_document(plan.solution.model_copy(update={"tasks": tasks}))
    assert "latency promises are missed" in document.answer[1]
    cells = [cell for s in document.sections if s.name == "promises" for row in s.blocks[0].rows for cell in row]
    assert sum(cell.text == "missed" and cell.tone == "bad" for cell in cells) == 1


def test_flows_of_the_diagram_are_the_routes(plan):
    document = plan_document(plan.solution)
    figure = next(s for s in document.sections if s.name == "routing").blocks[0]
    sankey = figure.spec["data"][0]
    ways = plan.solution.routing
    into = sum(v for v, s in zip(sankey["link"]["value"], sankey["link"]["source"], strict=True)
               if sankey["node"]["label"][s] in {r.task for r in ways})  # fmt: skip
    assert into == pytest.approx(sum(route.calls_per_s for route in ways))


def test_figures_are_what_plotly_knows(plan, front):
    import plotly.graph_objects as go

    page = render_report([plan])
    several = render_report(front)
    for text in (page, several):
        for spec in figures_of(text):
            painted = json.loads(re.sub(r'"(color|bgcolor)": "[a-z]+(-soft)?"', r'"\1": "#123456"', json.dumps(spec)))
            for trace in painted["data"]:
                # Lists of palette names are painted by the script.
                for part in ("node", "link", "marker"):
                    if isinstance(trace.get(part, {}).get("color"), list):
                        trace[part]["color"] = "#123456"
            go.Figure(painted)


def figures_of(page: str) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    specs: list[dict[str, Any]] = json.loads(found[1])
    return specs


def test_an_infeasible_problem_reports_its_conflicts():
    solution = load_solution(ROOT / "solutions" / "infeasible.json")
    page = render_report([PlanFile("infeasible", solution)])
    assert all(conflict in page for conflict in solution.conflicts)


def test_measured_pools_have_a_report_without_a_map():
    solution = load_solution(ROOT / "solutions" / "melange-toy.json")
    problem = load_problem(ROOT / "problems" / "melange-toy.yaml")
    document = plan_document(solution, problem)
    assert "intensity" not in {section.name for section in document.sections}


def test_nothing_is_fetched_and_the_page_is_small(plan):
    page = render_report([plan])
    assert len(page.encode()) < LARGEST
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert render_report([plan]) == page


def test_the_efficient_plans_are_those_that_none_beats(front):
    assert efficient(front) == {0, 1}
    assert efficient([*front, PlanFile("same", front[0].solution)]) == {0, 1, 3}


# ---- files


def test_a_folder_gives_its_solutions_and_passes_over_other_files(tmp_path, plan):
    shutil.copy(ROOT / "solutions" / "agent-fleet.json", tmp_path / "a.json")
    (tmp_path / "points").mkdir()
    shutil.copy(ROOT / "solutions" / "melange-toy.json", tmp_path / "points" / "b.json")
    (tmp_path / "front.json").write_text("[]")
    assert [each.name for each in read_plans(tmp_path)] == ["a", "points/b"]
    with pytest.raises(ReportError, match="no solution file"):
        read_plans(ROOT / "problems")


def test_the_problem_is_found_by_the_recorded_command_and_its_hash(tmp_path):
    shutil.copy(ROOT / "problems" / "melange-toy.yaml", tmp_path / "p.yaml")
    run = CliRunner()
    solved = run.invoke(app, ["solve", str(tmp_path / "p.yaml"), "-o", str(tmp_path / "s.json")])
    assert solved.exit_code == 0, solved.output
    assert read_plans(tmp_path / "s.json")[0].problem is not None
    with (tmp_path / "p.yaml").open("a") as file:
        file.write("# changed since\n")
    assert read_plans(tmp_path / "s.json")[0].problem is None
    told = run.invoke(app, ["report", str(tmp_path / "s.json"), "--problem", str(tmp_path / "p.yaml")])
    assert told.exit_code == 2
    assert "sha256" in told.output


@pytest.mark.parametrize("words", [["nowhere.json"], ["."], ["--why-not", "solutions/infeasible.json"]])
def test_what_cannot_be_shown_exits_2(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(app, ["report", *[w.replace("solutions", str(ROOT / "solutions")) for w in words]])
    assert told.exit_code == 2
    assert "expected" in told.output or "cannot be read" in told.output
    assert not (tmp_path / "report.html").exists()


# ---- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium (Debian's), driven by playwright; `.ci/run` installs both."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield running
        running.close()


class Opened:
    """A page in the browser without a network, and what it complained of."""

    def __init__(self, browser: Any, path: Path, **context: Any) -> None:
        self.context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900}, **context)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url.split(":")[0]))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")

    def drawn(self) -> int:
        """Figures that are drawn, once the page has been scrolled through."""
        for place in self.page.locator("[data-figure]").all():
            if place.is_visible():
                place.scroll_into_view_if_needed()
                place.locator("svg.main-svg").first.wait_for()
        return int(self.page.locator(".js-plotly-plot").count())


@pytest.fixture(scope="module")
def report(plan: PlanFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "plan.html"
    write_report(render_report([plan]), path)
    return path


def test_it_renders_offline_in_both_themes_without_a_complaint(browser, report):
    for scheme in ("light", "dark"):
        opened = Opened(browser, report, color_scheme=scheme)
        assert opened.drawn() == 3
        assert opened.complaints == []
        assert set(opened.requests) <= {"file", "data", "blob"}
        assert opened.page.evaluate("document.documentElement.dataset.theme") == scheme
        assert opened.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        opened.context.close()


def test_the_button_changes_the_theme_of_page_and_figures(browser, report):
    opened = Opened(browser, report, color_scheme="light")
    opened.drawn()
    paper = "document.querySelector('.js-plotly-plot')._fullLayout.paper_bgcolor"
    before = opened.page.evaluate(paper)
    opened.page.click("#theme")
    assert opened.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert opened.page.evaluate(paper) != before
    opened.context.close()


def test_it_prints_light_with_all_figures(browser, report, tmp_path):
    opened = Opened(browser, report, color_scheme="dark")
    opened.page.emulate_media(media="print", color_scheme="dark")
    opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert opened.page.evaluate("document.documentElement.dataset.theme") == "light"
    assert opened.page.locator(".js-plotly-plot").count() == 3
    opened.page.pdf(path=str(tmp_path / "plan.pdf"))
    assert (tmp_path / "plan.pdf").read_bytes().startswith(b"%PDF")
    opened.context.close()


def test_a_click_leads_from_a_point_to_its_plan(browser, front, tmp_path):
    write_report(render_report(front, "front"), tmp_path / "front.html")
    opened = Opened(browser, tmp_path / "front.html")
    opened.drawn()
    visible = "[...document.querySelectorAll('[data-plan]')].filter(p => !p.hidden).map(p => p.id)"
    assert opened.page.evaluate(visible) == ["plan-0"]
    points = opened.page.locator("[data-figure] .scatterlayer .trace").first.locator(".point")
    box = points.nth(1).bounding_box()
    opened.page.evaluate("window.scrollTo(0, 0)")
    box = points.nth(1).bounding_box()
    opened.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.page.wait_for_function("location.hash === '#plan-1'")
    assert opened.page.evaluate(visible) == ["plan-1"]
    opened.page.get_by_role("link", name="beaten").click()
    assert opened.page.evaluate(visible) == ["plan-2"]
    assert opened.complaints == []
    opened.context.close()


def test_names_that_are_markup_stay_text(browser, plan, tmp_path):
    solution = plan.solution
    for old in (solution.fleet[0].pool, solution.tasks[0].name, solution.provenance.problem):
        solution = renamed(solution, old, HOSTILE)
    write_report(render_report([PlanFile(HOSTILE, solution)] * 2, HOSTILE), tmp_path / "hostile.html")
    assert "<script>alert" not in (tmp_path / "hostile.html").read_text()
    opened = Opened(browser, tmp_path / "hostile.html")
    opened.drawn()
    assert opened.complaints == []
    assert opened.page.evaluate("document.querySelectorAll('img, script:not([type])').length") == 2  # ours
    assert opened.page.title().startswith(HOSTILE)
    assert HOSTILE in opened.page.locator("td, th").all_inner_texts()
    shown = opened.page.locator("[data-figure] .node-label").all_text_contents()
    assert any(text.startswith("<script>alert(1)") for text in shown)
    opened.context.close()


def test_axe_finds_nothing_serious(browser, report, front, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    write_report(render_report(front, "front"), tmp_path / "front.html")
    for path, scheme in ((report, "light"), (tmp_path / "front.html", "dark")):
        opened = Opened(browser, path, color_scheme=scheme, bypass_csp=True)
        opened.drawn()
        found = axe.Axe().run(opened.page).response["violations"]
        assert [(v["id"], v["impact"], v["nodes"][0]["html"]) for v in found] == []
        opened.context.close()


def test_periods_stand_apart(plan):
    """The plan twice, as peak and offpeak: a diagram for each, and names that say which."""
    document = json.loads(plan.solution.to_json())
    for part in ("fleet", "routing", "tasks"):
        document[part] = [entry | {"period": name} for name in ("peak", "offpeak") for entry in document[part]]
    made = plan_document(Solution.model_validate(document))
    sections = {section.name: section for section in made.sections}
    captions = [block.caption for block in sections["routing"].blocks if block.kind == "figure"]
    assert ["in peak" in captions[0], "in offpeak" in captions[1]] == [True, True]
    names = {row[0].text for row in sections["tasks"].blocks[0].rows}
    assert {"chat (peak)", "chat (offpeak)"} <= names
