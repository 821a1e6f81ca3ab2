"""Names resolved: catalogue entries with overrides, presets, offers, prices, variants, inventory, flags."""

import json
from pathlib import Path
from typing import Any

import pytest

from codesign.catalog import accelerators, models
from codesign.problem import Instance, Problem, ProblemError, load_problem, resolve

BASE: dict[str, Any] = {
    "models": {"m": {"card": "gpt-oss-120b", "quality": 0.8}},
    "tasks": [
        {"name": "t", "rate": "2/s", "context": {"p50": "1K", "p90": "3K"}, "output": 200, "models": ["m"]}
    ],
    "hardware": {"h": {"accelerator": "h200-sxm"}},
}


def _resolved(**changes: Any) -> Instance:
    return resolve(Problem.from_dict(BASE | changes))


def _task(**changes: Any) -> list[dict[str, Any]]:
    return [BASE["tasks"][0] | changes]


def test_measured_example_of_the_design(tmp_path: Path) -> None:
    path = tmp_path / "measured.yaml"
    path.write_text(
        """
kind: procurement
name: measured-mix
objective: cost_per_hour
tasks:
  - {name: short, rate: 9/s}
  - {name: long,  rate: 3/s}
measured_pools:
  - name: a100
    accelerator: A100-80GB
    accelerators_per_replica: 1
    cost: 3.67 $/h
    max_rate: {short: 20/s, long: 5/s}
limits:
  inventory: {A100-80GB: 64}
options: {split_tasks: true}
"""
    )
    instance = resolve(load_problem(path))
    assert [(task.name, task.rate_per_s, task.variants) for task in instance.tasks] == [
        ("short", 9.0, ()),
        ("long", 3.0, ()),
    ]
    (pool,) = instance.measured_pools
    assert (pool.cost_usd_per_hour, pool.max_rate_per_s) == (3.67, {"short": 20.0, "long": 5.0})
    assert instance.limits.inventory[0].measured == ("a100",)
    assert instance.hardware == ()


def test_one_pool_per_server_and_profile_without_splitting() -> None:
    pools = [
        {
            "name": f"{server}/{profile}",
            "accelerator": kind,
            "accelerators_per_replica": units,
            "cost": f"{cost} $/h",
            "max_rate": {server: "1/s"},
        }
        for server in ("Premium-llama_13b", "Free-llama_7b")
        for profile, kind, units, cost in (
            ("A100", "A100", 4, 160),
            ("4xA100", "A100", 8, 320),
            ("G2", "G2", 3, 69),
        )
    ]
    instance = resolve(
        Problem.from_dict(
            {
                "tasks": [{"name": name, "rate": "1/s"} for name in ("Premium-llama_13b", "Free-llama_7b")],
                "measured_pools": pools,
                "limits": {"inventory": {"A100": 768, "G2": 512}},
                "options": {"split_tasks": False},
            }
        )
    )
    assert not instance.options.split_tasks
    assert {limit.name: len(limit.measured) for limit in instance.limits.inventory} == {"A100": 4, "G2": 2}


def test_measured_task_beside_modelled_hardware() -> None:
    pool = {"name": "p", "accelerator": "X", "cost": "1 $/h", "max_rate": {"u": "3/s"}}
    instance = _resolved(tasks=[*BASE["tasks"], {"name": "u", "rate": "1/s"}], measured_pools=[pool])
    assert [len(task.variants) for task in instance.tasks] == [1, 0]
    with pytest.raises(ProblemError, match=r"tasks\.v\.context: found nothing"):
        _resolved(tasks=[{"name": "v", "rate": "1/s"}], measured_pools=[pool | {"max_rate": {"v": 0}}])


def test_a_catalogue_part_is_used_and_overridden_in_place() -> None:
    part = accelerators()["b200-sxm"]
    instance = _resolved(
        hardware={
            "h": {"accelerator": "b200-sxm"},
            "big": {"accelerator": "b200-sxm", "memory_capacity": "192 GB"},
        }
    )
    plain, big = instance.hardware
    assert plain.accelerator == part
    # A memory of another size is usable in the same share.
    usable = part.usable_memory * 192e9 / part.memory_capacity
    assert big.accelerator == part.model_copy(update={"memory_capacity": 192e9, "usable_memory": usable})
    assert big.catalogue_id == "b200-sxm"
    assert plain.offers[0].price_source == instance.price_list_ids[0]
    assert plain.offers[0].price_date == instance.price_date


def test_an_accelerator_defined_in_the_file() -> None:
    chip = {
        "memory_capacity": "192 GB",
        "memory_bandwidth": "8 TB/s",
        "fp8_flops": "4 PFLOPS",
        "scaleup_bandwidth": "900 GB/s",
        "scaleout_bandwidth": "50 GB/s",
        "price": "2 $/h",
    }
    (option,) = _resolved(hardware={"mine": chip}).hardware
    assert option.accelerator.memory_bandwidth == 8e12
    assert option.offers[0].usd_per_accelerator_hour == 2
    for word in chip:
        less = {key: value for key, value in chip.items() if key != word}
        with pytest.raises(ProblemError, match=word if word != "price" else "offers"):
            _resolved(hardware={"mine": less})


