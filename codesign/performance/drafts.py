"""Speculative decoding: what drafting a token takes, and how many steps an answer needs.

A step of a replica that drafts verifies k + 1 tokens of each sequence: every product has k + 1 rows a sequence, a
context is read once for all of them. Before the next one k tokens are drafted, one after another, by layers that are a
small model of their own (:func:`draft_card`); of an n-gram look-up the accelerators see nothing.

With acceptance probabilities a_1..a_k by position, a step emits X tokens of a sequence, T = E[X] = 1 + Σ_i Π_{j≤i} a_j.
An answer's m tokens after the first take (m + e)/T steps on average, e = E[X(X − 1)]/(2T) being what the last step
emits beyond the answer, with variance m·Var[X]/T³ (renewal theory, Feller vol. II, XI). So answers are counted in
steps: o/T of them, where the first token, which comes with the prompt, stands for the excess. Their time per token is a
step over T on average, and more where answers are short (:attr:`Accepted.tpot`); gaps between tokens that come
together are steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from codesign.performance.parts import PRECISIONS
from codesign.performance.queueing import PLANNING_PERCENTILE
from codesign.performance.table import ConfigurationTable
from codesign.problem.speculation import Speculation, SpeculationMethod, acceptance_of, emitted
from codesign.workload.population import CallPopulation, answer_lengths

if TYPE_CHECKING:
    from codesign.catalog import ModelCard
    from codesign.problem.instance import TaskClass

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

EAGLE3_VOCABULARY = 32_000
"""Tokens that an EAGLE-3 draft knows: `draft_vocab_size` of the published drafts for Llama 3 (yuhuili's and RedHatAI's
config.json on the Hugging Face hub, read in 2026-12)."""
_OWN_TABLES = ("draft-model", "eagle3")
"""Methods whose drafts have a head of their own; others multiply by the model's."""
_HALF = PRECISIONS.index("bf16")


def draft_card(card: ModelCard, speculation: Speculation) -> ModelCard | None:
    """The layers that draft a token, as a model; None where nothing is multiplied.

    MTP: one layer of the model's last kind behind a projection of twice its width (DeepSeek-V3 Technical Report, 2.2).
    EAGLE: one dense layer behind that projection (arXiv:2401.15077); EAGLE-3: behind one of three layers' states, with
    twice the input to its attention and a small vocabulary (arXiv:2503.01840). The projections count as width of the
    layer's MLP, of as many weights and FLOP. Where a model has no dense MLP, that of EAGLE is as wide as the experts
    that a token visits (assumption).
    """
    method: SpeculationMethod = speculation.method
    if method == "ngram":
        return None
    if method == "draft-model":
        return speculation.card
    matrices = 3 if card.gated_mlp else 2
    projection = (4 if method == "eagle3" else 2) * card.hidden // matrices
    one: dict[str, object] = {
        "id": f"{card.id} ({method})",
        "layers": 1,
        "full_attention_layers": 1,
        "sliding_layers": 0,
        "linear_layers": 0,
    }
    if method == "mtp" and card.moe_layers:
        shared = card.shared_experts * card.shared_intermediate + projection
        one |= {"moe_layers": 1, "dense_layers": 0, "shared_experts": 1, "shared_intermediate": shared}
    else:
        visited = card.top_k * card.expert_intermediate + card.shared_experts * card.shared_intermediate
        width = (card.dense_intermediate or visited) + projection
        one |= {"moe_layers": 0, "dense_layers": 1, "dense_intermediate": width, "experts": 0, "top_k": 0}
        one |= {"shared_experts": 0, "sparse_topk": 0} if method != "mtp" else {"shared_experts": 0}
        one |= {"expert_bits": None, "moe_latent": 0}
    if method == "eagle3":
        one["vocab"] = min(EAGLE3_VOCABULARY, card.vocab)
    return card.model_copy(update=one)


@dataclass(frozen=True, eq=False)
class Drafts:
    """What drafts on some configurations of a table."""

    rows: IntArray
    """[n] of the table's configurations."""
    table: ConfigurationTable
    """[n] the layers that draft, on the same accelerators."""
    passes: FloatArray
    """[n] tokens that they draft in a step, one after another."""
    cost: FloatArray
    """[n] time of drafting a token over that of the model's own pass; nan: that of the layers."""
    own_tables: NDArray[np.bool_]
    """[n] have they an embedding and a head of their own?"""

    def of_rows(self, values: ArrayLike) -> FloatArray:
        """Points of these configurations, where each of the table's has its own."""
        given = np.asarray(values, dtype=float)
        return given[self.rows] if given.ndim == 2 and len(given) > 1 else given

    @staticmethod
    def of(table: ConfigurationTable) -> Drafts | None:
        """Those of a table, kept with it; None where none of its configurations drafts with layers."""
        if "_drafts" not in vars(table):
            vars(table)["_drafts"] = _found(table)
        found: Drafts | None = vars(table)["_drafts"]
        return found


