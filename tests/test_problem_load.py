"""Bad input: whatever a file holds, a ProblemError with file, line, field, found, expected; never another."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from codesign.problem import Problem, ProblemError, json_schema, load_problem, resolve
from codesign.problem.yaml_lines import parse_yaml

FULL = """\
kind: procurement
name: full
as_of: 2026-11-01
max_price_age: 200 d
objective: cost_per_task
price_list: semianalysis-2026-08-rental
site:
  power: 2 MW
  pue: 1.25
  electricity: 0.08 $/kWh
  carbon: 380 g/kWh
  racks: {air: {count: 40, power: 22 kW}}
models:
  coder: {card: DeepSeek-V3.2, quality: 0.93, weights: [fp8], activations: [fp8], kv: [fp8, bf16]}
  chat: {card: gpt-oss-120b, quality: 0.80, max_context: 128Ki}
tasks:
  - {name: chat, preset: chat, rate: 50/s, models: [chat], slo: {ttft: {p95: 800 ms, p99: 2 s}}}
  - name: coding
    rate: 4/s
    calls: {p50: 33, p90: 85}
    context: {p50: 110K, p90: 300K}
    append: {mean: 2242, cv: 1.5}
    output: {mean: 446, p90: 937}
    tool_wait: {p50: 5.2 s, p99: 81 s}
    prefix: {shared: 15K, reusable: 0.96, hit: 0.9, ttl: 5 min}
    variants:
      - {name: compacted, model: coder, max_context: 128K, calls_factor: 1.15, quality_factor: 0.97}
    min_quality: 0.88
    slo: {tpot: {p95: 30 ms}, task_latency: {p90: 12 min, at: reference}}
    on_overlong: truncate
hardware:
  h200:
    accelerator: h200-sxm
    memory_capacity: 141 GB
    server: {accelerators: 8, rack: air}
    roles: [prefill, decode]
    offers:
      reserved: {rent: 2.05 $/h, min: 64, max: 512, includes_power: true}
      own: {capital: 300 k$/server, life: 4 years, interest: 9%, hosting: 0.1 $/h}
  b200: {accelerator: b200-sxm, price: 4 $/h}
measured_pools:
  - name: a100
    accelerator: A100-80GB
    accelerators_per_replica: 1
    cost: 3.67 $/h
    power: 400 W
    max_rate: {chat: 20/s}
limits:
  inventory: {h200-sxm: 512, A100-80GB: 64}
  budget: {capital: 30 M$, cost_per_hour: 5000 $/h}
  max_designs: 4
  vendors: 2
redundancy: {survive: one-server, per: group}
options:
  disaggregation: decide
  split_tasks: true
  gap: 0.5%
  time_limit: 60 s
  seed: 0
  threads: 2
  memory_fraction: 0.9
  memory_reserve: 0.7 GB
  max_sequences: 1024
  max_replica_accelerators: 16
"""
DATA: dict[str, Any] = parse_yaml(FULL).data


def _leaves(data: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(data, dict):
        return [leaf for key, value in data.items() for leaf in _leaves(value, (*path, key))]
    if isinstance(data, list):
        return [leaf for i, value in enumerate(data) for leaf in _leaves(value, (*path, i))]
    return [path]


def _keys(data: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(data, dict):
        return [key for k, v in data.items() for key in [(*path, k), *_keys(v, (*path, k))]]
    if isinstance(data, list):
        return [key for i, v in enumerate(data) for key in _keys(v, (*path, i))]
    return []


def _parent(data: Any, path: tuple[str | int, ...]) -> Any:
    for step in path[:-1]:
        data = data[step]
    return data


LEAVES = _leaves(DATA)
FREE = {"hardware", "models", "racks", "offers", "inventory", "max_rate"}
"""Mappings whose keys are the user's own names."""
FIELDS = [path for path in _keys(DATA) if len(path) < 2 or path[-2] not in FREE]
NEEDED = [
    ("tasks",),
    ("tasks", 0, "name"),
    ("tasks", 0, "rate"),
    ("tasks", 1, "context"),
    ("tasks", 1, "append"),
    ("tasks", 1, "output"),
    ("measured_pools", 0, "name"),
    ("measured_pools", 0, "cost"),
    ("site", "racks", "air", "power"),
]