def test_offers() -> None:
    offers = {
        "rented": {"rent": "2 $/h", "min": 64},
        "bought": {"capital": "800 k$/server", "life": "5 years", "hosting": "0.2 $/h"},
        "single": {"capital": "30000 $", "includes_power": True},
    }
    (option,) = _resolved(hardware={"h": {"accelerator": "h200-sxm", "offers": offers}}).hardware
    rented, bought, single = option.offers
    assert (rented.kind, rented.includes_power, rented.min_accelerators) == ("rent", True, 64)
    assert bought.capital_usd_per_accelerator == 800e3 / 8
    assert (bought.life_s, bought.interest, bought.includes_power) == (5 * 365 * 86400, 0.09, False)
    assert (single.capital_usd_per_accelerator, single.includes_power) == (30e3, True)


def test_models_from_card_configuration_and_definition(tmp_path: Path) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    card = models()["Llama-3.1-8B"].model_dump(exclude={"id"}, exclude_defaults=True)
    (tmp_path / "p.yaml").write_text(
        json.dumps(
            BASE | {"models": {"m": {"config": "config.json"}, "own": {"definition": card}, "wide": card}}
        )
    )
    configured, own, wide = resolve(load_problem(tmp_path / "p.yaml")).models
    assert (configured.card.layers, configured.card.kv_heads) == (32, 8)
    assert own.card.model_copy(update={"id": ""}) == wide.card.model_copy(update={"id": ""})
    assert own.precisions == (("fp8", "fp8", "fp8"), ("bf16", "bf16", "fp8"))
    with pytest.raises(ProblemError, match=r"models\.m\.config"):
        resolve(load_problem(tmp_path / "p.yaml").replace({"models.m.config": "none.json"}))


def test_precisions() -> None:
    def choices(**use: Any) -> tuple[tuple[str, str, str], ...]:
        return _resolved(models={"m": {"card": "Llama-3.1-70B"} | use}).models[0].precisions

    assert choices() == (("fp8", "fp8", "fp8"), ("bf16", "bf16", "fp8"))
    assert choices(weights=["int4"], kv=["bf16"]) == (("int4", "bf16", "bf16"),)
    assert len(choices(weights=["fp8", "int4"], activations=["fp8", "bf16"])) == 4


def test_preset_fills_what_the_file_leaves_out() -> None:
    task = {
        "name": "t",
        "rate": "1/s",
        "preset": "coding",
        "models": ["m"],
        "output": 99,
        "on_overlong": "truncate",
    }
    instance = _resolved(tasks=[task | {"prefix": {"ttl": "1 h"}}])
    (task_class,) = instance.tasks
    assert task_class.output.mean == 99
    assert task_class.context.quantile(0.5) == pytest.approx(110e3)
    assert (task_class.prefix_shared_tokens, task_class.prefix_reusable) == (15e3, 0.96)
    assert task_class.prefix_ttl_s == 3600
    assert any("cv 1" in text for text in instance.warnings)


def test_variants_and_quality() -> None:
    variants = [
        {"name": "full", "model": "m"},
        {"name": "short", "model": "m", "max_context": "8K", "calls_factor": 1.2, "quality_factor": 0.5},
    ]
    task = {key: value for key, value in BASE["tasks"][0].items() if key != "models"}
    both = _resolved(tasks=[task | {"variants": variants}]).tasks[0].variants
    assert [(v.name, v.quality, v.max_context) for v in both] == [("full", 0.8, 131072), ("short", 0.4, 8e3)]
    assert len(_resolved(tasks=[task | {"variants": variants, "min_quality": 0.8}]).tasks[0].variants) == 1
    with pytest.raises(ProblemError, match=r"tasks\.t\.min_quality: found 0\.9; expected at most 0\.8"):
        _resolved(tasks=[task | {"variants": variants, "min_quality": 0.9}])


def test_contexts_beyond_the_model() -> None:
    long = {"p50": "110K", "p90": "300K"}
    with pytest.raises(ProblemError, match=r"% of contexts, with answers .* the 131072 tokens of gpt-oss-120b"):
        _resolved(tasks=_task(context=long))
    (task,) = _resolved(tasks=_task(context=long, on_overlong="truncate")).tasks
    assert task.variants[0].max_context == 131072


def test_stale_prices_are_flagged() -> None:
    assert not any("stale" in text for text in _resolved(as_of="2026-11-01").warnings)
    assert any("stale" in text for text in _resolved(as_of="2027-11-01").warnings)


def test_inventory_by_name_or_catalogue_id() -> None:
    hardware = {name: {"accelerator": "h200-sxm"} for name in ("a", "b")}
    limits = _resolved(hardware=hardware, limits={"inventory": {"h200-sxm": 9, "a": 3}}).limits
    assert [(limit.accelerators, limit.hardware) for limit in limits.inventory] == [
        (9, ("a", "b")),
        (3, ("a",)),
    ]


def test_the_instance_is_the_same_each_time_and_hashable_parts_hold() -> None:
    first, second = _resolved(), _resolved()
    assert first == second
    assert len({task.context for task in first.tasks}) == 1
    with pytest.raises(KeyError):
        first.model("none")
