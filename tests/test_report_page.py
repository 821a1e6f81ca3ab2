"""The report page: what it says, that names cannot break it, and how it behaves in a real browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from codesign import load_problem
from codesign.architecture.solution import load_architecture_solution
from codesign.cli import app
from codesign.report.console import money
from codesign.report.page import PlanFile, ReportError, read_front, read_plans, read_simulated, render_report
from codesign.report.page.architecture import architecture_document
from codesign.report.page.flow import flow
from codesign.report.page.front import efficient, front_figure, front_table
from codesign.report.page.plan import plan_document
from codesign.report.page.render import write_report
from codesign.report.page.svg import decades, linear
from codesign.simulate import SimulationReport
from codesign.solution import Solution, load_solution
from codesign.study.front import Front, FrontPoint, Proof

ROOT = Path(__file__).parent.parent
HOSTILE = """<script>alert(1)</script><img src=x onerror="alert(2)">'{{7*7}}</title>"""
LARGEST = 500_000


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


def test_ribbons_of_the_diagram_are_the_routes(plan):
    """What leaves the tasks, what reaches decode, and what the routes say are the same calls per second."""
    document = plan_document(plan.solution)
    figure = next(s for s in document.sections if s.name == "routing").blocks[0]
    said = [title.text for title in ElementTree.fromstring(figure.svg).iter("title")]
    tasks = {route.task for route in plan.solution.routing}
    pools = {route.decode_pool for route in plan.solution.routing}
    total = sum(route.calls_per_s for route in plan.solution.routing)
    loads = {words[0]: float(words[1].replace(",", "")) for text in said if (words := parts(text))}
    assert sum(load for name, load in loads.items() if name in tasks) == pytest.approx(total, rel=1e-3)
    assert sum(load for name, load in loads.items() if name in pools) == pytest.approx(total, rel=1e-3)


def parts(title: str) -> list[str]:
    """Name and calls per second of a bar; nothing for a ribbon."""
    found = re.fullmatch(r"([^:]+): ([\d.,]+) calls/s", title)
    return [found[1], found[2]] if found else []


def test_a_ribbon_that_passes_a_column_keeps_its_place(plan):
    """One task in two pools, one colocated: nothing is drawn over the prefill pool."""
    route = next(r for r in plan.solution.routing if r.prefill_pool != r.decode_pool)
    both = route.model_copy(update={"prefill_pool": route.decode_pool, "calls_per_s": route.calls_per_s})
    drawn = ElementTree.fromstring(flow(plan.solution.model_copy(update={"routing": (route, both)}), "").svg)
    ribbons = [p for p in drawn.iter("path") if "ribbon" in p.get("class", "")]
    assert len(ribbons) == 4
    ends = sorted(float(re.split("[ C]", r.get("d", "")[1:])[1]) for r in ribbons[2:])
    widths = [float(r.get("style", "")[len("stroke-width:") :]) for r in ribbons]
    assert widths == [pytest.approx(widths[0])] * 4
    assert ends[1] - ends[0] >= widths[0]


def test_axes_have_round_ticks():
    scale = linear([0.0, 1000.0], 0.0, 530.0, zero=True)
    assert [(round(x, 9), name) for x, name in scale.ticks()] == [(100.0 * i, f"{200 * i:,}") for i in range(6)]
    logarithmic = decades([0.02, 30.0], 100.0, 500.0)
    assert [name for _, name in logarithmic.ticks()] == ["0.01", "0.1", "1", "10", "100"]
    assert logarithmic.place(1.0) == pytest.approx(300.0)
    assert decades([1e5], 0.0, 1.0).ticks()[0][1] == "10⁵"
    assert [name for _, name in linear([5.0, 5.0], 0.0, 1.0).ticks()]  # one value is no division by 0


def test_figures_are_drawings_of_finite_numbers(plan, front):
    for page, expected in ((render_report([plan]), 3), (render_report(front), 7)):
        drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
        assert len(drawings) == expected
        for text in drawings:
            ElementTree.fromstring(text)
            numbers = re.sub(r"<title>.*?</title>|<text.*?</text>|aria-label=\".*?\"", "", text)
            assert not re.search(r"nan|inf\b", numbers)


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


# ---- simulated


