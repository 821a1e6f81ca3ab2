"""A plan read closely: does it hold anything that nobody uses, and do amounts keep their rows beyond rounding?

Within a gap it may hold something idle, and where a thing has no price nothing minds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from codesign.candidates.data import FleetData, SideLimit
from codesign.optimize.model import FleetModel

NO_SHARE = 1e-12
"""Of all of a flow: rounding, and no call."""
_WHOLE = 1e-6
"""Of a count, and of a row: rounding."""


class Held:
    """What a plan of `data` holds, from the values of a model's variables by their ids.

    The model may have limits of its own, of a place in a search, which ask a plan for nothing.
    """

    def __init__(self, data: FleetData, model: FleetModel, values: Mapping[int, float]) -> None:
        self.model, self.data = model, data
        m = model.pyomo

        def amounts(family: Any) -> dict[int, float]:
            return {i: float(values.get(id(v), v.value or 0.0)) for i, v in family.items()}

        self.replicas, self.spares = amounts(m.replicas), amounts(m.spares)
        self.servers, self.modules, self.aside = amounts(m.servers), amounts(m.modules), amounts(m.set_aside)
        shares = {key: float(values.get(id(m.rate[key]), 0.0)) for key in m.rate}
        self.rate: dict[tuple[int, int], float] = {key: share for key, share in shares.items() if share > NO_SHARE}

    def exact_amounts(self) -> dict[int, float]:
        """By module that comes in any amount: as much as the plan has, and what rounding left short of its rows.

        A level of risk may be a millionth of what the plan costs: a tolerance to the objective, all of it to its row.
        """
        data = self.data
        loose = [j for j, module in enumerate(data.modules) if not module.whole]
        for j in loose:
            self.modules[j] = max(0.0, self.modules[j])
        for limit in data.limits:
            given = [j for j in loose if limit.per_module.get(j, 0.0) < 0]
            if given and (short := self._charged(limit) - limit.limit) > 0:
                cheapest = min(given, key=lambda j: data.module_price(j) / -limit.per_module[j])
                self.modules[cheapest] += short / -limit.per_module[cheapest]
        return {j: self.modules[j] for j in loose}

    def idle(self) -> bool:
        """Could some count be one less with all else as it is?"""
        return self._idle_replicas() or self._idle_spares() or self._idle_servers() or self._idle_modules()

    def _demanded(self, kind: str, index: int) -> list[SideLimit]:
        """Limits that an item widens."""
        return [limit for limit in self.data.limits if getattr(limit, kind).get(index, 0.0) < 0]

    def _idle_replicas(self) -> bool:
        used: dict[int, Any] = defaultdict(float)
        for (k, v), share in self.rate.items():
            used[k] = used[k] + self.model.use[k][:, v] * share
        for k, n in self.replicas.items():
            block, i = self.model.place[k]
            if n <= _WHOLE:
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                needed = np.nan_to_num(used[k] / block.limit[i], nan=0.0) if k in used else np.zeros(1)
            load = float(np.max(needed, initial=0.0))
            least = max(float(block.min_replicas[i]), math.ceil(load * (1 - _WHOLE))) if load > 0 else 0.0
            count = math.ceil(n - _WHOLE)
            fewer = 1.0 if count - 1 >= block.min_replicas[i] else count  # below the least of its pooling it goes whole
            if count - fewer >= least and self._kept_without("per_group", int(block.group[i]), fewer):
                return True
        return False

    def _by_group(self) -> dict[int, float]:
        found: dict[int, float] = defaultdict(float)
        for k, n in self.replicas.items():
            block, i = self.model.place[k]
            found[int(block.group[i])] += n
        return found

    def _idle_spares(self) -> bool:
        run = self._by_group()
        lost = {g: min(n, self.data.groups[g].replicas_lost_with_server) for g, n in run.items()}
        return any(n > lost.get(g, 0.0) + _WHOLE for g, n in self.spares.items())

    def _needed(self) -> dict[int, float]:
        """Servers of each row of hardware that what runs stands in, and what limits ask to be set aside."""
        data = self.data
        slots: dict[int, float] = defaultdict(float)
        spared: set[int] = set()
        for k, n in self.replicas.items():
            group = int(self.model.place[k][0].group[self.model.place[k][1]])
            spare = 0.0 if group in spared else self.spares.get(group, 0.0)
            spared.add(group)
            for p, packed in self.model.packed(k):
                slots[p] += packed * (math.ceil(n - _WHOLE) + spare)
        needed: dict[int, float] = defaultdict(float)
        for p, packing in enumerate(data.packings):
            count = math.ceil(slots[p] / packing.slots - _WHOLE)
            if data.survive_one_server and count:
                count = max(count, 2)
            if self._demanded("per_packing", p):
                count = max(count, math.ceil(self.aside[p] - _WHOLE))
            needed[packing.hardware] += count
        return needed

    def _idle_servers(self) -> bool:
        data, needed = self.data, self._needed()
        bought: dict[int, float] = defaultdict(float)
        for o, n in self.servers.items():
            for h in data.offers[o].supplies:
                bought[h] += n
        for o, n in self.servers.items():
            if n <= _WHOLE:
                continue
            fewer = n if n - 1 < data.offers[o].min_servers else 1.0
            spared = all(bought[h] - fewer >= needed[h] - _WHOLE for h in data.offers[o].supplies)
            if spared and self._kept_without("per_server", o, fewer):
                return True
        return False

    def _idle_modules(self) -> bool:
        return any(
            self.data.modules[j].whole and n > _WHOLE and self._kept_without("per_module", j, 1.0)
            for j, n in self.modules.items()
        )

    def _kept_without(self, kind: str, index: int, fewer: float) -> bool:
        """Do all limits that an item widens hold with fewer of it?"""
        return all(
            self._charged(limit) - fewer * getattr(limit, kind)[index] <= limit.limit + _WHOLE * limit.scale
            for limit in self._demanded(kind, index)
        )

    def _charged(self, limit: SideLimit) -> float:
        """The left side of a limit."""
        total = sum(c * self.servers[o] for o, c in limit.per_server.items())
        total += sum(c * self.aside[p] for p, c in limit.per_packing.items())
        total += sum(c * self.modules[j] for j, c in limit.per_module.items())
        run = self._by_group()
        total += sum(c * run.get(g, 0.0) for g, c in limit.per_group.items())
        spared: set[int] = set()
        for k, n in self.replicas.items():
            block, i = self.model.place[k]
            hardware, group = self.data.packings[int(block.packing[i])].hardware, int(block.group[i])
            spare = 0.0 if group in spared else self.spares.get(group, 0.0)
            spared.add(group)
            total += limit.per_watt.get(hardware, 0.0) * float(block.replica_power_w[i]) * (n + spare)
        for (k, v), share in self.rate.items():
            block, i = self.model.place[k]
            hardware, flow = self.data.packings[int(block.packing[i])].hardware, int(block.flows[v])
            each = limit.per_watt.get(hardware, 0.0) * float(block.flow_power_w[block.use.source[i], v])
            each += limit.per_flow.get((flow, hardware), 0.0) + limit.per_flow.get((flow, -1), 0.0)
            total += each * share * self.model.unit(k, v)
        return total
