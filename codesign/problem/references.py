"""Names that must lead somewhere: tasks, models, racks, hardware, catalogue entries.

The checks read the plain data, not the validated problem, so that they speak up beside schema errors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from codesign.catalog import accelerators, links, memory_tiers, models, price_lists, workloads
from codesign.problem.explain import Faults
from codesign.problem.instance import ALL_HOURS, EXISTING, NOMINAL, stage_name
from codesign.problem.yaml_lines import Path_, dotted

_LISTED = ("price", "catalogue")
"""Names of offers that hardware has without `offers`."""


def check_references(data: dict[str, Any], faults: Faults, periods: Collection[str] = ()) -> None:
    """Note every name in `data` that leads nowhere, names given twice, and fields that a task lacks.

    Offers may name `periods` beside those of the data.
    """
    hardware, tasks, pools = _mapping(data, "hardware"), _items(data, "tasks"), _items(data, "measured_pools")
    if not hardware and not data.get("measured_pools") and "hardware" not in faults.document.data:
        faults.add((), "nothing to buy", "hardware or measured_pools", words=True)
    for section, items in (("tasks", tasks), ("measured_pools", pools)):
        _check_unique(items, (section,), faults)
    _check_name(data, "price_list", (), price_lists(), faults)
    for name, use in _mapping(data, "models").items():
        _check_name(use, "card", ("models", name), models(), faults)
        _check_name(_mapping(use, "speculation"), "draft", ("models", name, "speculation"), models(), faults)
    racks, times = _mapping(_mapping(data, "site"), "racks"), {*_mapping(data, "periods"), *periods}
    for name, part in hardware.items():
        _check_name(part, "accelerator", ("hardware", name), accelerators(), faults)
        _check_name(_mapping(part, "server"), "rack", ("hardware", name, "server"), racks, faults)
        _check_offers(_mapping(part, "offers"), ("hardware", name), times, faults)
    for name, part in _mapping(data, "purchase_units").items():
        _check_list(part, "servers", ("purchase_units", name), hardware, faults)
        _check_name(part, "rack", ("purchase_units", name), racks, faults)
        _check_offers(_mapping(part, "offers"), ("purchase_units", name), times, faults)
        if name in hardware:
            faults.add(("purchase_units", name), name, "a name that no hardware has")
    _check_told_apart(data, faults)
    _check_stages(data, faults)
    for index, item in _items(data, "existing"):
        _check_name(item, "hardware", ("existing", index), hardware, faults)
    networks = _mapping(data, "links")
    for name, part in networks.items():
        _check_name(part, "link", ("links", name), links(), faults)
    for name, part in hardware.items():
        _check_list(part, "links", ("hardware", name), networks, faults)
    for name, part in _mapping(data, "memory").items():
        _check_name(part, "tier", ("memory", name), memory_tiers(), faults)
        _check_name(_mapping(part, "attached"), "link", ("memory", name, "attached"), links(), faults)
        _check_list(part, "hardware", ("memory", name), hardware, faults)
    rates = {
        task
        for _, pool in pools
        for task, rate in _mapping(pool, "max_rate").items()
        if rate not in (0, None, "0")
    }
    for index, task in tasks:
        _check_task(task, ("tasks", index), list(_mapping(data, "models")), faults)
        if hardware and (_is_modelled(task) or _word(task.get("name")) not in rates):
            _check_complete(task, ("tasks", index), faults)
    task_names = [str(task["name"]) for _, task in tasks if "name" in task]
    for index, pool in pools:
        for name in _mapping(pool, "max_rate"):
            if name not in task_names:
                faults.add_unknown(("measured_pools", index, "max_rate", name), name, task_names)
    stock = [*hardware, *(str(pool.get("accelerator")) for _, pool in pools)]
    for name in _mapping(_mapping(data, "limits"), "inventory"):
        if name not in stock and name not in accelerators():
            faults.add_unknown(("limits", "inventory", name), name, stock, also=accelerators())


def _check_told_apart(data: dict[str, Any], faults: Faults) -> None:
    """No two things that can be bought have one name in a plan, where names are put together."""
    rows: dict[str, Path_] = {}
    items: dict[str, Path_] = {}

    def note(names: dict[str, Path_], name: str, path: Path_) -> None:
        known = names.setdefault(name, path)
        if known != path:
            expected = f"a name of its own: {dotted(known, data)} is called so as well"
            faults.add(path, f"'{name}' as the name of two things in a plan", expected, words=True)

    existing = [_word(item.get("hardware")) for _, item in _items(data, "existing")]
    for section in ("hardware", "purchase_units"):
        for name, part in _mapping(data, section).items():
            given = part.get("links") if isinstance(part, dict) and section == "hardware" else None
            words = map(_word, given if isinstance(given, list) else [])
            networks = [word for word in dict.fromkeys(words) if word is not None]
            offers = [*_mapping(part, "offers"), *_LISTED]
            offers += [f"{EXISTING}{number or ''}" for number in range(existing.count(name))]
            for word in (name, *(f"{name}+{link}" for link in networks)):
                note(rows, word, (section, name))
                for offer in offers:
                    note(items, f"{word}/{offer}", (section, name, "offers", offer))
            for link in networks:
                note(items, f"{name}+{link}/{link}", (section, name, "links", link))
    for name in _mapping(data, "memory"):
        note(items, name, ("memory", name))
    for index, pool in _items(data, "measured_pools"):
        own = _word(pool.get("name"))
        if own is not None and (own in rows or own in items):
            note(rows if own in rows else items, own, ("measured_pools", index, "name"))


def _check_stages(data: dict[str, Any], faults: Faults) -> None:
    """No two pairs of a period and a scenario have one name."""
    scenarios = [(index, _word(item.get("name"))) for index, item in _items(data, "scenarios")]
    seen: set[str] = set()
    for period in _mapping(data, "periods") or {ALL_HOURS: None}:
        for index, scenario in [(None, NOMINAL), *scenarios]:
            if scenario is not None:
                name = stage_name(period, scenario)
                if name in seen:
                    path: Path_ = ("periods", period) if index is None else ("scenarios", index, "name")
                    expected = "a name that no other period has, by itself or with a scenario"
                    faults.add(path, f"'{name}' as the name of two stages", expected, words=True)
                seen.add(name)


def _check_offers(offers: dict[str, Any], place: Path_, periods: Collection[str], faults: Faults) -> None:
    """The periods of each offer exist, and its name is not the one that existing servers take."""
    for word, offer in offers.items():
        path: Path_ = (*place, "offers", word)
        if word.startswith(EXISTING):
            faults.add(path, word, f"a name that does not begin with '{EXISTING}': servers that are there have it")
        given = offer.get("periods") if isinstance(offer, dict) else None
        for number, period in enumerate(given if isinstance(given, list) else []):
            if _word(period) not in periods:
                faults.add_unknown((*path, "periods", number), period, sorted(periods))


MODELLED = ("preset", "models", "variants", "context", "output", "lengths")
"""Fields of a task that ask for the performance model."""


def _is_modelled(task: dict[str, Any]) -> bool:
    return any(task.get(word) is not None for word in MODELLED)


def _check_task(task: dict[str, Any], path: Path_, known: list[str], faults: Faults) -> None:
    _check_name(task, "preset", path, workloads(), faults)
    names = task.get("models")
    for place, name in enumerate(names if isinstance(names, list) else []):
        if (word := _word(name)) is not None and word not in known:
            faults.add_unknown((*path, "models", place), word, known)
    variants = _items(task, "variants")
    _check_unique(variants, (*path, "variants"), faults)
    for place, variant in variants:
        _check_name(variant, "model", (*path, "variants", place), known, faults)
    reusable = _mapping(task, "prefix").get("reusable")
    traced = _mapping(task, "lengths").get("trace") is not None  # it may know: `resolve` looks
    known_elsewhere = traced or any(task.get(word) is not None for word in ("append", "preset"))
    if reusable not in (None, 0, 0.0, "0") and not known_elsewhere:
        faults.add(
            (*path, "append"),
            "nothing",
            "tokens that are new in each call, since prefix.reusable is set",
            words=True,
        )


def _check_complete(task: dict[str, Any], path: Path_, faults: Faults) -> None:
    """A task that modelled hardware serves needs lengths and models."""
    if task.get("models") is None and task.get("variants") is None:
        faults.add((*path, "models"), "nothing", "models (or variants) that serve the task", words=True)
    if task.get("preset") is None and task.get("lengths") is None:
        for word in ("context", "output"):
            if task.get(word) is None:
                faults.add(
                    (*path, word),
                    "nothing",
                    "tokens such as {p50: 1K, p90: 3K}, or a preset or lengths",
                    words=True,
                )


def _check_unique(items: list[tuple[int, dict[str, Any]]], path: Path_, faults: Faults) -> None:
    seen: set[str] = set()
    for index, item in items:
        name = _word(item.get("name"))
        if name is not None and name in seen:
            faults.add((*path, index, "name"), f"the name '{name}' twice", "a name of its own", words=True)
        seen.add(str(name))


def _check_name(item: Any, word: str, path: Path_, choices: Any, faults: Faults) -> None:
    name = _word(item.get(word)) if isinstance(item, dict) else None
    if name is not None and name not in choices:
        faults.add_unknown((*path, word), name, list(choices))


def _check_list(item: Any, word: str, path: Path_, choices: Any, faults: Faults) -> None:
    """Every name of a list leads to one of the choices."""
    names = item.get(word) if isinstance(item, dict) else None
    for place, value in enumerate(names if isinstance(names, list) else []):
        if (name := _word(value)) is not None and name not in choices:
            faults.add_unknown((*path, word, place), name, list(choices))


def _word(value: Any) -> str | None:
    """A name as the schema takes it: text, or digits that YAML reads as a number; None for anything else."""
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _mapping(data: Any, word: str) -> dict[str, Any]:
    value = data.get(word) if isinstance(data, dict) else None
    return value if isinstance(value, dict) else {}


def _items(data: Any, word: str) -> list[tuple[int, dict[str, Any]]]:
    return list(_dicts(data.get(word))) if isinstance(data, dict) else []


def _dicts(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, item in enumerate(value if isinstance(value, list) else []):
        if isinstance(item, dict):
            yield index, item
