"""Networks as a decision: bandwidth that a TTFT needs is bought, and only then."""

import numpy as np
import pytest

from codesign.candidates.build import build_candidates
from codesign.catalog import accelerators
from codesign.check import check
from codesign.hardware.tco import annuity_usd_per_hour
from codesign.performance.energy import peak_power_w
from codesign.performance.replica import replica
from codesign.planner import explain, solve
from codesign.problem import Problem, ProblemError, resolve
from codesign.solution import Solution

NIC = {"link": "ib-xdr"}
YEARS = 4 * 365 * 86400


def problem(ttft="2 s", links=None, names=("fast",), inventory=None, **hardware):
    """Calls of 40,000 tokens whose KV has to cross from prefill to decode replicas of one accelerator each."""
    return Problem.from_dict(
        {
            "name": "links",
            "models": {"llama": {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
            "tasks": [
                {
                    "name": "agent",
                    "rate": "2/s",
                    "calls": 20,
                    "context": 40000,
                    "append": 1000,
                    "output": 200,
                    "tool_wait": "20 s",
                    "prefix": {"shared": 1000, "reusable": 0.95, "ttl": "90 s"},
                    "models": ["llama"],
                    "slo": {"ttft": {"p90": ttft}, "tpot": {"p95": "50 ms"}},
                }
            ],
            "links": {"fast": NIC} if links is None else links,
            "hardware": {
                "h100": {
                    "accelerator": "h100-sxm",
                    "server": {"accelerators": 8},
                    "price": "2 $/h",
                    "links": list(names),
                }
                | hardware
            },
            "limits": {"inventory": inventory or {}},
            "options": {"max_replica_accelerators": 1, "disaggregation": "always"},
        }
    )


def test_a_faster_network_is_bought_where_the_ttft_needs_it():
    """2.5 GB at the 25 GB/s that a 400 Gb/s port carries take 0.1 s; a port of 800 Gb/s brings them in 25 ms.

    Beside them stand 60 ms of prefill and 4 to 50 ms of admission: 300 ms have room for the first, 160 ms have not.
    """
    bought = {}
    for ttft in ("300 ms", "160 ms"):
        asked = problem(ttft)
        solution = solve(asked)
        bought[ttft] = solution
        assert [v.what for v in check(asked, solution).violations] == []
        fabrics = {route.fabric_bytes_per_s for route in solution.routing}
        assert fabrics == ({25e9} if ttft == "300 ms" else {100e9})
    assert set(bought["300 ms"].totals.servers) == {"h100"}
    assert set(bought["160 ms"].totals.servers) == {"h100+fast"}
    # 800 Gb/s at 10.2 $ per Gb/s for each accelerator.
    line = next(entry for entry in bought["160 ms"].purchase if entry.kind == "link")
    servers = bought["160 ms"].totals.servers["h100+fast"]
    assert (line.item, line.count) == ("h100+fast/fast", servers)
    assert line.capital_usd == pytest.approx(servers * 8 * 8160)
    assert line.usd_per_hour == pytest.approx(servers * 8 * annuity_usd_per_hour(8160, YEARS, 0.09))
    server = next(entry for entry in bought["160 ms"].purchase if entry.kind == "server")
    assert server.usd_per_hour == pytest.approx(servers * 16)
    assert bought["160 ms"].totals.cost_per_hour == pytest.approx(line.usd_per_hour + server.usd_per_hour)
    for route in bought["160 ms"].routing:
        assert {route.prefill_pool.split("-")[0], route.decode_pool.split("-")[0]} == {"h100+fast"}
    without = [e for e in bought["160 ms"].purchase if e.kind != "link"]
    altered = Solution.model_validate(
        bought["160 ms"].model_dump(mode="json", by_alias=True)
        | {"purchase": [e.model_dump(mode="json") for e in without]}
    )
    assert any("servers with fast" in v.what for v in check(problem("160 ms"), altered).violations)


def test_a_larger_domain_admits_wider_tensor_parallelism():
    card = {"card": "Llama-3.1-405B", "weights": ["fp8"]}
    wide = {"link": "photonic-fabric", "network": "scaleup", "domain": 16, "price": "2000 $"}
    asked = problem(links={"wide": wide}, names=["wide"]).replace(
        {"models.llama": card, "options.max_replica_accelerators": 16}
    )
    found = build_candidates(resolve(asked))
    table, option = found.configurations.table, found.configurations.hardware
    assert max(table.tp[option == 0]) == 8
    assert max(table.tp[option == 1]) == 16
    part = found.instance.hardware[1]
    assert (part.name, part.hardware) == ("h100+wide", "h100")
    assert (part.accelerator.scaleup_domain, part.accelerator.scaleup_bandwidth) == (16, 900e9)
    # 2.4 pJ for each bit at full rate is drawn all the time, beside what the server draws.
    assert part.link.power_w == pytest.approx(2.4e-12 * 8 * 900e9)
    base = peak_power_w(part.accelerator)
    assert found.data.hardware[1].peak_power_w == pytest.approx(8 * (base + part.link.power_w))


def test_inventory_and_offers_count_all_networks():
    offers = {"spot": {"rent": "2 $/h", "max": 16}}
    asked = problem(inventory={"h100": 24}, price=None, offers=offers)
    data = build_candidates(resolve(asked)).data
    limits = {limit.name: limit for limit in data.limits}
    assert limits["limits.inventory.h100"].per_server == {0: 8.0, 1: 8.0}
    assert limits["hardware.h100.offers.spot.max"].per_server == {0: 8.0, 1: 8.0}
    assert limits["hardware.h100.offers.spot.max"].limit == 16


@pytest.mark.parametrize(
    ("links", "names", "message"),
    [
        ({"a": {"link": "token-ring"}}, ["a"], "links.a.link: found 'token-ring'"),
        ({"a": {"link": "ualink-200"}}, ["a"], "links.a.price: found nothing; expected a price such as 800 $"),
        ({"a": {"link": "ib-ndr", "domain": 8}}, ["a"], "links.a: found domain of a scale-out network"),
        ({"a": NIC}, ["b"], "hardware.h100.links.0: found 'b'"),
    ],
)
def test_words_of_links(links, names, message):
    with pytest.raises(ProblemError) as error:
        resolve(problem(links=links, names=names))
    assert message in str(error.value)


ONE_PROMPT = {
    "models": {"m": {"card": "Llama-3.1-8B", "weights": ["bf16"], "kv": ["bf16"]}},
    "tasks": [
        {
            "name": "t", "rate": "0.001/s", "context": 40000, "output": 200, "models": ["m"],
            "slo": {"ttft": {"p95": "60 s"}, "tpot": {"p95": "1 s"}},
        }
    ],
    "hardware": {"g5": {"accelerator": "a10g", "server": {"accelerators": 1}, "price": "1 $/h"}},
    "options": {"gap": "5%"},
}  # fmt: skip
"""Of 40,000 tokens: beside the weights one A10G has room for fewer."""


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"options.max_context_parallel": 4},
        {"hardware.g5": {"accelerator": "a10g", "price": "1 $/h"}},  # servers of one, says the catalogue
        {"hardware.g5.accelerator": "l4", "tasks.t.context": 60000},
    ],
)
def test_cards_that_are_alone_in_their_servers_join_no_other(changes):
    problem = Problem.from_dict(ONE_PROMPT).replace(changes)
    assert solve(problem).status == "infeasible"
    (conflict,) = explain(problem).conflicts
    assert conflict.limit.endswith("whose KV fits (g5: no link joins cards in servers of one)")


