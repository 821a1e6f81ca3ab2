"""Which deployment configurations exist: hardware × model × precisions × TP × PP × EP × DP × CP × memory × drafts.

Replica sizes that divide one another share servers exactly by counting slots; a size outside that chain
(16 or 64 in a 72-accelerator rack) gets servers of its own, whose left-over slots count as lost. Replicas of several
pipeline stages draft nothing: engines have no speculation there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.candidates.attached import Attachment, attachments
from codesign.candidates.data import Floats, Ints, Packing
from codesign.performance import PRECISIONS, ConfigurationTable, EngineMemory, fits, precision_supported, shape_valid
from codesign.performance.profile import EngineProfile, read_profile
from codesign.problem.errors import Issue, ProblemError
from codesign.problem.instance import HardwareOption, Instance, Model

_POWERS = (1, 2, 4, 8, 16, 32, 64)
_STAGES = (1, 2, 4)
_MOST_ACCELERATORS = 72


@dataclass(frozen=True)
class Configurations:
    """[K] configurations that are valid and whose weights fit, with where each is bought."""

    table: ConfigurationTable
    hardware: Ints
    """[K] index into instance.hardware."""
    model: Ints
    """[K] index into instance.models."""
    packing: Ints
    """[K] index into the packings of :func:`places_of`."""
    packed: Floats
    """[K] slots that a replica occupies."""
    attachments: tuple[Attachment, ...] = ()
    """Behind `table.memory`."""

    def __len__(self) -> int:
        return len(self.hardware)

    @property
    def accelerators(self) -> Ints:
        """[K] accelerators of a replica."""
        return np.asarray(self.table.replica_accelerators, dtype=np.int64)


def places_of(instance: Instance, packings: list[Packing]) -> list[Places]:
    """Servers of each hardware option; what they are set aside for is added to `packings` as it is asked for."""
    return [Places(h, option.server_accelerators, packings) for h, option in enumerate(instance.hardware)]


def enumerate_configurations(instance: Instance, places: list[Places]) -> Configurations | None:
    """All configurations of an instance; None where it has no modelled hardware or no models."""
    rows: list[tuple[int, ...]] = []
    beside = attachments(instance)
    for h, option in enumerate(instance.hardware):
        for m, model in enumerate(instance.models):
            memories = [(-1, None), *((i, a) for i, a in enumerate(beside) if a.suits(instance, option, model))]
            most, domains = instance.options.max_replica_accelerators, instance.options.max_expert_domains
            shapes = _shapes(option, model, most, domains)
            kinds = [(*shape, 1, *memory) for shape in shapes for memory in memories]
            kinds += [(*shape, -1, None) for shape in _context_parallel(instance, option, shapes)]
            for tp, pp, ep, dp, cp, memory, attachment in kinds:
                packing, packed = places[h].of(tp * pp * dp * cp, attachment)
                drafts = (0,) if pp * cp > 1 or model.speculation is None else (0, *model.speculation.draft_tokens)
                rows += [
                    (h, m, *(PRECISIONS.index(p) for p in precision), tp, pp, ep, dp, cp, memory, k, packing, packed)
                    for precision in model.precisions
                    for k in drafts
                ]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 14).T
    if not rows:
        return None
    table = ConfigurationTable(
        [option.accelerator for option in instance.hardware],
        [model.card for model in instance.models],
        *columns[:9],
        cp=columns[9],
        memory=columns[10],
        drafts=columns[11],
        speculations=tuple(model.speculation for model in instance.models),
        memories=tuple(attachment.memory for attachment in beside),
        engines=engines(instance),
        safety=instance.options.safety,
    )
    keep = np.flatnonzero(
        shape_valid(table)
        & precision_supported(table)
        & fits(table, EngineMemory.of(instance.options, table, "colocated"))  # the smallest step
    )
    return Configurations(
        table.take(keep),
        columns[0, keep],
        columns[1, keep],
        columns[12, keep],
        columns[13, keep].astype(np.float64),
        beside,
    )


def engines(instance: Instance) -> tuple[EngineProfile, ...]:
    """The profiles that the problem names.  Raises ProblemError for a file that is none."""
    profiles = []
    for path in instance.options.profiles:
        try:
            profiles.append(read_profile(path))
        except ValueError as error:
            expected = "an engine profile as `codesign calibrate` writes it"
            raise ProblemError([Issue("", None, "options.profiles", str(error), expected)]) from None
    return tuple(profiles)


def _shapes(
    option: HardwareOption, model: Model, most: int | None, domains: int
) -> list[tuple[int, int, int, int]]:
    """(tp, pp, ep, dp) worth trying: TP in a scale-up domain, attention DP over `domains`, stages across servers.

    Whole servers are joined, over the network; cards that have no link to any other are no servers to join.
    """
    server = option.server_accelerators
    if option.unlinked:
        return [(1, 1, 1, 1)]
    domain = max(1, option.accelerator.scaleup_domain)
    if option.peers_in_host:
        domain = min(domain, server)
    largest = min(most or _MOST_ACCELERATORS, _MOST_ACCELERATORS)
    is_moe = model.card.experts > 0
    shapes = []
    for tp in _POWERS:
        for dp in _POWERS if is_moe else (1,):
            ranks = tp * dp
            wide = tp <= domain and ranks % domain == 0 and ranks <= domains * domain  # over the network
            if ranks > largest or (ranks > domain and not wide):
                continue
            for pp in _STAGES if ranks in (min(server, domain), domain) or ranks >= 8 else (1,):
                size = ranks * pp
                if size > largest or (size > server and size % server):
                    continue
                experts = {1, ranks} if is_moe and dp == 1 else {ranks} if is_moe else {1}
                shapes += [(tp, pp, ep, dp) for ep in sorted(experts)]
    return shapes


def _context_parallel(
    instance: Instance, option: HardwareOption, shapes: list[tuple[int, int, int, int]]
) -> list[tuple[int, int, int, int, int]]:
    """(tp, pp, ep, dp, cp) of prefill replicas whose groups share a prompt, as far as the file allows any."""
    options, server = instance.options, option.server_accelerators
    largest = min(options.max_replica_accelerators or _MOST_ACCELERATORS, _MOST_ACCELERATORS)
    if "prefill" not in option.roles or option.unlinked:
        return []
    return [
        (tp, pp, ep, dp, cp)
        for tp, pp, ep, dp in shapes
        for cp in _POWERS[1:]
        if pp == dp == 1 and cp <= options.max_context_parallel and tp * cp <= largest
        if tp * cp <= server or tp * cp % server == 0
    ]


class Places:
    """Servers of one hardware, set aside by the chain of replica sizes that they hold and the modules attached."""

    def __init__(self, hardware: int, server: int, packings: list[Packing]) -> None:
        self._hardware, self._server, self._packings = hardware, server, packings
        self._chain = _chain(server)
        self._number: dict[tuple[int, tuple[int, float]], int] = {}

    def of(self, size: int, attachment: Attachment | None = None) -> tuple[int, int]:
        """(packing, slots occupied) of a replica of `size` accelerators that have modules attached."""
        exact = size in self._chain or (size > self._server and size % self._server == 0)
        slots = self._server if exact else self._server // size * size
        modules = (-1, 0.0) if attachment is None else (attachment.tier, attachment.modules)
        key = (0 if exact else size, modules)
        if key not in self._number:
            self._number[key] = len(self._packings)
            attached = {} if attachment is None else {attachment.tier: attachment.modules * self._server}
            self._packings.append(Packing(self._hardware, slots, attached))
        return self._number[key], size


def _chain(server: int) -> tuple[int, ...]:
    """The longest ascending run of sizes in which each divides the next, ending at the server."""
    chain = [1]
    for size in range(2, server + 1):
        if server % size == 0 and size % chain[-1] == 0 and (size == server or size & (size - 1) == 0):
            chain.append(size)
    return tuple(chain)
