"""All columns of a problem priced at once, again and again: what each costs and the most that it can earn.

Of a column's dozen rows two to four bind in any mix of its flows, so only those are kept.  Kinds of columns
(`ColumnBlock.kinds`) with about as many rows and flows are laid side by side, and only flows that earn are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign.candidates.data import Bools, ColumnBlock, FleetData, Floats, Ints
from codesign.optimize.duals import Duals, Gains, Places, affordable, proven
from codesign.optimize.pricing import best_ratios, best_values, parts, upper_values

_MOST_HELD = 5_000_000
"""Entries of a layer that are worked out once; those of a larger block are in every pricing."""


@dataclass(frozen=True)
class _Layer:
    """Columns of some kinds, each with R rows and V flows; where one has fewer, some are added that change nothing."""

    columns: Ints
    """[n] their places in the problem."""
    kind: Ints
    """[n] index of the kind of each."""
    limit: Floats
    """[R, n]."""
    flows: Ints
    """[m, V] of each kind."""
    admissible: Bools
    """[m, V]."""
    power: Floats
    """[m, V] watts per call/s."""
    slots: Floats | None
    """[m, V] slots that a call/s takes on top."""
    packing: Ints
    """[m]."""
    held: Floats | None
    """[V, R, m] calls/s of each flow that one unit of a row carries, inf where the flow spares it."""
    large: _Part | None
    """All of it, where nothing is held."""

    def units(self, flows: Ints, kinds: Ints | slice) -> Floats:
        """[v, R, n] the same of some flows [v] and kinds [n]."""
        if self.held is not None:
            few = self.held[:, :, kinds]
            return np.asarray(few[flows])
        assert self.large is not None
        return self.large.units(kinds)[flows]


@dataclass(frozen=True)
class _Part:
    """Some kinds of columns of one block."""

    block: ColumnBlock
    first: Ints
    """[m] a column of each kind."""
    rows: Ints
    """[m, R] those that bind on some of them (-1: no more)."""
    kind: Ints
    """[n] of each column."""
    columns: Ints
    """[n] places in the block."""
    offset: int
    """Place of the block in the problem."""

    @property
    def entries(self) -> int:
        return self.rows.size * len(self.block.flows)

    def limits(self) -> Floats:
        """[n, R] what columns offer of the rows; all below zero where any of their own is."""
        own = self.rows[self.kind]
        limit = self.block.limit[self.columns]
        found = np.where(own >= 0, np.take_along_axis(limit, own, axis=1), 1.0)
        negative = np.any(limit < 0, axis=1)
        return np.asarray(np.where(np.asarray(negative)[:, None], -1.0, found))

    def units(self, kinds: Ints | slice = slice(None)) -> Floats:
        """[V, R, m] calls/s of each flow that one unit of a row carries, inf where the flow spares it."""
        rows = self.rows[kinds]
        use = np.take_along_axis(self.block.use.of(self.first[kinds]), rows[:, :, None], axis=1)
        use = np.where((rows >= 0)[:, :, None], use, 0.0)
        with np.errstate(divide="ignore"):
            return np.asarray(1.0 / np.ascontiguousarray(use.transpose(2, 1, 0)))

    def slots(self) -> Floats:
        """[m, V] slots that a call/s takes on top."""
        given = self.block.flow_slots
        shape = len(self.first), len(self.block.flows)
        return np.zeros(shape) if given is None else given[self.block.use.source[self.first]]


class Pricer:
    """Prices the columns of `data`, and of problems with the same blocks and other numbers beside them."""

    def __init__(self, data: FleetData) -> None:
        self._columns = data.columns
        self._places = Places.of(data)
        self._layers = list(_layers(data))

    def costs(self, data: FleetData, duals: Duals) -> Floats:
        """[columns] objective of one replica: its share of servers at the cheapest offers, and its power."""
        return self._places.costs(data, duals)

    def values(self, data: FleetData, duals: Duals, costs: Floats, exact_below: float = np.inf) -> Floats:
        """[columns] best earnings of one replica; an upper bound instead where cost − bound ≥ `exact_below`."""
        gains = Gains(data, duals)
        values = np.zeros(self._columns)
        for layer in self._layers:
            gain = gains.at(layer.flows, layer.packing, layer.power, layer.slots, layer.admissible).T
            flows = np.flatnonzero((gain > 0).any(axis=1))
            if not len(flows):
                continue
            gain = np.maximum(gain[flows], 0.0)
            rows, count = len(layer.limit), gain.shape[1]
            ratios = np.empty((rows, count))
            for part in parts(count, rows * len(flows)):
                ratios[:, part] = best_ratios(layer.units(flows, part), gain[:, part])
            found = upper_values(ratios[:, layer.kind], layer.limit)
            if rows > 1:  # else the bound is the value
                close = np.flatnonzero((costs[layer.columns] - found < exact_below) & (found > 0))
                for part in parts(len(close), rows * len(flows)):
                    some = close[part]
                    kind = layer.kind[some]
                    use = 1.0 / layer.units(flows, kind).transpose(2, 1, 0)
                    found[some] = best_values(use, layer.limit[:, some].T, gain[:, kind].T)
            values[layer.columns] = found
        return values


def column_values(data: FleetData, duals: Duals, costs: Floats, exact_below: float = np.inf) -> Floats:
    """The values [columns] of a problem that is priced once."""
    return Pricer(data).values(data, duals, costs, exact_below)


def lower_bound(data: FleetData, duals: Duals) -> tuple[float, Duals, Floats]:
    """A valid bound from any duals, the scaled duals that prove it, and all reduced costs [columns] there."""
    duals = affordable(data, duals)
    pricer = Pricer(data)
    costs = pricer.costs(data, duals)
    return proven(data, duals, costs, pricer.values(data, duals, costs, exact_below=0.0))


def _layers(data: FleetData) -> Iterator[_Layer]:
    """The columns of all blocks, kinds of about as many rows and flows together."""
    waiting: dict[tuple[int, int], list[_Part]] = {}
    for offset, block in zip(data.offsets.tolist(), data.blocks, strict=False):
        for part in _parts(block, offset) if len(block) else ():
            members = waiting.setdefault(((part.rows.shape[1] - 1).bit_length(), len(block.flows).bit_length()), [])
            if members and 2 * sum(other.entries for other in members) + part.entries > _MOST_HELD:
                yield _layer(members)
                members.clear()
            members.append(part)
    for members in waiting.values():
        yield _layer(members)


def _parts(block: ColumnBlock, offset: int) -> Iterator[_Part]:
    """A block's kinds by how many rows they have, one, two, up to four, up to eight, …"""
    rows = _binding(block)
    first, kind = block.kinds
    count = np.maximum(1, (rows >= 0).sum(axis=1))
    size = np.frexp(count - 0.5)[1]
    for each in np.unique(size).tolist():
        kinds = np.flatnonzero(size == each)
        place = np.full(len(first), -1)
        place[kinds] = np.arange(len(kinds))
        columns = np.flatnonzero(place[kind] >= 0)
        width = int(count[kinds].max())
        yield _Part(block, first[kinds], rows[kinds, :width], place[kind[columns]], columns, offset)


