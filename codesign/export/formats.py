"""A linear program with whole numbers as text of MPS or LP that HiGHS, SCIP, CBC and GLPK read alike.

Where readers differ, the file leaves nothing to them: no OBJSENSE (the default is to minimise, and GLPK refuses the
section), bounds of every column in full (GLPK and SCIP cap integers of MPS at 1 without any), the objective's constant
as a column fixed at 1 (on the RHS readers differ in its sign), a row with two different bounds as two rows (LP has no
ranges for GLPK), names of letters that all of them take, 95 at the most (CBC), and no coefficient that one drops.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from codesign.candidates.data import Bools, Floats
from codesign.optimize.equilibrate import equilibrate

FORMATS = ("mps", "lp")
_LONGEST_NAME = 95
_LONGEST_LINE = 200
_RESERVED = re.compile(
    "bin|binar(y|ies)|bounds?|end|free|gen|generals?|inf|infinity|int|integers?|max|min|(maxim|minim)(um|i[sz]e)|"
    "semis?|sin|sos|st|subject|such|columns|endata|marker|name|objsense|objname|obj|ranges|rhs|rows|sets|sos[12]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class LinearProgram:
    """Minimise cost · x + offset, rows and columns within bounds."""

    columns: Sequence[str]
    """Names [n]; any text, twice the same too."""
    rows: Sequence[str]
    """Names [m]."""
    matrix: csr_array
    """[m, n]."""
    cost: Floats
    """[n]."""
    lower: Floats
    """[n], -inf where there is none."""
    upper: Floats
    """[n], inf where there is none."""
    row_lower: Floats
    """[m]."""
    row_upper: Floats
    """[m]."""
    whole: Bools
    """[n] which columns are integers."""
    offset: float = 0.0
    objective: str = "cost"
    """A name that readers take."""


@dataclass(frozen=True)
class _Row:
    name: str
    kind: str
    """E, L or G."""
    bound: float
    terms: list[tuple[int, float]]
    """(column, coefficient)."""


def format_program(program: LinearProgram, kind: str) -> Iterator[str]:
    """The lines of a file in one of FORMATS.

    Rows are multiplied by powers of two where that keeps small coefficients from being taken for zero. Raises
    RangeError (`optimize/equilibrate.py`) where a row's coefficients are too far apart for it, ValueError where a
    column has no value within its bounds, of which readers think differently.
    """
    program = _with_constant(program)
    # GLPK refuses integers with bounds that are not whole.
    lower = np.where(program.whole, np.ceil(program.lower), program.lower)
    upper = np.where(program.whole, np.floor(program.upper), program.upper)
    if (lower > upper).any():
        raise ValueError(f"{program.columns[int(np.argmax(lower > upper))]} has no value within its bounds")
    program = replace(program, lower=lower, upper=upper)
    names = unique_names(program.columns)
    rows = list(_one_sided(program))
    return _mps(program, names, rows) if kind == "mps" else _lp(program, names, rows)


def unique_names(texts: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """A name for each text that all readers take, no two alike."""
    used = set(taken)
    names = []
    for text in texts:
        plain = re.sub(r"[^A-Za-z0-9_.#(),]", "_", text)[:_LONGEST_NAME] or "x"
        # LP reads `2 e1` as a number.
        if not re.match(r"[A-Za-z_]", plain) or re.match(r"[eE][0-9]", plain) or _RESERVED.fullmatch(plain):
            plain = f"x_{plain}"[:_LONGEST_NAME]
        name, count = plain, 1
        while name in used:
            count += 1
            end = f"~{count}"
            name = plain[: _LONGEST_NAME - len(end)] + end
        used.add(name)
        names.append(name)
    return names


def _with_constant(program: LinearProgram) -> LinearProgram:
    """The objective's constant as a column fixed at 1."""
    if program.offset == 0 and program.columns:
        return program
    m, n = len(program.rows), len(program.columns)
    matrix = csr_array((program.matrix.data, program.matrix.indices, program.matrix.indptr), shape=(m, n + 1))
    return replace(
        program,
        columns=(*program.columns, "constant"),
        matrix=matrix,
        cost=np.append(program.cost, program.offset),
        lower=np.append(program.lower, 1.0),
        upper=np.append(program.upper, 1.0),
        whole=np.append(program.whole, False),
        offset=0.0,
    )


