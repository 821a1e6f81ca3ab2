import datetime
import re
import subprocess
import sys

import jsonschema
import pytest
from pydantic import ValidationError

from codesign.catalog import (
    DEFAULT_PRICE_LISTS,
    UNVERIFIED,
    Accelerator,
    ModelCard,
    PriceList,
    accelerators,
    default_price,
    links,
    listed_price,
    memory_tiers,
    models,
    nearest,
    override,
    price_lists,
    sources,
    workloads,
)

GIB = 2.0**30
TABLES = (accelerators, models, memory_tiers, links, workloads, price_lists, sources)


def test_breadth():
    parts = accelerators().values()
    assert len(parts) >= 25
    assert len({part.vendor for part in parts}) >= 5
    cards = models().values()
    assert len(cards) >= 20
    assert {card.attention for card in cards} >= {"mha", "gqa", "mla"}
    assert {card.kind for card in cards} == {"dense", "moe", "dense-hybrid", "moe-hybrid"}
    assert any(card.sliding_layers for card in cards)
    assert set(workloads()) == {"chat", "coding", "coding-extreme", "web-use", "computer-use"}
    assert len(memory_tiers()) >= 10
    assert len(links()) >= 10


@pytest.mark.parametrize("table", TABLES)
def test_entries_know_their_id_and_lookups_are_cached(table):
    assert all(entry.id == name for name, entry in table().items())
    assert table() is table()


def test_values_reach_si():
    h100 = accelerators()["h100-sxm"]
    assert h100.fp16_flops == 989e12
    assert h100.fp8_flops == 1979e12
    assert h100.fp4_flops is None
    assert h100.memory_capacity == 80 * GIB
    assert h100.memory_bandwidth == 3.35e12
    assert h100.scaleup_bandwidth == 450e9
    assert h100.scaleout_bandwidth == 50e9
    assert h100.tdp == 700
    assert h100.all_in_power == 1370
    assert h100.server_accelerators == 8
    assert accelerators()["gb300-nvl72"].server_accelerators == 72
    assert accelerators()["tpu-v7x"].memory_capacity == pytest.approx(206e9, rel=2e-3)
    assert memory_tiers()["ddr5-rdimm"].price == pytest.approx(13.8e-9)
    assert links()["ib-ndr"].bandwidth == 50e9


def test_every_fact_has_source_and_date():
    for table in (accelerators, models, memory_tiers, links, workloads):
        for entry in table().values():
            assert entry.sources, entry.id
            assert entry.date, entry.id
    for part in accelerators().values():
        for cited in part.sources.values():
            code = re.match(r"[A-Z][A-Za-z0-9-]*", cited)
            assert code is not None, (part.id, cited)
            assert code.group() in sources(), (part.id, cited)
    for prices in price_lists().values():
        assert prices.date
        assert prices.source.split(",")[0] in sources()


def test_facts_from_memory_say_so():
    for table in (accelerators, models, memory_tiers, links):
        for entry in table().values():
            for cited in entry.sources.values():
                assert not re.search(r"\bK\b(?! \(unverified\))", cited), (entry.id, cited)
    assert models()["OPT-6.7B"].sources["dimensions"] == UNVERIFIED
    assert accelerators()["trn2"].sources["power"].startswith(UNVERIFIED)


def test_unknown_links_are_listed_as_assumptions():
    sambanova = accelerators()["sn40l"]
    assert any(text.startswith("scaleup_bandwidth") for text in sambanova.assumptions)
    assert any(text.startswith("scaleout_bandwidth") for text in sambanova.assumptions)


def test_features_of_models():
    v32 = models()["DeepSeek-V3.2"]
    assert (v32.attention, v32.kv_lora, v32.qk_rope) == ("mla", 512, 64)
    assert (v32.sparse_topk, v32.sparse_index_bytes_per_token_layer) == (2048, 132)
    assert v32.native_precision == "fp8"
    oss = models()["gpt-oss-120b"]
    assert (oss.sliding_layers, oss.sliding_window, oss.expert_bits) == (18, 128, 4.25)
    nano = models()["Nemotron-3-Nano-30B-A3B"]
    assert (nano.linear_kind, nano.linear_layers, nano.gated_mlp) == ("mamba2", 23, False)
    assert models()["Nemotron-3-Super-120B-A12B"].moe_latent == 1024
    assert models()["Qwen3-Next-80B-A3B"].gated_attention


def test_default_price_prefers_the_dated_rental_list():
    price = default_price("h200-sxm")
    assert price == (2.05, "semianalysis-2026-08-rental", datetime.date(2026, 8, 1), True)
    assert listed_price("h200-sxm", "retail-2026-07").usd_per_hour == 2.90


