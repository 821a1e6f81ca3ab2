"""Speculative decoding in a problem file: what drafts a model's tokens, and how many of them are accepted.

A step verifies k drafted tokens and one more of each sequence. With acceptance probabilities a_1..a_k by position, each
given that all before it were accepted, it emits 1 + Σ_i Π_{j≤i} a_j tokens on average (Leviathan et al. 2023,
arXiv:2211.17192, equation 1, where all a_i are alike).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from codesign.catalog import AcceptanceRecord, ModelCard, acceptance_records, models
from codesign.problem.errors import FieldError
from codesign.problem.fields import Name, Number, Part, PositiveCount
from codesign.units import Fraction

if TYPE_CHECKING:
    from codesign.problem.instance import TaskClass

SpeculationMethod = Literal["mtp", "eagle", "eagle3", "draft-model", "ngram"]
MOST_DRAFTS = 16
"""Tokens that a step may draft, at the most."""


def _one_or_more(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


_SHARE = {"type": ["number", "string"]}
_DraftTokens = Annotated[
    list[Annotated[PositiveCount, Field(le=MOST_DRAFTS)]],
    Field(min_length=1),
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "array", "items": {"type": "integer"}}]}),
]
_ByPosition = Annotated[
    list[Fraction],
    Field(min_length=1, max_length=MOST_DRAFTS),
    BeforeValidator(_one_or_more),
    WithJsonSchema({"anyOf": [_SHARE, {"type": "array", "items": _SHARE}]}),
]


class AcceptedDrafts(Part):
    """How many drafted tokens are accepted: by position, or as the mean of what a step emits."""

    acceptance: _ByPosition | None = None
    """Probability that the first, second, … drafted token is accepted where those before it were, such as
    [85%, 75%]; positions beyond the last have its probability."""
    accepted_length: Annotated[Number, Field(ge=1, le=MOST_DRAFTS + 1)] | None = None
    """Mean tokens that a step emits, the one that is sampled anyway included, at the most `draft_tokens`: each
    drafted token is then taken to be as likely as the others."""

    @model_validator(mode="after")
    def _one_figure(self) -> AcceptedDrafts:
        if self.acceptance is not None and self.accepted_length is not None:
            raise FieldError("both acceptance and accepted_length", "one of them", words=True)
        return self

    def by_position(self, drafts: int) -> tuple[float, ...] | None:
        """[drafts] probabilities; None where nothing is given.  Raises FieldError for a length beyond `drafts`."""
        if self.acceptance is not None:
            given = tuple(self.acceptance[:drafts])
            return given + given[-1:] * (drafts - len(given))
        if self.accepted_length is None:
            return None
        if self.accepted_length > drafts + 1:
            found = f"accepted_length {self.accepted_length:g} with {drafts} draft_tokens"
            raise FieldError(found, f"at most {drafts + 1}: a step emits no more", words=True)
        return (alike(self.accepted_length, drafts),) * drafts


class ModelSpeculation(AcceptedDrafts):
    """What drafts tokens for a model; each pool that decodes may use it or not, as the planner decides."""

    method: SpeculationMethod
    """mtp (multi-token prediction layers of the model), eagle, eagle3, draft-model, or ngram (looked up in texts)."""
    draft_tokens: _DraftTokens = Field(default=[1], validate_default=True)
    """Tokens drafted in each step, or several numbers to choose from."""
    draft: Name | None = None
    """Model card of the catalogue that drafts (method draft-model)."""
    checkpoint: str | None = None
    """Repository or path of the draft's weights, for exports; default: that of the catalogue's acceptance."""
    draft_cost: Fraction | None = None
    """Time of drafting one token over that of the model's own pass over as many sequences; default: that of the
    drafting layers by the performance model (0 for ngram)."""

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpeculation:
        if (self.method == "draft-model") != (self.draft is not None):
            found = f"method {self.method} {'with' if self.draft else 'without'} draft"
            raise FieldError(found, "draft names a model card where the method is draft-model", words=True)
        self.by_position(max(self.draft_tokens))
        return self


@dataclass(frozen=True)
class Speculation:
    """What drafts tokens for a model, resolved."""

    method: SpeculationMethod
    draft_tokens: tuple[int, ...]
    """Numbers of drafted tokens to choose from, ascending."""
    acceptance: tuple[float, ...]
    """By position, for texts that say nothing else."""
    card: ModelCard | None
    """Of a draft model."""
    cost: float | None
    """Time of drafting one token over that of the model's own pass; None: by the performance model."""
    checkpoint: str = ""
    """Repository or path of the draft's weights; empty where the model has them, or none are known."""
    source: str = "problem file"
    """Of the acceptance."""


def published(method: SpeculationMethod, card: ModelCard, drafts: int) -> AcceptanceRecord | None:
    """The catalogue's first acceptance for a method and a model, measured with at least so many drafts, if any.

    Fewer say nothing of later positions, whose tokens are accepted less.
    """
    some = (r for r in acceptance_records().values() if r.method == method and card.id in r.models)
    return next((record for record in some if record.draft_tokens >= drafts), None)


def speculation(given: ModelSpeculation, card: ModelCard) -> Speculation | None:
    """What a problem file says of a model's drafts, resolved; None where the acceptance is nowhere."""
    choices = tuple(sorted(set(given.draft_tokens)))
    acceptance, record = given.by_position(choices[-1]), None
    if acceptance is None:
        record = published(given.method, card, choices[-1])
        if record is None:
            return None
        text = AcceptedDrafts(acceptance=list(record.acceptance) or None, accepted_length=record.accepted_length)
        known = text.by_position(record.draft_tokens)
        acceptance = AcceptedDrafts(acceptance=list(known or ())).by_position(choices[-1])
    return Speculation(
        given.method,
        choices,
        acceptance or (),
        models()[given.draft] if given.draft is not None else None,
        given.draft_cost,
        given.checkpoint or (record.checkpoint if record else ""),
        "problem file" if record is None else f"{record.source}, {record.date}",
    )


def acceptance_of(speculation: Speculation | None, drafts: int, task: TaskClass) -> tuple[float, ...]:
    """[drafts] acceptance by position: of the task's text where it says any, else the model's."""
    given = task.acceptance or (() if speculation is None else speculation.acceptance) or (0.0,)
    return (*given[:drafts], *given[-1:] * (drafts - len(given)))


def emitted(acceptance: Sequence[float]) -> np.ndarray:
    """[k + 1] probabilities that a step emits 1, 2, … k + 1 tokens, for acceptance by position."""
    reached = np.concatenate([[1.0], np.cumprod(np.asarray(acceptance, dtype=np.float64))])
    return np.asarray(reached - np.append(reached[1:], 0.0))


def expected_tokens(acceptance: Sequence[float]) -> float:
    """Mean tokens that a step emits: 1 + Σ_i Π_{j≤i} a_j."""
    return 1.0 + float(np.cumprod(np.asarray(acceptance, dtype=np.float64)).sum())


def alike(length: float, drafts: int) -> float:
    """The probability at each of `drafts` positions that gives a mean of `length` tokens a step, 1 ≤ length ≤ k + 1."""
    low, high = 0.0, 1.0
    while high - low > 1e-15:
        middle = 0.5 * (low + high)
        if not low < middle < high:
            break
        low, high = (middle, high) if expected_tokens([middle] * drafts) < length else (low, middle)
    return high if length > 1.0 else 0.0
