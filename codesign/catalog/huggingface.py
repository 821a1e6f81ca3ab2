"""Model cards from the `config.json` of Hugging Face transformers.

Only keys that fix parameters, FLOPs and bytes are read. A key that is missing has the default of its
transformers class, as far as released models rely on one. Vision towers and multi-token-prediction layers are
left out.
"""

import math
import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import Any

from codesign.catalog.schema import ModelCard
from codesign.files import parse_json

Fields = dict[str, Any]


class _Config:
    """A configuration whose every look-up names the key that is missing or odd."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def whole(self, *keys: str, default: int | None = None, least: int = 1) -> int:
        """The integer under the first of `keys` that is set."""
        for key in keys:
            value = self.values.get(key)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"found {key} = {value!r}: expected an integer of at least {least}")
            return value
        if default is None:
            raise ValueError(f"found no {' or '.join(keys)}: expected an integer of at least {least}")
        return default

    def truth(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise ValueError(f"found {key} = {value!r}: expected true or false")
        return value

    def sequence(self, key: str) -> list[Any] | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, list):
            raise ValueError(f"found {key} = {value!r}: expected a list")
        return value

    def table(self, key: str) -> "_Config":
        value = self.values.get(key)
        if not isinstance(value, Mapping):
            raise ValueError(f"found {key} = {value!r}: expected an object")
        return _Config(value)


def _heads(config: _Config) -> Fields:
    """Widths of the attention: MLA where a latent rank is given, else query and KV heads."""
    heads = config.whole("num_attention_heads")
    kv_heads = config.whole("num_key_value_heads", default=heads)
    if config.has("kv_lora_rank"):
        index = config.whole("index_head_dim", default=0, least=0)
        return {
            "attention": "mla",
            "heads": heads,
            "kv_heads": kv_heads,
            "q_lora": config.whole("q_lora_rank", default=0, least=0),
            "kv_lora": config.whole("kv_lora_rank"),
            "qk_nope": config.whole("qk_nope_head_dim"),
            "qk_rope": config.whole("qk_rope_head_dim"),
            "v_head": config.whole("v_head_dim"),
            "sparse_topk": config.whole("index_topk", default=0, least=0),
            "sparse_index_heads": config.whole("index_n_heads", default=0, least=0),
            "sparse_index_dim": index,
            "sparse_index_layers": _index_layers(config) if index else 0,
            # One FP8 key a token and layer, with a 32-bit scale for each 128 elements.
            "sparse_index_bytes_per_token_layer": index + 4 * math.ceil(index / 128),
        }
    return {
        "attention": "mha" if kv_heads == heads else "mqa" if kv_heads == 1 else "gqa",
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": config.whole(
            "head_dim", "attention_head_dim", default=config.whole("hidden_size") // heads
        ),
    }


def _index_layers(config: _Config) -> int:
    """Layers with an index of their own where it is shared: `indexer_types`, else every so many; 0: all."""
    kinds = config.sequence("indexer_types")
    if kinds:
        return sum(kind == "full" for kind in kinds)
    every, offset = config.whole("index_topk_freq", default=1), config.whole("index_skip_topk_offset", default=1)
    layers = range(config.whole("num_hidden_layers"))
    return 0 if every == 1 else sum(1 for n in layers if max(n - offset + 1, 0) % every == 0)


def _full(config: _Config) -> list[str]:
    return ["full_attention"] * config.whole("num_hidden_layers")


def _all_sliding(config: _Config) -> list[str]:
    kind = "sliding_attention" if config.has("sliding_window") else "full_attention"
    return [kind] * config.whole("num_hidden_layers")


def _sliding_above(config: _Config) -> list[str]:
    """Qwen2 and Qwen3: sliding windows from `max_window_layers` on, and only when switched on."""
    layers = config.whole("num_hidden_layers")
    if not config.truth("use_sliding_window", False) or not config.has("sliding_window"):
        return _full(config)
    first = config.whole("max_window_layers", default=28, least=0)
    return ["sliding_attention" if layer >= first else "full_attention" for layer in range(layers)]


def _every(key: str, default: int, other: str) -> Callable[[_Config], list[str]]:
    """Full attention in every n-th layer, `other` in the rest."""

    def kinds(config: _Config) -> list[str]:
        n = config.whole(key, default=default)
        layers = range(1, config.whole("num_hidden_layers") + 1)
        return ["full_attention" if layer % n == 0 else other for layer in layers]

    return kinds


def _chunked_where_rope(config: _Config) -> list[str]:
    """Llama 4: layers with rotary positions attend within chunks, those without see everything."""
    rope = config.sequence("no_rope_layers")
    if not rope:
        return _every("no_rope_layer_interval", 4, "chunked_attention")(config)
    return ["chunked_attention" if uses_rope else "full_attention" for uses_rope in rope]


def _attention_layers(config: _Config, default_kinds: Callable[[_Config], list[str]]) -> Fields:
    """Numbers of full, sliding and linear layers, from `layer_types` where it is written."""
    kinds = config.sequence("layer_types") or default_kinds(config)
    # Sparse attention is told by its index (`index_topk`); its layers hold every token.
    kinds = ["full_attention" if kind == "deepseek_sparse_attention" else kind for kind in kinds]
    sliding = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
    unknown = sorted({str(kind) for kind in kinds} - {"full_attention", "linear_attention", *sliding})
    if unknown:
        raise ValueError(f"found layer_types {unknown}: expected full, sliding, chunked or linear attention")
    fields: Fields = {"full_attention_layers": kinds.count("full_attention")}
    for kind, window in sliding.items():
        if kind in kinds:
            fields |= {"sliding_layers": kinds.count(kind), "sliding_window": config.whole(window)}
    if "linear_attention" in kinds:
        fields |= {
            "linear_layers": kinds.count("linear_attention"),
            "linear_kind": "deltanet",
            "linear_conv_kernel": config.whole("linear_conv_kernel_dim", default=4),
            "linear_k_heads": config.whole("linear_num_key_heads"),
            "linear_v_heads": config.whole("linear_num_value_heads"),
            "linear_k_dim": config.whole("linear_key_head_dim"),
            "linear_v_dim": config.whole("linear_value_head_dim"),
        }
    return fields


def _dense(config: _Config) -> Fields:
    return {
        "kind": "dense",
        "dense_layers": config.whole("num_hidden_layers"),
        "dense_intermediate": config.whole("intermediate_size"),
    }


def _local_experts(config: _Config) -> Fields:
    """Mixtral, gpt-oss, MiniMax: experts in every layer, as wide as `intermediate_size`."""
    return {
        "kind": "moe",
        "moe_layers": config.whole("num_hidden_layers"),
        "experts": config.whole("num_local_experts"),
        "top_k": config.whole("num_experts_per_tok", "experts_per_token"),
        "expert_intermediate": config.whole("intermediate_size"),
    }


def _sparse_step_experts(config: _Config) -> Fields:
    """Qwen: experts in every `decoder_sparse_step`-th layer outside of `mlp_only_layers`."""
    step = config.whole("decoder_sparse_step", default=1)
    dense_only = set(config.sequence("mlp_only_layers") or ())
    layers = range(config.whole("num_hidden_layers"))
    moe = sum(1 for layer in layers if layer not in dense_only and (layer + 1) % step == 0)
    fields: Fields = {
        "kind": "moe",
        "moe_layers": moe,
        "experts": config.whole("num_experts"),
        "top_k": config.whole("num_experts_per_tok"),
        "expert_intermediate": config.whole("moe_intermediate_size"),
    }
    if moe < len(layers):
        fields |= {"dense_layers": len(layers) - moe, "dense_intermediate": config.whole("intermediate_size")}
    shared = config.whole("shared_expert_intermediate_size", default=0, least=0)
    return fields | ({"shared_experts": 1, "shared_intermediate": shared} if shared else {})


def _dense_then_experts(config: _Config) -> Fields:
    """DeepSeek, Kimi, GLM: a few dense layers, then experts with shared ones."""
    layers = config.whole("num_hidden_layers")
    dense = config.whole("first_k_dense_replace", default=0, least=0)
    frequency = config.whole("moe_layer_freq", default=1)
    moe = sum(1 for layer in range(dense, layers) if layer % frequency == 0)
    width = config.whole("moe_intermediate_size")
    shared = config.whole("n_shared_experts", "num_shared_experts", default=0, least=0)
    fields: Fields = {
        "kind": "moe",
        "moe_layers": moe,
        "experts": config.whole("n_routed_experts", "num_experts"),
        "top_k": config.whole("num_experts_per_tok", "num_experts_per_token"),
        "expert_intermediate": width,
        "shared_experts": shared,
        "shared_intermediate": width if shared else 0,
        "moe_latent": config.whole("routed_expert_hidden_size", default=0, least=0),
    }
    if moe < layers:
        fields |= {"dense_layers": layers - moe, "dense_intermediate": config.whole("intermediate_size")}
    return fields


def _llama4_experts(config: _Config) -> Fields:
    layers = config.whole("num_hidden_layers")
    step = config.whole("interleave_moe_layer_step", default=1)
    listed = config.sequence("moe_layers")
    moe = layers // step if listed is None else len(listed)
    width = config.whole("intermediate_size")
    fields: Fields = {
        "kind": "moe",
        "moe_layers": moe,
        "experts": config.whole("num_local_experts"),
        "top_k": config.whole("num_experts_per_tok"),
        "expert_intermediate": width,
        "shared_experts": 1,
        "shared_intermediate": width,
    }
    if moe < layers:
        fields |= {"dense_layers": layers - moe, "dense_intermediate": config.whole("intermediate_size_mlp")}
    return fields


_BLOCK_LETTERS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}


def _hybrid_pattern(config: _Config) -> str:
    """One letter a layer: M Mamba-2, * attention, - MLP, E experts."""
    pattern = config.values.get("hybrid_override_pattern")
    blocks = config.sequence("layers_block_type")
    if pattern is None and blocks:
        pattern = "".join(_BLOCK_LETTERS.get(str(block), "?") for block in blocks)
    if not isinstance(pattern, str) or not pattern or set(pattern) - set(_BLOCK_LETTERS.values()):
        raise ValueError(f"found hybrid_override_pattern = {pattern!r}: expected a text of M, *, - and E")
    return pattern


def _nemotron_h(config: _Config) -> Fields:
    """Every layer is one of Mamba-2, attention, MLP and experts; MLPs have no gate."""
    pattern = _hybrid_pattern(config)
    fields = _heads(config) | {
        "kind": "moe-hybrid" if "E" in pattern else "dense-hybrid",
        "layers": config.whole("num_hidden_layers", default=len(pattern)),
        "full_attention_layers": pattern.count("*"),
        "linear_layers": pattern.count("M"),
        "linear_kind": "mamba2",
        "linear_conv_kernel": config.whole("conv_kernel", default=4),
        "linear_k_heads": config.whole("n_groups"),
        "linear_v_heads": config.whole("mamba_num_heads"),
        "linear_k_dim": config.whole("ssm_state_size"),
        "linear_v_dim": config.whole("mamba_head_dim"),
        "gated_mlp": False,
    }
    if "-" in pattern:
        fields |= {
            "dense_layers": pattern.count("-"),
            "dense_intermediate": config.whole("intermediate_size"),
        }
    if "E" in pattern:
        shared = config.whole("n_shared_experts", default=0, least=0)
        fields |= {
            "moe_layers": pattern.count("E"),
            "experts": config.whole("n_routed_experts"),
            "top_k": config.whole("num_experts_per_tok"),
            "expert_intermediate": config.whole("moe_intermediate_size"),
            "shared_experts": shared,
            "shared_intermediate": config.whole("moe_shared_expert_intermediate_size") if shared else 0,
            "moe_latent": config.whole("moe_latent_size", default=0, least=0),
        }
    return fields


def _kimi_linear(config: _Config) -> Fields:
    """Kimi Delta Attention in most layers, MLA in the rest; layers are listed by number."""
    linear = config.table("linear_attn_config")
    heads = linear.whole("num_heads")
    return (
        _heads(config)
        | _dense_then_experts(config)
        | {
            "layers": config.whole("num_hidden_layers"),
            "full_attention_layers": len(linear.sequence("full_attn_layers") or ()),
            "linear_layers": len(linear.sequence("kda_layers") or ()),
            "linear_kind": "kda",
            "linear_conv_kernel": linear.whole("short_conv_kernel_size", default=4),
            "linear_k_heads": heads,
            "linear_v_heads": heads,
            "linear_k_dim": linear.whole("head_dim"),
            "linear_v_dim": linear.whole("head_dim"),
            "gated_attention": config.truth("mla_use_output_gate", False),
            "linear_full_gate": linear.truth("use_full_rank_gate", False),
        }
    )


def _family(
    layer_kinds: Callable[[_Config], list[str]],
    mlp: Callable[[_Config], Fields],
    tied: bool = False,
    gated: bool = False,
    defaults: Mapping[str, Any] | None = None,
) -> Callable[[_Config], Fields]:
    """A reader for models whose every layer is attention followed by an MLP."""

    def read(config: _Config) -> Fields:
        full = _Config({**(defaults or {}), **config.values})
        return (
            _heads(full)
            | _attention_layers(full, layer_kinds)
            | mlp(full)
            | {
                "layers": full.whole("num_hidden_layers"),
                "tied_embeddings": full.truth("tie_word_embeddings", tied),
                "gated_attention": gated and full.truth("attn_output_gate", True),
                "vocab": full.whole("vocab_size"),
                "max_context": full.whole("max_position_embeddings"),
            }
        )

    return read


_GEMMA3 = {"vocab_size": 262208, "head_dim": 256, "sliding_window": 4096, "max_position_embeddings": 131072,
           "num_attention_heads": 8, "num_key_value_heads": 4}  # fmt: skip
_QWEN_NEXT = _family(
    _every("full_attention_interval", 4, "linear_attention"), _sparse_step_experts, gated=True
)
_DEEPSEEK = _family(_full, _dense_then_experts)
_READERS: Mapping[str, Callable[[_Config], Fields]] = {
    "llama": _family(_full, _dense),
    "mistral": _family(_all_sliding, _dense),
    "qwen2": _family(_sliding_above, _dense),
    "qwen3": _family(_sliding_above, _dense),
    "qwen3_vl": _family(_full, _dense),
    "gemma2": _family(_every("sliding_window_pattern", 2, "sliding_attention"), _dense, tied=True),
    "gemma3": _family(
        _every("sliding_window_pattern", 6, "sliding_attention"), _dense, tied=True, defaults=_GEMMA3
    ),
    "mixtral": _family(_all_sliding, _local_experts),
    "minimax_m2": _family(_full, _local_experts),
    "gpt_oss": _family(_every("full_attention_interval", 2, "sliding_attention"), _local_experts),
    "qwen2_moe": _family(_sliding_above, _sparse_step_experts),
    "qwen3_moe": _family(_sliding_above, _sparse_step_experts),
    "qwen3_vl_moe": _family(_full, _sparse_step_experts),
    "qwen3_next": _QWEN_NEXT,
    "qwen3_5": _family(_every("full_attention_interval", 4, "linear_attention"), _dense, gated=True),
    "qwen3_5_moe": _QWEN_NEXT,
    "llama4": _family(_chunked_where_rope, _llama4_experts, defaults={"attention_chunk_size": 8192}),
    "glm4_moe": _DEEPSEEK,
    "glm_moe_dsa": _DEEPSEEK,
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "deepseek_v32": _DEEPSEEK,
    "kimi_k2": _DEEPSEEK,
    "kimi_linear": _kimi_linear,
    "nemotron_h": _nemotron_h,
}


def _precision(config: _Config) -> str:
    """The format of the released weights, from the quantisation or else the data type."""
    if not config.has("quantization_config"):
        dtype = config.values.get("torch_dtype") or config.values.get("dtype")
        return "fp16" if dtype == "float16" else "bf16"
    quantisation = config.table("quantization_config")
    method = quantisation.values.get("quant_method")
    if method in ("fp8", "mxfp4"):
        return str(method)
    if method in ("awq", "gptq"):
        bits = quantisation.whole("bits")
        if bits not in (4, 8):
            raise ValueError(f"found quantization_config.bits = {bits}: expected 4 or 8")
        return f"int{bits}"
    if method == "modelopt":
        algorithm = str(quantisation.values.get("quant_algo", "")).lower()
        if algorithm in ("fp8", "nvfp4"):
            return algorithm
        raise ValueError(f"found quantization_config.quant_algo = {algorithm!r}: expected FP8 or NVFP4")
    groups = quantisation.values.get("config_groups")
    if isinstance(groups, Mapping) and groups:
        group = _Config(groups).table(next(iter(groups)))
        weights = group.table("weights")
        name = (weights.values.get("type", "int"), weights.whole("num_bits"))
        four_bit_float = "mxfp4" if weights.values.get("group_size") == 32 else "nvfp4"
        known = {("float", 8): "fp8", ("int", 8): "int8", ("int", 4): "int4", ("float", 4): four_bit_float}
        if name in known:
            return known[name]
    raise ValueError(
        f"found quantization_config.quant_method = {method!r}: "
        "expected fp8, mxfp4, awq, gptq, modelopt or compressed-tensors with known config_groups"
    )


_EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.q_b_proj", "self_attn.kv_b_proj"),
    "output": ("self_attn.o_proj",),
    "linear": ("linear_attn.in_proj_qkvz", "linear_attn.out_proj"),
    "dense": ("mlp.gate_proj", "mlp.down_proj"),
    "shared": ("mlp.shared_experts.gate_proj", "mlp.shared_experts.down_proj", "mlp.shared_expert.gate_proj"),
}
"""Modules of a decoder layer by the tensors that a card tells apart."""
_EXCEPTIONS = ("ignore", "exclude_modules", "ignored_layers", "modules_to_not_convert")
_ROOTS = ("model.", "language_model.model.", "model.language_model.")


def _kept(quantisation: Mapping[str, Any], card: ModelCard) -> tuple[str, ...]:
    """Tensors that a quantisation config excepts, in all layers that have them: by name, glob or regular expression."""
    patterns = [str(p) for name in _EXCEPTIONS for p in quantisation.get(name) or ()]
    first, last = 0, card.layers - 1
    layer_of = {"dense": first, "shared": last, "linear": first, "attention": last, "output": last}

    def excepted(module: str) -> bool:
        for pattern in patterns:
            if pattern.startswith("re:"):
                try:
                    if re.match(pattern.removeprefix("re:"), module):
                        return True
                except re.error as error:
                    odd = f"found {pattern!r} in quantization_config ({error})"
                    raise ValueError(f"{odd}: expected a pattern") from None
            elif fnmatchcase(module, pattern) or module.startswith(pattern + "."):
                return True
        return False

    has = {
        "attention": card.full_attention_layers + card.sliding_layers,
        "output": card.full_attention_layers + card.sliding_layers,
        "linear": card.linear_layers,
        "dense": card.dense_layers,
        "shared": card.shared_experts,
    }
    return tuple(
        tensors
        for tensors, modules in _EXAMPLES.items()
        if has[tensors]
        and any(excepted(f"{root}layers.{layer_of[tensors]}.{module}") for root in _ROOTS for module in modules)
    )


def _with_exceptions(card: ModelCard, config: _Config) -> ModelCard:
    """The card with what its quantisation leaves in 16 bits, and its experts' bits where only they are narrow."""
    if not config.has("quantization_config"):
        return card
    if card.expert_bits is not None:
        return card  # all but the experts stays in 16 bits
    quantisation = config.table("quantization_config")
    kept = _kept(quantisation.values, card)
    if not kept:
        return card
    changes: Fields = {"kept_16_bit": {card.native_precision: kept}}
    others = (("dense", card.dense_layers), ("shared", card.shared_experts), ("linear", card.linear_layers))
    only_experts = {"attention", "output"} <= set(kept) and all(name in kept for name, held in others if held)
    if card.native_precision == "int4" and card.moe_layers and only_experts and quantisation.has("config_groups"):
        groups = quantisation.table("config_groups")
        size = groups.table(next(iter(groups.values))).table("weights").whole("group_size")
        # Four bits and a 16-bit scale for each group; what is no expert then stays in 16 bits.
        changes = {"expert_bits": 4.0 + 16.0 / size}
    return ModelCard.model_validate(card.model_dump() | changes)


