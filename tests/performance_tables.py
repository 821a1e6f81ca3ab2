"""Tables of configurations for the tests of the performance model, written as tuples."""

from __future__ import annotations

from collections.abc import Sequence

from codesign.catalog import Accelerator, ModelCard, accelerators, models
from codesign.performance import PRECISIONS, ConfigurationTable

Row = tuple[str, str, tuple[str, str, str], tuple[int, int, int, int]]
"""(accelerator, model, (weights, activations, kv), (tp, pp, ep, dp))."""

BF16 = ("bf16", "bf16", "bf16")
FP8 = ("fp8", "fp8", "fp8")


def table_of(*rows: Row) -> ConfigurationTable:
    """A table of catalogue parts."""
    parts = list(dict.fromkeys(row[0] for row in rows))
    cards = list(dict.fromkeys(row[1] for row in rows))
    return table_from([accelerators()[p] for p in parts], [models()[c] for c in cards], rows)


def table_from(
    parts: Sequence[Accelerator], cards: Sequence[ModelCard], rows: Sequence[Row]
) -> ConfigurationTable:
    """A table of given parts, found by id."""
    part_ids, card_ids = [p.id for p in parts], [c.id for c in cards]
    columns = [
        (part_ids.index(a), card_ids.index(m), *(PRECISIONS.index(p) for p in precisions), *shape)
        for a, m, precisions, shape in rows
    ]
    return ConfigurationTable(parts, cards, *zip(*columns, strict=True))