def test_cards_of_one_server_are_joined_by_pcie():
    problem = Problem.from_dict(ONE_PROMPT).replace({"hardware.g5.server.accelerators": 4})
    plan = solve(problem)
    assert plan.fleet[0].accelerators > 1
    assert check(problem, plan).ok
    # Nor does the witness believe in a replica over servers of one.
    found = check(problem.replace({"hardware.g5.server.accelerators": 1}), plan).violations
    assert any("of cards in servers of one without a link" in item.what for item in found)


def test_a_network_that_is_bought_joins_cards():
    links = {"links": {"nic": NIC}, "hardware.g5.links": ["nic"]}
    assert solve(Problem.from_dict(ONE_PROMPT).replace(links)).status == "optimal"


# ---- what the scale-up network of a part joins in the servers that are bought ---------------------------------------


def domains(hardware, links=None):
    document = ONE_PROMPT | {"hardware": {"h": {"price": "2 $/h"} | hardware}} | ({"links": links} if links else {})
    return {o.name: o.accelerator.scaleup_domain for o in resolve(Problem.from_dict(document)).hardware}


@pytest.mark.parametrize(
    ("hardware", "domain"),
    [
        ({"accelerator": "h100-sxm"}, 8),
        ({"accelerator": "h100-sxm", "server": {"accelerators": 1}}, 1),
        ({"accelerator": "h100-sxm", "server": {"accelerators": 4}}, 4),
        ({"accelerator": "h100-sxm", "server": {"accelerators": 16}}, 8),
        ({"accelerator": "h100-sxm", "server": {"accelerators": 1}, "scaleup_domain": 8}, 8),  # as the file says
        ({"accelerator": "mi300x", "server": {"accelerators": 2}}, 2),
        ({"accelerator": "gb200-nvl72", "server": {"accelerators": 4}}, 72),  # trays of one rack
        ({"accelerator": "tpu-v6e", "server": {"accelerators": 1}}, 256),
    ],
)
def test_nvlink_ends_at_the_server_but_in_racks(hardware, domain):
    assert domains(hardware) == {"h": domain}