def _one_sided(program: LinearProgram) -> Iterator[_Row]:
    """Rows with one bound or two equal ones, within range; rows without a bound say nothing."""
    entries = program.matrix.tocoo()
    entries.eliminate_zeros()
    every = np.ones(len(program.columns), dtype=bool)  # columns keep their units, which people read
    scale = equilibrate(entries, program.row_lower, program.row_upper, every).rows
    matrix = entries.tocsr()
    sides: list[tuple[int, str, float]] = []
    for i, (low, high) in enumerate(zip(program.row_lower.tolist(), program.row_upper.tolist(), strict=True)):
        if low == high:
            sides.append((i, "E", low))
            continue
        sides += [(i, "G", low)] if np.isfinite(low) else []
        sides += [(i, "L", high)] if np.isfinite(high) else []
    names = unique_names([program.rows[i] for i, _, _ in sides], taken=(program.objective,))
    for name, (i, kind, bound) in zip(names, sides, strict=True):
        inside = slice(matrix.indptr[i], matrix.indptr[i + 1])
        values = matrix.data[inside] * scale[i]
        terms = list(zip(matrix.indices[inside].tolist(), values.tolist(), strict=True))
        yield _Row(name, kind, bound * float(scale[i]), terms)


def _mps(program: LinearProgram, names: list[str], rows: list[_Row]) -> Iterator[str]:
    yield "NAME fleet FREE"  # without the word CBC takes some lines for those of the fixed format
    yield "ROWS"
    yield f" N {program.objective}"
    yield from (f" {row.kind} {row.name}" for row in rows)
    yield "COLUMNS"
    entries: list[list[tuple[str, float]]] = [[(program.objective, cost)] for cost in program.cost.tolist()]
    for row in rows:
        for column, value in row.terms:
            entries[column].append((row.name, value))
    inside = False
    for name, whole, own in zip(names, program.whole.tolist(), entries, strict=True):
        if whole != inside:
            inside = whole
            yield f" MARKER 'MARKER' {_marker(inside)}"
        # The cost even where it is zero: a column without entries would not exist.
        yield from (f" {name} {row} {_number(value)}" for row, value in own)
    if inside:
        yield f" MARKER 'MARKER' {_marker(False)}"
    yield "RHS"
    yield from (f" RHS {row.name} {_number(row.bound)}" for row in rows if row.bound)
    yield "BOUNDS"
    for name, low, high in zip(names, program.lower.tolist(), program.upper.tolist(), strict=True):
        if low == high:
            yield f" FX BOUND {name} {_number(low)}"
        elif np.isinf(low) and np.isinf(high):
            yield f" FR BOUND {name}"
        else:
            yield f" MI BOUND {name}" if np.isinf(low) else f" LO BOUND {name} {_number(low)}"
            yield f" PL BOUND {name}" if np.isinf(high) else f" UP BOUND {name} {_number(high)}"
    yield "ENDATA"


def _marker(begins: bool) -> str:
    return "'INTORG'" if begins else "'INTEND'"


def _lp(program: LinearProgram, names: list[str], rows: list[_Row]) -> Iterator[str]:
    yield "Minimize"
    costs = [(j, cost) for j, cost in enumerate(program.cost.tolist()) if cost]
    yield from _wrapped(f" {program.objective}:", _terms(names, costs or [(0, 0.0)]))
    yield "Subject To"
    signs = {"E": "=", "L": "<=", "G": ">="}
    # GLPK wants a row.
    for row in rows or [_Row("nothing", "L", 1.0, [])]:
        end = f"{signs[row.kind]} {_number(row.bound)}"
        yield from _wrapped(f" {row.name}:", [*_terms(names, row.terms or [(0, 0.0)]), end])
    yield "Bounds"
    for name, low, high in zip(names, program.lower.tolist(), program.upper.tolist(), strict=True):
        if low == high:
            yield f" {name} = {_number(low)}"
        elif np.isinf(low) and np.isinf(high):
            yield f" {name} free"
        else:
            yield f" {_number(low)} <= {name} <= {_number(high)}"
    whole = [name for name, integer in zip(names, program.whole.tolist(), strict=True) if integer]
    if whole:
        yield "General"
        yield from _wrapped("", whole)
    yield "End"


def _terms(names: list[str], terms: list[tuple[int, float]]) -> list[str]:
    return [f"{'-' if value < 0 else '+'} {_number(abs(value))} {names[column]}" for column, value in terms]


def _wrapped(start: str, words: list[str]) -> Iterator[str]:
    line = start
    for word in words:
        if len(line) + len(word) >= _LONGEST_LINE:
            yield line
            line = ""
        line += f" {word}"
    yield line


def _number(value: float) -> str:
    """The shortest text that reads as the very number."""
    if np.isinf(value):
        return "+inf" if value > 0 else "-inf"
    return repr(float(value)).removesuffix(".0")
