"""The configurations hold the keys that matter of released ones; the catalogue's cards are the reference."""

import json

import pytest

from codesign.catalog import from_huggingface_config, models

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
QWEN3_30B = {
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "sliding_window": None,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "experts_per_token": 4,
    "head_dim": 64,
    "hidden_size": 2880,
    "intermediate_size": 2880,
    "max_position_embeddings": 131072,
    "num_attention_heads": 64,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "num_local_experts": 128,
    "quantization_config": {"quant_method": "mxfp4"},
    "sliding_window": 128,
    "vocab_size": 201088,
}
DEEPSEEK = {
    "model_type": "deepseek_v32",
    "first_k_dense_replace": 3,
    "hidden_size": 7168,
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 2048,
    "intermediate_size": 18432,
    "kv_lora_rank": 512,
    "max_position_embeddings": 163840,
    "moe_intermediate_size": 2048,
    "moe_layer_freq": 1,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_attention_heads": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
    "v_head_dim": 128,
    "vocab_size": 129280,
}
KIMI_K2 = {
    **{key: value for key, value in DEEPSEEK.items() if not key.startswith("index_")},
    "model_type": "kimi_k2",
    "first_k_dense_replace": 1,
    "max_position_embeddings": 131072,
    "n_routed_experts": 384,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "vocab_size": 163840,
}
GLM45 = {
    "model_type": "glm4_moe",
    "first_k_dense_replace": 3,
    "head_dim": 128,
    "hidden_size": 5120,
    "intermediate_size": 12288,
    "max_position_embeddings": 131072,
    "moe_intermediate_size": 1536,
    "n_routed_experts": 160,
    "n_shared_experts": 1,
    "num_attention_heads": 96,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 92,
    "num_key_value_heads": 8,
    "vocab_size": 151552,
}
MAVERICK = {
    "model_type": "llama4",
    "text_config": {
        "model_type": "llama4_text",
        "attention_chunk_size": 8192,
        "head_dim": 128,
        "hidden_size": 5120,
        "interleave_moe_layer_step": 2,
        "intermediate_size": 8192,
        "intermediate_size_mlp": 16384,
        "max_position_embeddings": 1048576,
        "num_attention_heads": 40,
        "num_experts_per_tok": 1,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "num_local_experts": 128,
        "vocab_size": 202048,
    },
}
GEMMA3 = {
    "model_type": "gemma3",
    "vision_config": {"hidden_size": 1152},
    "text_config": {
        "model_type": "gemma3_text",
        "head_dim": 128,
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "num_attention_heads": 32,
        "num_hidden_layers": 62,
        "num_key_value_heads": 16,
        "sliding_window": 1024,
        "vocab_size": 262144,
    },
}
QWEN3_NEXT = {
    "model_type": "qwen3_next",
    "decoder_sparse_step": 1,
    "full_attention_interval": 4,
    "head_dim": 256,
    "hidden_size": 2048,
    "linear_key_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
    "linear_value_head_dim": 128,
    "max_position_embeddings": 262144,
    "moe_intermediate_size": 512,
    "num_attention_heads": 16,
    "num_experts": 512,
    "num_experts_per_tok": 10,
    "num_hidden_layers": 48,
    "num_key_value_heads": 2,
    "shared_expert_intermediate_size": 512,
    "vocab_size": 151936,
}
NEMOTRON_NANO = {
    "model_type": "nemotron_h",
    "head_dim": 128,
    "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "intermediate_size": 1856,
    "mamba_head_dim": 64,
    "mamba_num_heads": 64,
    "max_position_embeddings": 262144,
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "n_groups": 8,
    "n_routed_experts": 128,
    "n_shared_experts": 1,
    "num_attention_heads": 32,
    "num_experts_per_tok": 6,
    "num_hidden_layers": 52,
    "num_key_value_heads": 2,
    "ssm_state_size": 128,
    "vocab_size": 131072,
}
MIXTRAL = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "num_local_experts": 8,
    "sliding_window": None,
    "vocab_size": 32000,
}
MATCHES = {
    "Llama-3.1-8B": LLAMA,
    "Qwen3-30B-A3B": QWEN3_30B,
    "gpt-oss-120b": GPT_OSS,
    "DeepSeek-V3.2": DEEPSEEK,
    "Kimi-K2": KIMI_K2,
    "GLM-4.5": GLM45,
    "Llama-4-Maverick": MAVERICK,
    "Gemma-3-27B": GEMMA3,
    "Qwen3-Next-80B-A3B": QWEN3_NEXT,
    "Nemotron-3-Nano-30B-A3B": NEMOTRON_NANO,
    "Mixtral-8x7B": MIXTRAL,
}
ABOUT = {
    "id",
    "hf_id",
    "sources",
    "date",
    "notes",
    "published_total_parameters",
    "published_active_parameters",
    "kept_16_bit",  # of releases at other precisions than the configuration's, too
}


@pytest.mark.parametrize("name", sorted(MATCHES))
def test_a_configuration_gives_the_card_of_the_catalogue(name):
    read = from_huggingface_config(MATCHES[name], name=name).model_dump(exclude=ABOUT)
    expected = models()[name].model_dump(exclude=ABOUT)
    assert read == expected