def test_a_scale_up_network_that_is_bought_joins_servers_as_the_catalogue_says():
    nvlink = NIC | {"network": "scaleup", "bandwidth": "400 GB/s", "price": "900 $"}
    found = domains({"accelerator": "h100-sxm", "server": {"accelerators": 1}, "links": ["fabric"]}, {"fabric": nvlink})
    assert found == {"h": 1, "h+fabric": 8}


def test_part_of_a_full_mesh_has_that_part_of_the_links():
    """Seven links of one device to seven peers: of two devices one link counts, in servers of two as of eight."""
    speed = {}
    for size in (8, 2):
        hardware = {"h": {"accelerator": "mi300x", "server": {"accelerators": size}, "price": "2 $/h"}}
        problem = Problem.from_dict(ONE_PROMPT | {"hardware": hardware, "options": {"max_replica_accelerators": 2}})
        table = build_candidates(resolve(problem)).configurations.table
        two = table.take(np.flatnonzero(table.tp == 2))
        speed[size] = replica(two).link(two.tp.astype(float))
    assert speed[8] == pytest.approx(accelerators()["mi300x"].scaleup_bandwidth / 7)
    assert speed[2] == pytest.approx(speed[8])


def test_a_group_over_virtual_machines_of_one_card_is_joined_by_no_nvlink():
    """Weights of 141 GB need two H100s: stages over the network, and no tensor parallelism between the machines."""
    problem = Problem.from_dict(
        ONE_PROMPT
        | {
            "models": {"m": {"card": "Llama-3.1-70B", "weights": ["bf16"]}},
            "tasks": [
                {
                    "name": "t", "rate": "1/s", "context": 1000, "output": 200, "models": ["m"],
                    "slo": {"ttft": {"p95": "2 s"}, "tpot": {"p95": "150 ms"}},
                }
            ],
            "hardware": {"h": {"accelerator": "h100-sxm", "server": {"accelerators": 1}, "price": "2 $/h"}},
        }
    )  # fmt: skip
    plan = solve(problem)
    assert plan.status in ("optimal", "feasible")
    assert {(pool.parallelism.tp, pool.parallelism.pp > 1) for pool in plan.fleet} == {(1, True)}
    assert check(problem, plan).ok
    # One server of eight has NVLink, and its plan is refused by the witness in servers of one.
    whole = problem.replace({"hardware.h.server.accelerators": 8, "tasks.t.slo.tpot.p95": "30 ms"})
    found = check(whole.replace({"hardware.h.server.accelerators": 1}), solve(whole)).violations
    assert any("parallelism suits model and accelerator" in item.what for item in found)