def test_default_price_falls_back_and_flags_what_nobody_looked_up():
    assert default_price("l4") == (0.8, "retail-2026-07", datetime.date(2026, 7, 1), False)
    assert default_price("a100-40-sxm").date == datetime.date(2025, 1, 1)
    assert default_price("trn2") is None
    assert default_price("no-such-part") is None


def test_price_lists_name_accelerators():
    assert set(DEFAULT_PRICE_LISTS) <= set(price_lists())
    for prices in price_lists().values():
        assert set(prices.entries) <= set(accelerators())
        assert prices.includes_power


def test_a_remark_without_price_is_refused():
    values = price_lists()["retail-2026-07"].model_dump() | {
        "entries": {"l4": "0.8 $/h"},
        "unverified": ("l5",),
    }
    with pytest.raises(ValidationError, match=r"l5"):
        PriceList.model_validate(values)


def test_presets_speak_the_words_of_a_task():
    coding = workloads()["coding"].task_fields()
    assert set(coding) == {"calls", "context", "append", "output", "tool_wait", "prefix"}
    assert coding["context"] == {"p50": "110K", "p90": "300K"}
    assert workloads()["web-use"].assumption
    assert not workloads()["coding"].assumption
    for preset in workloads().values():
        assert set(preset.sources) == set(coding)


def test_override_in_place():
    b200 = accelerators()["b200-sxm"]
    changed = override(b200, {"memory_capacity": "192 GB", "tdp": None})
    assert changed.memory_capacity == 192e9
    assert changed.tdp is None
    assert changed.memory_bandwidth == b200.memory_bandwidth
    assert b200.memory_capacity == 180 * GIB
    assert override(models()["Qwen3-8B"], {"max_context": "128Ki"}).max_context == 131_072
    assert override(b200, {}) == b200


def test_override_is_validated():
    b200 = accelerators()["b200-sxm"]
    with pytest.raises(ValidationError, match="expected a unit: '700 W'"):
        override(b200, {"tdp": 700})
    with pytest.raises(ValidationError, match="Extra inputs"):
        override(b200, {"memory_capactiy": "192 GB"})
    with pytest.raises(ValidationError, match="expected layers = 36"):
        override(models()["Qwen3-8B"], {"sliding_layers": 4, "sliding_window": 128})


def test_an_accelerator_in_line():
    fields = {
        "id": "new-chip",
        "name": "New chip",
        "vendor": "us",
        "fp8_flops": "2 PFLOPS",
        "memory_type": "HBM4",
        "memory_capacity": "96 GiB",
        "memory_bandwidth": "4 TB/s",
        "scaleup_bandwidth": "900 GB/s",
        "scaleout_bandwidth": "400 Gb/s",
    }
    assert Accelerator.model_validate(fields).fp8_flops == 2e15
    with pytest.raises(ValidationError, match="no compute rate"):
        Accelerator.model_validate({key: value for key, value in fields.items() if key != "fp8_flops"})
    with pytest.raises(ValidationError, match="memory_bandwidth 0"):
        Accelerator.model_validate(fields | {"memory_bandwidth": 0})


CARD = {
    "id": "tiny",
    "kind": "moe",
    "layers": 2,
    "hidden": 64,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "attention": "gqa",
    "full_attention_layers": 2,
    "moe_layers": 2,
    "experts": 8,
    "top_k": 2,
    "expert_intermediate": 32,
    "vocab": 100,
    "max_context": 1024,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 9}, "top_k = 9"),
        ({"experts": 0}, "without experts"),
        ({"kv_heads": 3}, "divisor of heads"),
        ({"head_dim": 0}, "head_dim"),
        ({"attention": "mla"}, "without kv_lora"),
        ({"moe_layers": 1}, "dense_layers \\+ moe_layers = 1"),
        ({"linear_layers": 1, "full_attention_layers": 1}, "without linear_kind"),
        ({"kind": "moe-hybrid"}, "layers = 2 in all"),
        ({"layers": -1}, "greater than"),
    ],
)
def test_a_card_that_contradicts_itself(change, message):
    ModelCard.model_validate(CARD)
    with pytest.raises(ValidationError, match=message):
        ModelCard.model_validate(CARD | change)


def test_nearest_names():
    assert nearest("H200sxm", accelerators())[0] == "h200-sxm"
    assert nearest("deepseek v3.2", models())[0] == "DeepSeek-V3.2"
    assert nearest("zzzzzz", models()) == []


@pytest.mark.parametrize("kind", [Accelerator, ModelCard])
def test_json_schema_is_valid_and_described(kind):
    schema = kind.model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert "description" in schema["properties"]["id"]


def test_import_reads_no_data_and_stays_light():
    code = (
        "import sys; import codesign.catalog, codesign.catalog.store as s; "
        "assert s.accelerators.cache_info().currsize == 0; "
        "heavy = {'numpy', 'pandas', 'scipy', 'pyomo', 'highspy', 'optuna'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
