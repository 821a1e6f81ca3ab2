"""Measured pools as columns: one row, Σ rate/max_rate ≤ replicas (DESIGN 4.3)."""

from __future__ import annotations

import numpy as np

from codesign.candidates.data import ColumnBlock, Flow, Group, RowUse
from codesign.problem.instance import Instance


def measured_block(
    instance: Instance, first_flow: int, first_packing: int, first_group: int
) -> tuple[ColumnBlock, list[Flow], list[Group]]:
    """The block of all measured pools, one flow per task (a call is a task here), one group per pool."""
    tasks = {task.name: i for i, task in enumerate(instance.tasks)}
    pools = instance.measured_pools
    flows = [Flow(f"{name} measured", index, True, 1.0, None, 0) for name, index in tasks.items()]
    rate = np.zeros((len(pools), len(tasks)))
    for p, pool in enumerate(pools):
        for name, value in pool.max_rate_per_s.items():
            rate[p, tasks[name]] = value
    admissible = rate > 0
    use = np.where(admissible, 1.0 / np.where(admissible, rate, 1.0), 0.0)[:, None, :]
    count = len(pools)
    block = ColumnBlock(
        flows=first_flow + np.arange(len(tasks)),
        row_names=("measured rate",),
        use=RowUse.dense(use),
        limit=np.ones((count, 1)),
        admissible=admissible,
        flow_power_w=np.zeros((count, len(tasks))),
        replica_power_w=np.array([pool.power_w for pool in pools]),
        packing=first_packing + np.arange(count),
        packed=np.array([float(pool.accelerators_per_replica) for pool in pools]),
        group=first_group + np.arange(count),
        min_replicas=np.ones(count, dtype=np.int64),
    )
    groups = [Group(f"{pool.name}/serve", len(instance.hardware) + p, 1, role="serve") for p, pool in enumerate(pools)]
    return block, flows, groups
