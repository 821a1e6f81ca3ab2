"""Select the measured points that ship with the package from the full tables.

    python scripts/make_validation_points.py NAMES.csv SERVING.csv.gz ENERGY.csv.gz DISAGGREGATED.csv.gz CACHED.csv.gz

Writes codesign/validation/data/points.csv and names.csv: a few hundred rows as figures with source, commit,
date and licence of each. All newest rows of small sources are taken, and every n-th of large ones, in the
order published.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

from codesign.validation.measured import METRICS, Row, read_names, read_rows, text
from codesign.validation.points import Skip, point_of

DATA = Path(__file__).parents[1] / "codesign" / "validation" / "data"

EVERY = {
    "Argonne-LLM-Inference-Bench": 40,
    "TensorRT-LLM-perf-overview-v0.9": 3,
    "ML.ENERGY-v3": 2,
    "ML.ENERGY-v2": 3,
    "DigitalOcean-gtc-2026": 2,
}
"""Of these sources every n-th row; of others all."""

LICENCES = {
    "InferenceX": "Apache-2.0, attribution SemiAnalysis",
    "InferenceX-token-position": "Apache-2.0, attribution SemiAnalysis",
    "MLPerf-Inference-v4.1": "Apache-2.0, MLCommons MLPerf Inference v4.1",
    "TensorRT-LLM-perf-overview-v0.9": "Apache-2.0, NVIDIA",
    "TensorRT-LLM-perf-overview-v0.17": "Apache-2.0, NVIDIA",
    "TensorRT-LLM-perf-overview-v1": "Apache-2.0, NVIDIA",
    "Argonne-LLM-Inference-Bench": "BSD-3-Clause, Argonne National Laboratory",
    "Splitwise": "MIT, Microsoft",
    "ML.ENERGY-v3": "Apache-2.0, ML.ENERGY",
    "ML.ENERGY-v2": "Apache-2.0, ML.ENERGY",
    "DigitalOcean-gtc-2026": "MIT, (c) 2026 DigitalOcean Solutions",
}

COLUMNS = (
    *("row_id", "source", "source_repo", "source_commit", "date", "licence", "model", "precision"),
    *("accelerator", "n_accel", "tp", "pp", "ep", "dp", "disagg", "spec_decode", "backend", "task", "isl"),
    *("osl", "length_kind", "concurrency_or_batch", "avg_batch_size", "load_mode", "req_s", "power_scope"),
    *("output_tok_s", "energy_per_request_j", "slo_tpot_ms", *METRICS, "trust", "notes"),
    "is_latest_for_config",
    *("prefill_workers", "prefill_tp", "prefill_ep", "prefill_dp_attention", "prefill_accels"),
    *("decode_workers", "decode_tp", "decode_ep", "decode_dp_attention", "decode_accels"),
    *("router", "hit_ratio", "hit_ratio_kind", "sessions", "kv_pool_tokens"),
)


def main() -> None:
    """Write both files."""
    names_path, *tables = sys.argv[1:]
    names = {**read_names(), **read_names(names_path)}
    seen: Counter[str] = Counter()
    chosen: list[dict[str, str]] = []
    for row in [row for table in tables for row in read_rows(table)]:
        source = text(row, "source")
        if not usable(row, names):
            continue
        seen[source] += 1
        if seen[source] % EVERY.get(source, 1) == 0 or source not in EVERY:
            chosen.append({**{column: text(row, column) for column in COLUMNS}, "licence": LICENCES[source]})
    with (DATA / "points.csv").open("w", encoding="utf-8", newline="") as stream:
        stream.write(
            "# Measured by others, not by this project: source, commit, date and licence stand in each row.\n"
        )
        stream.write(
            "# Selected by scripts/make_validation_points.py; columns as in the published collections.\n"
        )
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(chosen)
    given = read_full(names_path)
    listed = {(row["kind"], row["published_name"]) for row in given}
    kept = [row for row in read_full(DATA / "names.csv") if (row["kind"], row["published_name"]) not in listed]
    used = {(kind, row[kind]) for kind in ("accelerator", "model") for row in chosen}
    with (DATA / "names.csv").open("w", encoding="utf-8", newline="") as stream:
        stream.write(
            "# Names as published by the sources of points.csv and later rounds of them, and catalogue ids;\n"
        )
        stream.write("# an empty id is out of scope. Assembled by hand, 2026-11.\n")
        writer = csv.DictWriter(stream, ("kind", "published_name", "facts_id", "note"), lineterminator="\n")
        writer.writeheader()
        writer.writerows([*given, *kept])
    missing = used - set(names)
    print(f"{len(chosen)} points: {dict(Counter(row['source'] for row in chosen))}; names missing: {missing}")


def read_full(path: str | Path) -> list[dict[str, str]]:
    """Rows of a names file with their notes."""
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(line for line in stream if not line.startswith("#")))


def usable(row: Row, names: dict[tuple[str, str], str]) -> bool:
    """Whether a row is predicted and scored: host-bound rows, old runs and prompts with images stay out."""
    try:
        return not point_of(row, names).out_of_score
    except Skip:
        return False


if __name__ == "__main__":
    main()
