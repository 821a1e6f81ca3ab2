"""How good the search for chips is: TPE, NSGA-II and random search on problems/architecture/pair.yaml.

    python scripts/bench_architecture.py run --sampler tpe --seed 0 --trials 1000 -o DIR
    python scripts/bench_architecture.py run --sampler random --seed 0 --trials 5000 -o DIR
    python scripts/bench_architecture.py table -o DIR > solutions/architecture/bench.md

`run` writes one file a run; `table` compares them: best cost, hypervolume of cost and energy below a corner 10 % above
buying alone in both, seconds. A long random run stands for several seeds, a thousand trials each, and for the best of
all its designs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from codesign.architecture.evaluate import Evaluator
from codesign.architecture.search import search
from codesign.architecture.space import Space
from codesign.problem.architecture import load_architecture

PROBLEM = Path(__file__).parents[1] / "problems" / "architecture" / "pair.yaml"
TRIALS = 1000
CORNER = 1.1


def run(sampler: str, seed: int, trials: int, folder: Path) -> None:
    """Search once and write what was tried."""
    space = Space.of(load_architecture(PROBLEM))
    evaluator = Evaluator(space)
    baseline = evaluator.baseline
    started, worked = time.monotonic(), time.process_time()
    found = search(space, evaluator, trials=trials, sampler=sampler, seed=seed)
    document = {
        "sampler": sampler,
        "seed": seed,
        "baseline": [baseline.value, baseline.second],
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - worked,
        "fleets": evaluator.solves,
        "trials": [[t.value, t.second, t.feasible] for t in found.trials],
        "best": found.best.point if found.best else None,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{sampler}-{seed}.json").write_text(json.dumps(document))


def hypervolume(points: list[tuple[float, float]], corner: tuple[float, float]) -> float:
    """Area that points dominate below a corner, over the corner's own."""
    area, floor = 0.0, corner[1]
    for first, second in sorted(points):
        if first < corner[0] and second < floor:
            area += (corner[0] - first) * (floor - second)
            floor = second
    return area / (corner[0] * corner[1])


def rows(folder: Path) -> list[tuple[str, str, int, float, float, float, float]]:
    """(sampler, seed, trials, best cost, hypervolume, CPU seconds, seconds) of every run."""
    found = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text())
        trials = document["trials"]
        cost, energy = (CORNER * value for value in document["baseline"])
        parts = [(str(document["seed"]), trials)]
        if len(trials) > TRIALS:
            starts = range(0, len(trials), TRIALS)
            parts = [(f"{s // TRIALS}", trials[s : s + TRIALS]) for s in starts] + [("all", trials)]
        for seed, part in parts:
            good = [(t[0], t[1]) for t in part if t[2]]
            share = len(part) / len(trials)
            found.append(
                (
                    document["sampler"],
                    seed,
                    len(part),
                    min(t[0] for t in good),
                    hypervolume(good, (cost, energy)),
                    share * document["cpu_seconds"],
                    share * document["seconds"],
                )
            )
    return found


def table(folder: Path) -> None:
    """Print the comparison as Markdown."""
    corner = json.loads(next(folder.glob("*.json")).read_text())["baseline"]
    print(f"Buying alone: {corner[0]:.5f} $ and {corner[1]:,.0f} J per task.\n")
    print("| sampler | seed | trials | best $/task | hypervolume | CPU seconds | seconds |")
    print("|---|---|---|---|---|---|---|")
    for sampler, seed, trials, best, volume, worked, seconds in rows(folder):
        print(f"| {sampler} | {seed} | {trials} | {best:.5f} | {volume:.4f} | {worked:,.0f} | {seconds:,.0f} |")


def main() -> None:
    """Run or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    if given.what == "run":
        run(given.sampler, given.seed, given.trials, given.output)
    else:
        table(given.output)


if __name__ == "__main__":
    main()