def simulation(plan: PlanFile, factor: float, task: str = "chat", stage: str = "") -> SimulationReport:
    """A simulation in which all promises take half of their target, and TTFTs of one task `factor` times it."""
    tasks = []
    for each in plan.solution.tasks:
        slos = []
        for slo in each.slo:
            seen = (factor if each.name == task and slo.metric == "ttft" else 0.5) * slo.target
            slos.append(
                {**slo.model_dump(exclude={"achieved"}), "planned": slo.achieved, "simulated": seen, "low": 0.9 * seen,
                 "high": 1.1 * seen, "ok": seen <= slo.target,
                 "suspect": {"pool": "x", "resource": "compute", "reason": "queue"}}
            )  # fmt: skip
        empty = {"p50": None, "p95": None, "p99": None}
        parts = dict.fromkeys(("reload", "wait", "prefill", "transfer", "admission"), 0.0)
        tasks.append(
            {"name": each.name, "calls": 9, "goodput": 1.0, "offered": 1.0, "completed": 1.0, "hit_ratio": 0.5,
             "planned_hit_ratio": 0.5, "restarted": 0, "ttft": empty, "tpot": empty, "task_latency": empty,
             "wait": empty, "parts": parts, "planned_parts": parts, "slo": slos, "stage": stage}
        )  # fmt: skip
    return SimulationReport.model_validate(
        {"ok": factor <= 1, "duration_s": 600.0, "warm_up_s": 60.0, "seed": 3, "arrivals": "Poisson arrivals",
         "calls": 1234, "tasks": tasks, "pools": []}
    )  # fmt: skip


def test_what_was_simulated_stands_beside_what_was_planned(plan, tmp_path):
    for name, factor in (("a", 0.5), ("b", 1.25)):
        (tmp_path / name).write_text(simulation(plan, factor).to_json())
    good = read_simulated([tmp_path / "a"], plan.solution)
    document = plan_document(plan.solution, simulated=good)
    assert "under simulation" in document.answer[1]
    assert "all hold" in document.answer[1]
    rows = next(s for s in document.sections if s.name == "promises").blocks[0].rows
    assert rows[0][5].text == "400 ms (360 ms to 440 ms)"  # half of 800 ms, and its interval
    assert {row[2].text for row in rows} == {"met"}
    # The worst of several runs counts.
    bad = plan_document(plan.solution, simulated=read_simulated([tmp_path / "a", tmp_path / "b"], plan.solution))
    assert "chat's TTFT p95 and chat's TTFT p99 are missed" in bad.answer[1]
    blocks = next(s for s in bad.sections if s.name == "promises").blocks
    assert [row[2].text for row in blocks[0].rows][:2] == ["missed", "missed"]
    assert blocks[0].rows[0][5].text.startswith("1 s (")
    assert [block.tone for block in blocks[1:]] == ["", "bad"]
    assert "2 of 11 promises are broken" in blocks[2].text


def test_a_simulation_of_another_plan_is_refused(plan, tmp_path):
    other = simulation(plan, 0.5).model_dump()
    other["tasks"][0]["slo"][0]["planned"] *= 1.5
    (tmp_path / "other").write_text(SimulationReport.model_validate(other).to_json())
    (tmp_path / "stage").write_text(simulation(plan, 0.5, stage="peak").to_json())
    (tmp_path / "none").write_text("{}")
    for name, word in (("other", "another plan"), ("stage", "another plan"), ("none", "expected"), ("gone", "read")):
        with pytest.raises(ReportError, match=word):
            read_simulated([tmp_path / name], plan.solution)


def test_the_output_of_simulate_is_read(tmp_path):
    run = CliRunner()
    words = [str(ROOT / "problems" / "azure-chat.yaml"), str(ROOT / "solutions" / "azure-chat.json")]
    simulated = run.invoke(app, ["simulate", *words, "--duration", "20s", "--workers", "1", "--json"])
    (tmp_path / "simulated.json").write_text(simulated.stdout)
    page = tmp_path / "report.html"
    given = ["--problem", words[0], "--simulated", str(tmp_path / "simulated.json"), "-o", str(page)]
    told = run.invoke(app, ["report", words[1], *given])
    assert told.exit_code == 0, told.output
    assert "Simulated request by request" in page.read_text()


# ---- fronts


def test_a_frontier_keeps_its_own_axes_and_its_proof(front, tmp_path):
    solutions = [plan.solution for plan in front[:2]]
    values = [{"cost_per_task": s.totals.cost_per_task, "power": s.totals.power_w * f}
              for s, f in zip(solutions, (1.0, 0.7), strict=True)]  # fmt: skip
    points = tuple(
        FrontPoint(v, 0.99 * v["cost_per_task"], s, f"{i}" * 16, {}, knee=i == 1)
        for i, (v, s) in enumerate(zip(values, solutions, strict=True))
    )
    proofs = (Proof({}, points[0].bound), Proof({"power": values[1]["power"]}, points[1].bound))
    made = Front("fleet", "0" * 64, ("cost_per_task", "power"), {"cost_per_task": "$/task", "power": "W"}, points,
                 proofs, {}, 0.01, 4, True, "optimal")  # fmt: skip
    made.write(tmp_path)
    (tmp_path / "runs").mkdir()
    solutions[0].write(tmp_path / "runs" / "kept.json")
    read = read_front(tmp_path)
    assert read == made
    plans = read_plans(tmp_path)
    assert [plan.name for plan in plans] == ["point 1", "point 2, the knee"]
    figure = front_figure(plans, read)
    assert "power, W" in figure.svg
    assert "proof: nothing below" in figure.svg
    assert figure.svg.count("<a href=") == 2
    table = front_table(plans, read)
    assert table.head[2] == "power"
    assert [row[-1].text for row in table.rows] == ["1 %", "1 %"]