def _read_json(path: Path) -> Any:
    file = path / "config.json" if path.is_dir() else path
    try:
        return parse_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"found no readable file {file} ({error.strerror}): expected a config.json"
        ) from None
    except ValueError as error:
        raise ValueError(f"found {file}, which is not JSON ({error}): expected a config.json") from None


def _name(source: str | PathLike[str] | Mapping[str, Any], values: Mapping[str, Any]) -> str:
    repository = str(values.get("_name_or_path") or "").rstrip("/").rpartition("/")[2]
    if repository:
        return repository
    if isinstance(source, Mapping):
        return str(values.get("model_type"))
    path = Path(source)
    return path.parent.name or path.stem if path.name == "config.json" else path.stem


def from_huggingface_config(
    source: str | PathLike[str] | Mapping[str, Any], name: str | None = None
) -> ModelCard:
    """The card of the language model that a `config.json` describes.

    Args:
        source: the file, the folder that holds it, or its content.
        name: id of the card; by default the repository's or folder's name.

    Raises:
        ValueError: no such file, an unknown `model_type`, or a key that is missing or odd, which the message
            names.
    """
    values = source if isinstance(source, Mapping) else _read_json(Path(source))
    if not isinstance(values, Mapping):
        raise ValueError(f"found a {type(values).__name__}: expected a JSON object with model_type")
    text = values.get("text_config")
    merged = _Config({**values, **text} if isinstance(text, Mapping) else values)
    model_type = str(merged.values.get("model_type")).removesuffix("_text")
    if model_type not in _READERS:
        raise ValueError(f"found model_type = {model_type!r}: expected one of {', '.join(sorted(_READERS))}")
    precision = _precision(merged)
    fields: Fields = {
        "id": name or _name(source, merged.values),
        "hf_id": str(merged.values.get("_name_or_path") or ""),
        "hidden": merged.whole("hidden_size"),
        "tied_embeddings": merged.truth("tie_word_embeddings", False),
        "native_precision": precision,
        "expert_bits": 4.25 if precision == "mxfp4" else None,
        "sources": {"dimensions": "config.json"},
    }
    card = ModelCard.model_validate(
        {
            "vocab": merged.values.get("vocab_size"),
            "max_context": merged.values.get("max_position_embeddings"),
        }
        | fields
        | _READERS[model_type](merged)
    )
    return _with_exceptions(card, merged)
