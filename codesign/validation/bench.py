"""A user's own benchmark points: CSV or JSON with the words of a problem file and plain units.

Fields of a point: accelerator, model (catalogue ids), precision or weights/activations/kv, tp, pp, ep, dp (1
where absent), isl, osl, concurrency, and what was measured: tpot, ttft (times such as "21 ms", or the columns
tpot_ms and ttft_ms), output_tok_s (tokens per second of the whole replica). ``engine`` and ``load`` (closed,
static, offline) are optional.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codesign.catalog import accelerators, models, nearest
from codesign.files import parse_json
from codesign.performance import PRECISIONS, precision_supported, shape_valid
from codesign.performance.profile import EngineProfile
from codesign.units import UnitError, parse_quantity
from codesign.validation.engine_load import table_of
from codesign.validation.measured import DataError
from codesign.validation.points import Point, engine_of, precisions_of
from codesign.validation.results import results_of

FEWEST, MOST = 1, 1000
LOADS = ("closed", "static", "offline", "waves")
FIELDS = (
    *("accelerator", "model", "precision", "weights", "activations", "kv", "tp", "pp", "ep", "dp"),
    *("isl", "osl", "concurrency", "tpot", "tpot_ms", "ttft", "ttft_ms", "output_tok_s", "engine", "year"),
    *("load", "name"),
)


def read_bench(path: str | Path, *more: str | Path, stack: Mapping[str, Any] | None = None) -> list[Point]:
    """Points of benchmark files; raises DataError that names file, point and field.

    A file holds points, or results of a tool that `validation.results` knows; `stack` has the fields that such
    results lack (accelerator, model, tp, ...).
    """
    name = ", ".join(map(str, (path, *more)))
    entries = [entry for each in (path, *more) for entry in _entries(Path(each), str(each), stack or {})]
    if not FEWEST <= len(entries) <= MOST:
        raise DataError(f"{name}: found {len(entries)} points; expected 3 to 5")
    points = [_point(entry, f"{name}: point {index + 1}") for index, entry in enumerate(entries)]
    engines = {point.engine for point in points}
    if len(engines) > 1:
        raise DataError(
            f"{name}: found the engines {', '.join(sorted(engines))}; expected points of one stack"
        )
    table = table_of(points, EngineProfile())
    for index, (shape, precision) in enumerate(
        zip(shape_valid(table), precision_supported(table), strict=True)
    ):
        where = f"{name}: point {index + 1}"
        if not shape:
            raise DataError(f"{where}: found a parallel shape that does not suit {points[index].pair}")
        if not precision:
            raise DataError(f"{where}: found precisions that {points[index].accelerator} cannot run")
    return points


def _entries(path: Path, name: str, stack: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    if not path.is_file():
        raise DataError(f"{name}: found no such file; expected measured points (CSV or JSON)")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: found a file that cannot be read ({error}); expected CSV or JSON") from None
    if content.lstrip()[:1] in ("[", "{"):
        try:
            document = parse_json(content)
        except ValueError as error:
            raise DataError(f"{name}: found no JSON ({error}); expected a list of points") from None
        results = results_of(document, name)
        if results is not None:
            return [result.entry(stack) for result in results]
        if isinstance(document, dict):
            document = document.get("points", [document])
        if not isinstance(document, list) or not all(isinstance(entry, dict) for entry in document):
            raise DataError(f"{name}: found no list of points; expected [{{accelerator: …}}, …]")
        return [entry | dict(stack) for entry in document]
    reader = csv.DictReader(io.StringIO(content, newline=""))
    return [{key: value for key, value in row.items() if key and value} | dict(stack) for row in reader]


def _point(entry: Mapping[str, Any], where: str) -> Point:
    unknown = next((key for key in entry if key not in FIELDS), None)
    if unknown is not None:
        near = nearest(unknown, FIELDS, 1)
        hint = f"perhaps {near[0]}" if near else ", ".join(FIELDS)
        raise DataError(f"{where}: found the field {unknown!r}; expected {hint}")
    accelerator = accelerators()[_named(entry, "accelerator", accelerators(), where)]
    card = models()[_named(entry, "model", models(), where)]
    engine = engine_of(str(entry.get("engine", "")))
    stated = {key: str(entry.get(key, "")) for key in ("precision",)}
    weights, activations, kv = precisions_of(stated, card, accelerator, engine, None)
    chosen = {"weights": weights, "activations": activations, "kv": kv}
    for role in chosen:
        if entry.get(role):
            chosen[role] = str(entry[role])
            if chosen[role] not in PRECISIONS:
                raise DataError(
                    f"{where}: {role}: found {chosen[role]!r}; expected one of {', '.join(PRECISIONS)}"
                )
    counts = {key: _whole(entry, key, where) for key in ("tp", "pp", "ep", "dp")}
    load = str(entry.get("load", "closed"))
    if load not in LOADS:
        raise DataError(f"{where}: load: found {load!r}; expected one of {', '.join(LOADS)}")
    replica = counts["tp"] * counts["pp"] * counts["dp"]
    measured = {
        "tpot_ms_p50": _milliseconds(entry, "tpot", where),
        "ttft_ms_p50": _milliseconds(entry, "ttft", where),
        "output_tok_s_per_gpu": _positive(entry, "output_tok_s", where, math.nan) / replica,
    }
    measured = {metric: value for metric, value in measured.items() if value > 0}
    if not {"tpot_ms_p50", "output_tok_s_per_gpu"} & set(measured):
        raise DataError(f"{where}: found neither tpot nor output_tok_s; expected one of them")
    unlimited = math.inf if load == "offline" else None
    return Point(
        row_id=where,
        source="bench",
        engine=engine,
        year=_whole(entry, "year", where) if entry.get("year") else None,
        accelerator=accelerator.id,
        model=card.id,
        weights=chosen["weights"],
        activations=chosen["activations"],
        kv=chosen["kv"],
        tp=counts["tp"],
        pp=counts["pp"],
        ep=counts["ep"],
        dp=counts["dp"],
        load=load,
        isl=_positive(entry, "isl", where),
        osl=_positive(entry, "osl", where),
        concurrency=_positive(entry, "concurrency", where, unlimited),
        rate_per_s=math.nan,
        tpot_limit_s=math.inf,
        power_scope="gpu",
        measured=measured,
        out_of_score="",
    )


def _named(entry: Mapping[str, Any], field: str, catalogue: Mapping[str, Any], where: str) -> str:
    name = str(entry.get(field, ""))
    if name in catalogue:
        return name
    near = ", ".join(nearest(name, catalogue)) or "a name of `codesign catalog`"
    raise DataError(f"{where}: {field}: found {name!r}; expected {near}")


def _positive(entry: Mapping[str, Any], field: str, where: str, default: float | None = None) -> float:
    found = entry.get(field)
    if found in (None, ""):
        if default is None:
            raise DataError(f"{where}: {field}: found nothing; expected a number above 0")
        return default
    try:
        value = math.nan if isinstance(found, bool) else float(found)
    except (TypeError, ValueError):
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise DataError(f"{where}: {field}: found {found!r}; expected a number above 0")
    return value


def _whole(entry: Mapping[str, Any], field: str, where: str) -> int:
    value = _positive(entry, field, where, 1.0)
    if value != int(value) or value > 1e5:
        raise DataError(f"{where}: {field}: found {entry[field]!r}; expected a whole number from 1")
    return int(value)


def _milliseconds(entry: Mapping[str, Any], field: str, where: str) -> float:
    if entry.get(f"{field}_ms") not in (None, ""):
        return _positive(entry, f"{field}_ms", where)
    if entry.get(field) in (None, ""):
        return math.nan
    try:
        return 1e3 * parse_quantity(entry[field], "time")
    except UnitError as error:
        raise DataError(f"{where}: {field}: {error}") from None