def test_a_folder_of_something_else_called_front_is_refused(tmp_path):
    (tmp_path / "front.json").write_text("[1]")
    with pytest.raises(ReportError, match="found no front"):
        read_plans(tmp_path)


# ---- designed chips


@pytest.mark.parametrize("name", ["decode-chip", "pair"])
def test_a_designed_chip_has_a_report(name, tmp_path):
    source = ROOT / "solutions" / "architecture" / f"{name}.json"
    told = CliRunner().invoke(app, ["report", str(source), "-o", str(tmp_path / "chip.html")])
    assert told.exit_code == 0, told.output
    found = load_architecture_solution(source)
    document = architecture_document(found)
    assert money(found.designs[0].price_usd) in document.answer[0]
    assert f"Of {found.search.trials} designs tried" in document.answer[1]
    names = [section.name for section in document.sections]
    assert names[:3] == ["chip", "search", "fleet"]
    assert ("hangs" in names) == (found.sensitivity is not None)
    bill = next(b for b in document.sections[0].blocks if "what it costs" in b.caption)
    assert bill.rows[0][0].text == max(found.designs[0].cost_usd, key=found.designs[0].cost_usd.get).replace("_", " ")
    page = (tmp_path / "chip.html").read_text()
    assert len(page) < LARGEST
    for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(text)


def test_a_designed_chip_takes_no_options_of_plans(tmp_path):
    source = str(ROOT / "solutions" / "architecture" / "pair.json")
    told = CliRunner().invoke(app, ["report", source, "--why-not", "-o", str(tmp_path / "chip.html")])
    assert told.exit_code == 2
    assert "designed chips" in told.output


# ---- files


def test_a_folder_gives_its_solutions_and_passes_over_other_files(tmp_path, plan):
    shutil.copy(ROOT / "solutions" / "agent-fleet.json", tmp_path / "a.json")
    (tmp_path / "points").mkdir()
    shutil.copy(ROOT / "solutions" / "melange-toy.json", tmp_path / "points" / "b.json")
    (tmp_path / "notes.json").write_text("[]")
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

    def drawn(self) -> int:
        """Figures that are seen."""
        return sum(place.is_visible() for place in self.page.locator("figure svg").all())


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
    colours = (
        "[getComputedStyle(document.body).backgroundColor, "
        "getComputedStyle(document.querySelector('svg .fill')).fill, "
        "getComputedStyle(document.querySelector('svg text')).fill]"
    )
    before = opened.page.evaluate(colours)
    opened.page.click("#theme")
    assert opened.page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert all(a != b for a, b in zip(before, opened.page.evaluate(colours), strict=True))
    opened.context.close()


def test_it_prints_light_with_all_figures(browser, report, tmp_path):
    opened = Opened(browser, report, color_scheme="dark")
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.drawn() == 3
    opened.page.pdf(path=str(tmp_path / "plan.pdf"))
    assert (tmp_path / "plan.pdf").read_bytes().startswith(b"%PDF")
    opened.context.close()


def test_it_reads_without_scripts(browser, front, tmp_path):
    write_report(render_report(front, "front"), tmp_path / "front.html")
    opened = Opened(browser, tmp_path / "front.html", java_script_enabled=False, color_scheme="dark")
    assert opened.drawn() == 7
    assert opened.page.locator("article").last.is_visible()
    opened.context.close()


def test_a_click_leads_from_a_point_to_its_plan(browser, front, tmp_path):
    write_report(render_report(front, "front"), tmp_path / "front.html")
    opened = Opened(browser, tmp_path / "front.html")
    visible = "[...document.querySelectorAll('[data-plan]')].filter(p => !p.hidden).map(p => p.id)"
    assert opened.page.evaluate(visible) == ["plan-0"]
    opened.page.locator("svg a[href='#plan-1'] path").click()
    opened.page.wait_for_function("location.hash === '#plan-1'")
    assert opened.page.evaluate(visible) == ["plan-1"]
    opened.page.locator("th a", has_text="beaten").click()
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
    assert opened.complaints == []
    assert opened.page.evaluate("document.querySelectorAll('img, script').length") == 1  # ours
    assert opened.page.title().startswith(HOSTILE)
    assert HOSTILE in opened.page.locator("td, th").all_inner_texts()
    shown = opened.page.locator("svg .node").all_text_contents()
    assert any(text.startswith("<script>alert(1)") for text in shown)
    opened.context.close()


def test_axe_finds_nothing_serious(browser, report, front, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    write_report(render_report(front, "front"), tmp_path / "front.html")
    for path, scheme in ((report, "light"), (tmp_path / "front.html", "dark")):
        opened = Opened(browser, path, color_scheme=scheme, bypass_csp=True)
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