def test_from_file_and_folder(tmp_path):
    folder = tmp_path / "our-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    card = from_huggingface_config(folder)
    assert card.id == "our-model"
    assert card == from_huggingface_config(folder / "config.json")
    assert from_huggingface_config(LLAMA | {"_name_or_path": "us/ours"}).id == "ours"


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"num_key_value_heads": None}, {"attention": "mha", "kv_heads": 32}),
        ({"num_key_value_heads": 1}, {"attention": "mqa"}),
        ({"head_dim": 64}, {"head_dim": 64}),
        ({"tie_word_embeddings": True}, {"tied_embeddings": True}),
        ({"torch_dtype": "float16"}, {"native_precision": "fp16"}),
        ({"model_type": "mistral", "sliding_window": 4096}, {"sliding_layers": 32, "sliding_window": 4096}),
        ({"model_type": "mistral", "sliding_window": None}, {"full_attention_layers": 32}),
        (
            {
                "model_type": "qwen2",
                "use_sliding_window": True,
                "sliding_window": 4096,
                "max_window_layers": 28,
            },
            {"full_attention_layers": 28, "sliding_layers": 4},
        ),
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, {"native_precision": "int4"}),
        (
            {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}},
            {"native_precision": "nvfp4"},
        ),
        (
            {
                "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"type": "float", "num_bits": 8}}},
                }
            },
            {"native_precision": "fp8"},
        ),
    ],
)
def test_variations(change, fields):
    card = from_huggingface_config(LLAMA | change)
    assert {name: getattr(card, name) for name in fields} == fields


def test_deepseek_v2_lite_has_no_query_latent():
    assert from_huggingface_config(KIMI_K2 | {"model_type": "deepseek_v2", "q_lora_rank": None}).q_lora == 0


def test_hybrid_layers_may_be_listed():
    letters = {"M": "mamba", "E": "moe", "*": "attention"}
    blocks = [letters[letter] for letter in NEMOTRON_NANO["hybrid_override_pattern"]]
    listed = {key: value for key, value in NEMOTRON_NANO.items() if key != "hybrid_override_pattern"}
    card = from_huggingface_config(listed | {"layers_block_type": blocks, "num_hidden_layers": None})
    assert card == from_huggingface_config(NEMOTRON_NANO)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LLAMA | {"model_type": "t5"}, "model_type = 't5'"),
        ({}, "model_type"),
        (LLAMA | {"hidden_size": None}, "no hidden_size"),
        (LLAMA | {"hidden_size": "4096"}, "hidden_size = '4096'"),
        (LLAMA | {"num_hidden_layers": -1}, "num_hidden_layers = -1"),
        (LLAMA | {"num_hidden_layers": True}, "num_hidden_layers = True"),
        (LLAMA | {"layer_types": ["full_attention", "novel"]}, "novel"),
        (LLAMA | {"layer_types": "full"}, "layer_types"),
        (LLAMA | {"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        (LLAMA | {"quantization_config": {"quant_method": "odd"}}, "quant_method = 'odd'"),
        (LLAMA | {"quantization_config": {"quant_method": "gptq", "bits": 3}}, "bits = 3"),
        (LLAMA | {"quantization_config": 8}, "quantization_config"),
        (NEMOTRON_NANO | {"hybrid_override_pattern": "MX"}, "hybrid_override_pattern"),
        (DEEPSEEK | {"qk_nope_head_dim": None}, "no qk_nope_head_dim"),
    ],
)
def test_errors_name_the_key(config, message):
    with pytest.raises(ValueError, match=message):
        from_huggingface_config(config)


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(ValueError, match="no readable file"):
        from_huggingface_config(tmp_path / "absent.json")
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    with pytest.raises(ValueError, match="found a list"):
        from_huggingface_config(tmp_path / "list.json")
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="not JSON"):
        from_huggingface_config(tmp_path / "bad.json")


KIMI_K25 = {
    "quant_method": "compressed-tensors",
    "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
    "ignore": ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*"],
}


@pytest.mark.parametrize(
    ("quantisation", "kept", "expert_bits"),
    [
        # Kimi-K2.5: groups of 32, and nothing but its experts in 4 bits.
        (KIMI_K25, {}, 4.5),
        (KIMI_K25 | {"ignore": ["lm_head", "re:.*self_attn.*"]}, {"int4": ("attention", "output")}, None),
        # NVIDIA's releases of DeepSeek, GLM-5.2 and Kimi-K2.6 in NVFP4.
        (
            {
                "quant_method": "modelopt",
                "quant_algo": "NVFP4",
                "exclude_modules": ["lm_head", "model.layers.61*"]
                + [f"model.layers.{i}.self_attn.{n}_proj" for i in range(61) for n in ("q_b", "kv_b")],
            },
            {"nvfp4": ("attention",)},
            None,
        ),
        (
            {
                "quant_method": "modelopt",
                "quant_algo": "NVFP4",
                "ignore": ["language_model.model.layers.0*"]
                + [f"language_model.model.layers.{i}.self_attn*" for i in range(1, 61)]
                + [f"language_model.model.layers.{i}.mlp.shared_experts*" for i in range(1, 61)],
            },
            {"nvfp4": ("attention", "output", "dense", "shared")},
            None,
        ),
        ({"quant_method": "fp8", "modules_to_not_convert": ["gate", "lm_head"]}, {}, None),
    ],
)
def test_what_a_quantisation_excepts_stays_in_16_bits(quantisation, kept, expert_bits):
    card = from_huggingface_config(DEEPSEEK | {"quantization_config": quantisation})
    assert card.kept_16_bit == kept
    assert card.expert_bits == expert_bits


def test_a_pattern_that_is_none_is_named():
    quantisation = KIMI_K25 | {"ignore": ["re:*("]}
    with pytest.raises(ValueError, match=r"quantization_config.*expected a pattern"):
        from_huggingface_config(DEEPSEEK | {"quantization_config": quantisation})