def _layer(parts: Sequence[_Part]) -> _Layer:
    rows = max(part.rows.shape[1] for part in parts)
    flows = max(len(part.block.flows) for part in parts)
    sizes = [len(part.first) for part in parts]
    starts = np.cumsum([0, *sizes])[:-1].tolist()

    def filled(arrays: list[Any], width: int, filler: float) -> Any:
        """Arrays of one width under one another."""
        wide = [np.pad(a, [(0, 0), (0, width - a.shape[1])], constant_values=filler) for a in arrays]
        return np.concatenate(wide)

    held = None
    if len(parts) > 1 or parts[0].entries <= _MOST_HELD:  # parts laid side by side are small ones, however they fill up
        held = np.full((flows, rows, sum(sizes)), np.inf)
        for start, part in zip(starts, parts, strict=True):
            units = part.units()
            held[: units.shape[0], : units.shape[1], start : start + units.shape[2]] = units
    return _Layer(
        columns=np.concatenate([part.offset + part.columns for part in parts]),
        kind=np.concatenate([start + part.kind for start, part in zip(starts, parts, strict=True)]),
        limit=np.ascontiguousarray(filled([part.limits() for part in parts], rows, 1.0).T),
        flows=filled([np.tile(part.block.flows, (len(part.first), 1)) for part in parts], flows, 0),
        admissible=filled([part.block.admissible[part.first] for part in parts], flows, False),
        power=filled([part.block.flow_power(part.first) for part in parts], flows, 0.0),
        slots=filled([part.slots() for part in parts], flows, 0.0)
        if any(part.block.flow_slots is not None for part in parts)
        else None,
        packing=np.concatenate([part.block.packing[part.first] for part in parts]),
        held=held,
        large=None if held is not None else parts[0],
    )


def _binding(block: ColumnBlock) -> Ints:
    """[kinds, R] the rows that bind on some column of each kind (-1: no more).

    Row r implies row q where it charges each admissible flow at least as much of its limit: where use_q/use_r, at its
    most over the flows, is not above limit_q/limit_r.
    """
    first, kind = block.kinds
    _, count, flows = block.use.shape
    needed = np.zeros((len(first), count), dtype=bool)
    order = np.argsort(kind, kind="stable")
    starts = np.searchsorted(kind[order], np.arange(len(first) + 1))
    for part in parts(len(first), count * count * flows):
        use = block.use.of(first[part])
        use = np.where(block.admissible[first[part]][:, None, :], use, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.fmax.reduce(use[:, :, None, :] / use[:, None, :, :], axis=3, initial=0.0)
        columns = order[starts[part.start] : starts[part.stop]]
        for some in parts(len(columns), count * count):
            here = columns[some]
            limit, own = block.limit[here], kind[here] - part.start
            with np.errstate(divide="ignore", invalid="ignore"):
                implied = (most[own] <= limit[:, :, None] / limit[:, None, :]) & np.isfinite(most[own])
            implied[:, np.arange(count), np.arange(count)] = False
            found = np.ones((len(here), count), dtype=bool)
            for row in range(count):  # implied by one that stays: of rows that imply one another, one does
                found[:, row] = ~(implied[:, row] & found).any(axis=1)
            begins = np.flatnonzero(np.diff(own, prepend=-1))
            needed[part.start + own[begins]] |= np.logical_or.reduceat(found, begins, axis=0)
    ordered = np.argsort(~needed, axis=1, kind="stable")[:, : max(1, int(needed.sum(axis=1).max(initial=0)))]
    return np.where(np.take_along_axis(needed, ordered, axis=1), ordered, -1)