def _write(tmp_path: Path, data: Any) -> Path:
    path = tmp_path / "problem.yaml"
    with path.open("w", encoding="utf-8") as stream:
        YAML(typ="safe").dump(data, stream)
    return path


def _failure(build: Callable[[], Problem]) -> ProblemError | None:
    """The ProblemError of building and resolving, None where all is good; anything else escapes."""
    try:
        resolve(build())
    except ProblemError as error:
        return error
    return None


def _outcome(path: Path) -> str:
    """The message about a file, empty where it is good."""
    error = _failure(lambda: load_problem(path))
    assert error is None or all(str(issue).startswith(str(path)) for issue in error.issues)
    return str(error or "")


def _outcome_of_data(data: Any) -> str:
    """As `_outcome`, without the time that writing and parsing takes."""
    error = _failure(lambda: Problem.from_dict(data))
    assert error is None or error.issues
    return str(error or "")


def test_the_full_file_is_good(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(FULL)
    assert _outcome(tmp_path / "p.yaml") == ""


@pytest.mark.parametrize("path", FIELDS, ids=lambda path: ".".join(map(str, path)))
def test_every_field_misspelt(tmp_path: Path, path: tuple[str | int, ...]) -> None:
    data = copy.deepcopy(DATA)
    parent = _parent(data, path)
    word = str(path[-1])
    wrong = word + "x" if word[0] != "p" or not word[1:].isdigit() else word + "5"
    parent[wrong] = parent.pop(word)
    message = _outcome(_write(tmp_path, data))
    assert f"found the unknown field '{wrong}'" in message
    assert f"'{word}'" in message or word[0] == "p", message


@pytest.mark.parametrize("path", FIELDS, ids=lambda path: ".".join(map(str, path)))
def test_every_field_missing(path: tuple[str | int, ...]) -> None:
    data = copy.deepcopy(DATA)
    del _parent(data, path)[path[-1]]
    message = _outcome_of_data(data)
    if path in NEEDED:
        assert ".".join(map(str, path[-1:])) in message


@pytest.mark.parametrize(
    "value", [-3, "-3 s", "4 parsecs", float("nan"), float("-inf"), 1e300, 10**400, "1e40"]
)
@pytest.mark.parametrize("path", LEAVES, ids=lambda path: ".".join(map(str, path)))
def test_every_value_wrong(path: tuple[str | int, ...], value: Any) -> None:
    data = copy.deepcopy(DATA)
    _parent(data, path)[path[-1]] = value
    message = _outcome_of_data(data)
    free_text = path[-1] == "name" or path == ("measured_pools", 0, "accelerator")
    if not free_text:
        assert message, f"{path} took {value!r}"
        assert str(path[-1]) in message or isinstance(path[-1], int)


@pytest.mark.parametrize("value", [None, [], {}, True, "", [[1]], {"a": {"b": 1}}, 7, "text"])
@pytest.mark.parametrize("path", _keys(DATA), ids=lambda path: ".".join(map(str, path)))
def test_every_field_of_another_type(path: tuple[str | int, ...], value: Any) -> None:
    data = copy.deepcopy(DATA)
    _parent(data, path)[path[-1]] = value
    _outcome_of_data(data)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty file"),
        ("# only a comment\n", "an empty file"),
        ("~", "expected a mapping"),
        ("just text", "expected a mapping"),
        ("- a\n- b", "expected a mapping"),
        ("a: [", "not YAML"),
        ("a: b: c", "not YAML"),
        ("\t- a", "not YAML"),
        ("tasks: []\ntasks: []", "the same key twice"),
        ("a: *nowhere", "not YAML"),
        ("a: !!python/object:os.system x", "YAML tag"),
        ("a: !!int x", "a number"),
        ("a: !!float x", "a number"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("%YAML 9.9\n---\na: 1", "not YAML"),
        ("? [a]\n: b", "a word as key"),
        ("&a [*a]", "nested too deeply"),
        ("[" * 5000, "nested too deeply"),
        ("{a: " * 40 + "1" + "}" * 40, "nested too deeply"),
        ("a: " + "9" * 5000, "a number"),
        (BOMB, "expand without end"),
        ("a: 1\nb: " + "x" * 1_100_000, "more than 1,000,000 bytes"),
    ],
)
def test_hostile_text(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    assert words in _outcome(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text(FULL)
    assert "fleet.yaml'" in _outcome(tmp_path / "flet.yaml")
    assert "no such file" in _outcome(tmp_path / "no" / "folder.yaml")
    assert "a directory" in _outcome(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: a\nb: \xe9\xff")
    assert "latin.yaml:2" in _outcome(tmp_path / "latin.yaml")
    (tmp_path / "zero.yaml").write_bytes(b"a\x00b")
    assert "not YAML" in _outcome(tmp_path / "zero.yaml")
    with pytest.raises(ProblemError):
        load_problem("bad\x00name.yaml")


def test_all_errors_at_once_with_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        FULL.replace("rate: 4/s", "rate: 4 parsecs")
        .replace("card: gpt-oss-120b", "card: gpt-oss-12b")
        .replace("rack: air", "rack: aire")
        .replace("max_designs: 4", "max_desings: 4")
        .replace("p95: 30 ms", "p95: 30")
        .replace("model: coder", "model: codder")
    )
    lines = _outcome(path).splitlines()
    for line, words in [
        (15, "models.chat.card: found 'gpt-oss-12b'; expected 'gpt-oss-120b'"),
        (19, "tasks.coding.rate: found '4 parsecs'; expected a rate such as '4/s'"),
        (27, "tasks.coding.variants.compacted.model: found 'codder'; expected 'coder'"),
        (29, "tasks.coding.slo.tpot.p95: found 30; expected a unit: '30 ms'"),
        (35, "hardware.h200.server.rack: found 'aire'; expected 'air'"),
        (51, "limits.max_desings: found the unknown field 'max_desings'; expected 'max_designs'"),
    ]:
        assert any(text.startswith(f"{path}:{line}: {words}") for text in lines), (line, words, lines)
    assert len(lines) == 6


def test_aliases_and_merge_keys_work_in_moderation() -> None:
    data = parse_yaml("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\n").data
    assert data == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}


def test_replace() -> None:
    problem = Problem.from_dict(DATA)
    assert resolve(problem.replace({"tasks.coding.rate": "6/s"})).tasks[1].rate_per_s == 6
    changed = problem.replace({"tasks.1.variants.compacted.max_context": "64K", "options.seed": 3})
    assert resolve(changed).tasks[1].variants[0].max_context == 64_000
    assert changed.options.seed == 3
    assert problem.options.seed == 0
    assert problem.sha256 != changed.sha256
    for path in ("tasks.codding.rate", "tasks.coding.raet", "name.deeper", "nowhere.at.all", ""):
        with pytest.raises(ProblemError):
            problem.replace({path: 1})


def test_schema_accepts_the_full_file_and_refuses_strangers() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert not list(validator.iter_errors(DATA))
    assert list(validator.iter_errors(DATA | {"taks": []}))
    assert schema["properties"]["max_price_age"]["default"] == "200 d"


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["4/s", "1 GB", "p95"]),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "rate", "tasks", "models", "card", "p50", "x"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(sorted(DATA)), TREES, max_size=5))
def test_any_data(data: dict[str, Any]) -> None:
    _outcome_of_data(DATA | data)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(FULL) - 1), st.text(max_size=4), st.integers(0, 5))
def test_any_slip_of_the_pen(tmp_path_factory: pytest.TempPathFactory, at: int, text: str, cut: int) -> None:
    path = tmp_path_factory.getbasetemp() / "slip.yaml"
    path.write_text(FULL[:at] + text + FULL[at + cut :], encoding="utf-8", errors="surrogatepass")
    _outcome(path)