def _found(table: ConfigurationTable) -> Drafts | None:
    if not np.any(table.drafts):
        return None
    drafting, arrays = table.draft_cards
    has = np.array([card is not None for card in drafting])
    rows = np.flatnonzero((table.drafts > 0) & has[table.card])
    if not len(rows):
        return None
    mine = table.take(rows)
    method = np.array(["" if s is None else s.method for s in table.speculations])[mine.card]
    cost = np.array([np.nan if s is None or s.cost is None else s.cost for s in table.speculations])[mine.card]
    native = np.array([_HALF if c is None else PRECISIONS.index(_native(c)) for c in drafting])[mine.card]
    follows = method == "mtp"
    experts = np.array([c is not None and c.moe_layers > 0 for c in drafting])[mine.card]
    cards = [card if drafts is None else drafts for card, drafts in zip(table.cards, drafting, strict=True)]
    layers = ConfigurationTable(
        table.accelerators,
        cards,
        mine.accelerator,
        mine.card,
        np.where(follows, mine.weights, native),
        np.where(follows, mine.activations, _HALF),
        mine.kv,
        mine.tp,
        mine.pp,
        np.where(experts, mine.ep, 1),
        mine.dp,
        engines=table.engines,
        safety=table.safety,
    )
    vars(layers).update(part_accelerators=table.part_accelerators, part_cards=arrays)
    return Drafts(rows, layers, mine.drafts.astype(np.float64), cost, np.isin(method, _OWN_TABLES))


def undrafted(table: ConfigurationTable) -> ConfigurationTable:
    """The same configurations without drafts."""
    plain = replace(table, drafts=np.zeros_like(table.drafts))
    vars(plain).update(part_accelerators=table.part_accelerators, part_cards=table.part_cards)
    return plain


def _native(card: ModelCard) -> str:
    """Weights of drafts are in 16 bits unless they were released narrower (those of EAGLE are)."""
    return card.native_precision if "(" not in card.id else "bf16"


# Tokens of a step ---------------------------------------------------------------------------------------------


class _Calls(Protocol):
    @property
    def task(self) -> TaskClass: ...

    @property
    def population(self) -> CallPopulation: ...


@dataclass(frozen=True)
class Accepted:
    """What steps emit of a task's answers on replicas that draft alike."""

    tokens: float = 1.0
    """T: of a sequence in a step, on average."""
    scatter: float = 0.0
    """Variance of the steps that an answer takes, over their mean: Var[X]/T²."""
    tpot: float = 1.0
    """A step over the time per token that promises of TPOT count on: T, less what answers need more at the percentile
    that is promised, since short ones vary (at least the planning percentile)."""

    def target(self, metric: str, seconds: float) -> float:
        """Seconds of a call's mean step that keep a promise of TPOT; of gaps, which are steps, as it is."""
        return seconds * self.tpot if metric == "tpot" else seconds


ONE_TOKEN = Accepted()
"""Where nothing is drafted."""


def accepted_of(speculation: Speculation | None, drafts: int, calls: _Calls) -> Accepted:
    """What a step emits of some calls' answers where so many tokens are drafted."""
    if not drafts:
        return ONE_TOKEN
    chances = acceptance_of(speculation, drafts, calls.task)
    percentile = max([PLANNING_PERCENTILE, *(p for p, _ in calls.task.tpot_slo)])
    weight, output = answer_lengths(calls.task, calls.population)
    return _accepted(chances, percentile, tuple(weight.tolist()), tuple(output.tolist()))


def accepted(table: ConfigurationTable, calls: _Calls) -> Accepted:
    """The same on the configurations of a table, all of which draft as the first does."""
    if not len(table) or not table.drafts[0]:
        return ONE_TOKEN
    return accepted_of(table.speculations[int(table.card[0])], int(table.drafts[0]), calls)


@lru_cache(maxsize=1024)
def _accepted(
    chances: tuple[float, ...], percentile: float, weight: tuple[float, ...], output: tuple[float, ...]
) -> Accepted:
    mean, variance, _ = emitted_moments(chances)
    needed = steps_needed(chances, percentile, np.array(weight), np.array(output))
    return Accepted(mean, variance / mean**2, mean / needed)


def emitted_moments(chances: Sequence[float]) -> tuple[float, float, float]:
    """(E[X], Var[X], e) of the tokens that a step emits: e is what the last one emits beyond an answer's end."""
    chance = emitted(chances)
    count = np.arange(1.0, len(chance) + 1.0)
    mean = float(chance @ count)
    square = float(chance @ count**2)
    return mean, max(square - mean**2, 0.0), (square - mean) / (2.0 * mean)


def steps_needed(chances: Sequence[float], percentile: float, weight: FloatArray, output: FloatArray) -> float:
    """Steps that answers take for each of their tokens, over 1/T: the share `percentile` of them takes no more.

    Of answers of `output` [n] tokens with probabilities `weight` [n]; those of one token have no time per token. Normal
    about the mean that the excess makes larger, at most one step a token, at least 1.
    """
    mean, variance, excess = emitted_moments(chances)
    some = (output > 1.5) & (weight > 0)
    if not np.any(some):
        return 1.0
    after, share = output[some] - 1.0, weight[some] / weight[some].sum()
    middle = 1.0 + excess / after
    spread = np.sqrt(variance / (after * mean)) + 1e-12

    def late(ratio: float) -> float:
        return float(share @ ndtr((middle - ratio) / spread)) - (1.0 - percentile)

    if late(mean) > 0.0:
        return mean
    if late(1.0) <= 0.0:
        return 1.0
    return float(brentq(late, 1.0, mean, xtol=1e-12))
