"""Fit the operator constants of the performance model to kernel tables, and write them with their residuals.

    pip download aiconfigurator-core --no-deps && unzip aiconfigurator_core-*.whl -d tables
    python scripts/fit_kernels.py --tables tables/aiconfigurator_core/systems/data --data ../shared

Writes the fitted part of codesign/performance/data/constants.toml (what stands outside its marked blocks is
written by hand and kept) and codesign/performance/data/kernel_residuals.csv. Needs the ``calibration`` extra.

One set of constants serves a generation of parts: fractions of each part's own peaks, floors in µs.
Residuals are relative errors in logarithms (soft L1: outliers of a table do not bend a fit), at most ``ROWS``
rows drawn with a fixed seed; medians and 90th percentiles are over all rows of each table, in per cent. No
serving measurement enters here.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from kernel_forms import FORMS, Form
from kernel_tables import BACKENDS, GENERATIONS, LOADERS, PARTS, KernelTable, joined, load
from numpy.typing import NDArray
from scipy.optimize import least_squares

from codesign.catalog import Accelerator, accelerators, models
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    decode_attention_seconds,
    decode_step_seconds,
    precision_supported,
    prefill_seconds,
)
from codesign.performance.constants import constants
from codesign.performance.facts import forget

FloatArray = NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[1] / "codesign" / "performance" / "data"
CONSTANTS, RESIDUALS = ROOT / "constants.toml", ROOT / "kernel_residuals.csv"

ROWS = 3000
SEED = 2
SPREAD = 0.1
"""Residual in log at which the loss turns from quadratic to linear."""

FLOOR_LIMIT_US = 5.0
"""Per-tensor FP8 products of TensorRT-LLM were timed with an unfused quantisation of 8 to 10 µs."""


def default_backend(operator: str, generation: str, key: str) -> str:
    """Whose tables give a class its constants: TensorRT-LLM's, complete and sane on every part, but for

    - decode attention before Blackwell: its choice among kernels is bimodal in heads, FlashAttention stands
      for what most engines run;
    - experts: its block-FP8 kernels take narrow tensor slices 2 times as long as the kernels on which vLLM
      and SGLang agree, its 4-bit rows mix kernels 1.5 to 2.2 times apart. vLLM's there, SGLang's in 4 bits; but
      not its 16-bit kernel for 4-bit weights on Hopper, which reads at a third of the bandwidth of both others;
    - what it has no tables of.
    """
    if operator == "decode_attention":
        return {"hopper": "sglang", "ampere": "vllm"}.get(generation, "trtllm")
    if operator == "moe":
        if key.endswith("_wide"):
            return ""  # one engine's
        if key in ("nvfp4", "w4a16", "w4a8"):
            return "vllm" if generation == "ada" or (generation, key) == ("hopper", "w4a16") else "sglang"
        sixteen_bit = key == "bf16" and generation != "hopper" and generation != "ada"
        return "trtllm" if sixteen_bit else "vllm"
    return "sglang" if operator.startswith(("exchange", "recurrent", "sparse")) else "trtllm"


ENGINES = {"trtllm": "tensorrt-llm", "sglang": "sglang", "vllm": "vllm"}
"""Engine profile that runs a backend's kernels."""
ENGINE_OPERATORS = ("decode_attention", "all_reduce")
"""What engines write themselves, and the package tells apart by engine; their matrix products come from the same
libraries, and an engine's table of experts mixes kernels of which it runs one (but for 4-bit weights under 16
bits, and TensorRT-LLM's 4-bit experts behind an all-to-all: one kernel each)."""


OWN_EXPERTS = {
    ("sglang", "hopper", "fp8"),
    *itertools.product(BACKENDS, GENERATIONS, ("w4a16", "nvfp4_wide")),
}
"""Backends, generations and classes of experts that are an engine's own kernel. SGLang's in block FP8 on Hopper was
chosen by looking at the given InferenceX rows."""


@dataclass(frozen=True)
class Fit:
    """Constants of one class on one generation, and the tables that they were fitted to."""

    operator: str
    generation: str
    backend: str
    key: str
    constants: dict[str, float]
    tables: list[KernelTable]


def fit(form: Form, table: KernelTable) -> dict[str, float]:
    """Constants that minimise the robust sum of squared log residuals within their ranges."""
    names = list(form.ranges)
    start, least, most = np.log(np.array([form.ranges[name] for name in names])).T
    measured = np.log(table.seconds)

    def residuals(point: FloatArray) -> FloatArray:
        constants = dict(zip(names, np.exp(point), strict=True))
        return np.log(form.seconds(table.columns, constants)) - measured

    found = least_squares(
        residuals, start, bounds=(least - 1e-9, most + 1e-9), loss="soft_l1", f_scale=SPREAD, max_nfev=80
    )
    return {name: float(f"{np.exp(value):.4g}") for name, value in zip(names, found.x, strict=True)}


def errors(form: Form, table: KernelTable, constants: Mapping[str, float]) -> tuple[float, float, float]:
    """(median absolute, 90th percentile absolute, signed median) relative error over a table, per cent."""
    error = 100.0 * (form.seconds(table.columns, constants) / table.seconds - 1.0)
    size = np.abs(error)
    return float(np.median(size)), float(np.percentile(size, 90)), float(np.median(error))


def fit_generation(folder: Path, operator: str, generation: str, backend: str) -> Iterator[Fit]:
    """One fit for each class of an operator that a backend has on any system of a generation."""
    found: dict[str, list[KernelTable]] = {}
    for system in GENERATIONS[generation]:
        for table in load(folder, operator, system, backend):
            if len(table) >= 12:
                found.setdefault(table.key, []).append(table)
    for key, tables in found.items():
        constants = fit(FORMS[operator], joined(tables, ROWS, SEED))
        yield Fit(operator, generation, backend, key, constants, tables)


def fit_all(folder: Path) -> list[Fit]:
    """Every operator, generation, backend and class that has a table."""
    fits = []
    for operator, generation, backend in itertools.product(LOADERS, GENERATIONS, BACKENDS):
        fits += list(fit_generation(folder, operator, generation, backend))
    return fits


def is_default(found: Fit) -> bool:
    """Whether the package takes its constants from this fit.

    Not MLA's kernels before Hopper (they do not split the context: 85 idle sequences' worth of work), which
    no engine of today would run, nor per-tensor experts (MoE checkpoints have block scales).
    """
    if found.operator.startswith("mla") and found.generation in ("ampere", "ada"):
        return False
    if (found.operator, found.key) == ("moe", "fp8_tensor"):
        return False
    return found.backend == default_backend(found.operator, found.generation, found.key)


def is_engines_own(found: Fit) -> bool:
    """Whether the fit gives the constants of an engine's own kernel, beside the default of all engines."""
    own_experts = found.operator == "moe" and (found.backend, found.generation, found.key) in OWN_EXPERTS
    return (found.operator in ENGINE_OPERATORS or own_experts) and not is_default(found)


# Residuals -------------------------------------------------------------------------------------------------

COLUMNS = (
    "operator",
    "class",
    "system",
    "backend",
    "version",
    "constants_of",
    "use",
    "rows",
    "median_pct",
    "p90_pct",
    "signed_pct",
)


def residual_rows(fits: list[Fit]) -> Iterator[tuple[object, ...]]:
    """A row per table: under its own generation's constants, and under those of every other (inherited)."""
    for own in fits:
        form = FORMS[own.operator]
        for table in own.tables:
            facts = (own.operator, own.key, table.system, own.backend, table.version)
            use = "default" if is_default(own) else "engine" if is_engines_own(own) else "other"
            yield (*facts, own.generation, use, len(table), *_rounded(errors(form, table, own.constants)))
            if not is_default(own):
                continue
            for other in fits:
                same = (other.operator, other.key) == (own.operator, own.key) and is_default(other)
                if same and other.generation != own.generation:
                    inherited = _rounded(errors(form, table, other.constants))
                    yield (*facts, other.generation, "inherited", len(table), *inherited)


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(value, 2) for value in values)


# Norms, activations and sends, from the other kernel data --------------------------------------------------


def fit_elementwise(data: Path) -> dict[str, float]:
    """Floor and bandwidth fraction of norms, additions, activations: Vidur's A100 and H100 medians (MIT)."""
    frame = pd.read_csv(data / "measured" / "vidur_linear_ops_median.csv.gz")
    bandwidth = frame.gpu.map({"A100": "a100-80-sxm", "H100": "h100-sxm"})
    frame = frame[bandwidth.notna() & (frame.num_tensor_parallel_workers == 1)]
    rate = bandwidth.dropna().map(lambda name: accelerators()[name].memory_bandwidth)
    rate = rate.loc[frame.index].to_numpy(dtype=float)
    width = {
        "input_layernorm_ms": (2, "n_embd"),
        "add_ms": (3, "n_embd"),
        "mlp_act_ms": (3, "n_expanded_embd"),
    }
    moved, seconds = [], []
    for column, (passes, name) in width.items():
        moved.append(2.0 * passes * frame.num_tokens * frame[name] / rate)
        seconds.append(frame[column] * 1e-3)
    ideal, measured = np.concatenate(moved), np.concatenate(seconds)
    keep = np.isfinite(measured) & (measured > 0)
    form = Form(lambda t, c: c["t0_us"] * 1e-6 + t["ideal"] / c["b"], {"t0_us": (3, 0.5, 30), "b": (0.7, 0.1, 1.2)})
    table = KernelTable("", "", "", "", "", {"ideal": ideal[keep]}, measured[keep])
    found = fit(form, joined([table], ROWS, SEED))
    return {
        "launch_us": found["t0_us"],
        "b": found["b"],
        "median_pct": round(errors(form, table, found)[0], 1),
    }


def fit_hop(data: Path) -> dict[str, float]:
    """Send and receive between two accelerators of a server: Vidur's A100 and H100 medians (MIT)."""
    frame = pd.read_csv(data / "measured" / "vidur_collectives_median.csv.gz")
    column = "time_stats.send_recv.median"
    frame = frame[frame.platform.isin(("a100_dgx", "h100_dgx")) & (frame.devices_per_node == 2)]
    frame = frame[(frame.collective == "send_recv") & frame[column].notna() & (frame["size"] >= 8192)]
    names = frame.platform.map({"a100_dgx": "a100-80-sxm", "h100_dgx": "h100-sxm"})
    link = names.map(lambda name: accelerators()[name].scaleup_bandwidth).to_numpy(dtype=float)
    form = Form(lambda t, c: c["t0_us"] * 1e-6 + t["ideal"] / c["e"], {"t0_us": (10, 1, 100), "e": (0.6, 0.05, 1.2)})
    columns = {"ideal": frame["size"].to_numpy(dtype=float) / link}
    table = KernelTable("", "", "", "", "", columns, frame[column].to_numpy(dtype=float) * 1e-3)
    found = fit(form, table)
    return {"hop_us": found["t0_us"], "e": found["e"], "median_pct": round(errors(form, table, found)[0], 1)}


# What inheriting costs -------------------------------------------------------------------------------------

DEPLOYMENTS = (
    ("Llama-3.1-8B", ("bf16", "bf16", "bf16"), (1, 1, 1, 1)),
    ("Llama-3.1-70B", ("bf16", "bf16", "bf16"), (8, 1, 1, 1)),
    ("Llama-3.1-70B", ("fp8", "fp8", "fp8"), (4, 1, 1, 1)),
    ("Qwen3-235B-A22B", ("bf16", "bf16", "bf16"), (8, 1, 8, 1)),
    ("Qwen3-235B-A22B", ("fp8", "fp8", "fp8"), (4, 1, 1, 1)),
    ("DeepSeek-V3", ("fp8", "fp8", "fp8"), (8, 1, 8, 1)),
    ("DeepSeek-V3", ("fp8", "fp8", "fp8"), (1, 1, 8, 8)),
    ("DeepSeek-V3", ("fp8", "fp8", "fp8"), (8, 1, 1, 1)),
    ("gpt-oss-120b", ("mxfp4", "bf16", "bf16"), (1, 1, 1, 1)),
    ("Qwen3-Next-80B-A3B", ("bf16", "bf16", "bf16"), (4, 1, 1, 1)),
)
BATCHES, CONTEXT, PROMPTS = np.array([1.0, 8.0, 64.0, 256.0]), 4096.0, np.array([512.0, 4096.0, 32768.0])


def inheritance_rows(date: str) -> Iterator[str]:
    """Steps and prefills of measured parts with another generation's constants against their own.

    Leave one generation out: what a part without kernels should expect from the donor's. Uses the constants
    file as it stands.
    """
    forget("constants")
    systems = constants().sections["systems"]
    # A name of an architecture that inherits from each generation.
    heirs = {generation: name for name, generation in systems["architecture"].items()}
    for own, donor in itertools.permutations(GENERATIONS, 2):
        steps, prefills = [], []
        for system in GENERATIONS[own]:
            part = accelerators()[PARTS[system]]
            heir = part.model_copy(update={"id": "heir", "architecture": heirs[donor]})
            table = _deployments([part, heir])
            own_half, heir_half = np.split(np.arange(len(table)), 2)
            known = precision_supported(table)[own_half]
            step = decode_step_seconds(table, BATCHES)
            step += BATCHES * decode_attention_seconds(table, CONTEXT)
            prefill = prefill_seconds(table, PROMPTS)
            for times, ratios in ((step, steps), (prefill, prefills)):
                ratios.append((times[heir_half] / times[own_half] - 1.0)[known].ravel())
        fields = [f'system = "{own}", dtype = "{donor}"']
        for name, ratios in (("step", steps), ("prefill", prefills)):
            error = 100.0 * np.abs(np.concatenate(ratios))
            fields.append(f"{name}_median_pct = {np.median(error):.1f}")
            fields.append(f"{name}_p90_pct = {np.percentile(error, 90):.0f}")
        yield "    { " + ", ".join(fields) + f', source = "LEFT-OUT", date = "{date}" }},'


def _deployments(parts: list[Accelerator]) -> ConfigurationTable:
    """Every deployment on every part, parts outermost."""
    cards = list(dict.fromkeys(name for name, _, _ in DEPLOYMENTS))
    rows = [
        (a, cards.index(name), *(PRECISIONS.index(p) for p in precisions), *shape)
        for a in range(len(parts))
        for name, precisions, shape in DEPLOYMENTS
    ]
    return ConfigurationTable(parts, [models()[name] for name in cards], *np.array(rows).T)


# Constants file --------------------------------------------------------------------------------------------

TITLES = {
    "gemm": """GEMM M,N,K: t0 + ((2(M+m0)(N+n0)(K+k1)/(F·e))^p + ((bytes + k0·K)/(BW·b))^p)^(1/p);
bytes of inputs, weights, outputs. dtype is the class that multiplies: fp8 with block scales, fp8_tensor
with one a tensor (t0 without the unfused quantisation that its tables hold); W8A16 and W4A16 run as
bf16 with fewer weight bytes, int8 as fp8.""",
    "prefill_attention": """Prefill attention of n tokens: t0 + pnorm(2[(H·n + w0)·(2·pairs/n)·(D+d0)
+ H·n·r0·1000]/(F16·e), bytes/(BW·b)); pairs = query-key pairs under the causal (and sliding) mask, w0 =
rows that fill the part, r0 = work of a row whatever its context. dtype is the KV cache's.""",
    "decode_attention": """Decode attention: t0 + pnorm(2(B·K+b0)(S+s0)·D·bytes/(BW·b),
4·B·K·S·D(G+g0)/(F16·f)); K KV heads and G query heads per KV head on the rank; dtype is that of the KV
cache.""",
    "mla_prefill": """MLA prefill: t0 + [(H·n + w0)·(2·pairs/n)·(d_nope+d_rope+d_v) +
H·n·r0·1000]/(F16·e).""",
    "mla_decode": """MLA decode: t0 + pnorm((B+b0)(S+s0)(d_c+d_rope)·bytes/(BW·b),
B·S·(2·d_c+d_rope)(H+h0)/(F16·f)).""",
    "moe": """Fused experts: t0 + pnorm(6(R·hot + A·m0)·h(i+i0)/(F·e), (3·A·h·i·weight bytes +
8·a·R·hot·h)/(BW·b)); A distinct experts and R token-expert pairs on the rank, hot = min(ep^s,
hot_rank_max). Rows of the skewed ("power law") token distribution. dtype: weights and activations;
w4a16 and w4a8 are 4-bit weights under 16- and 8-bit activations; nvfp4_wide is for experts behind an all-to-all.""",
    "all_reduce": """TP all-reduce of V bytes over n ranks: (t0^p + min((n-1)·V/(NV·e1), lat +
2(n-1)/n·V/(NV·e))^p)^(1/p): one shot while that is faster, then reduce-scatter and gather.""",
    "mla_absorb": """Both batched products that absorb MLA's up-projections in a decode step: 2·t0 +
bytes/(BW·b).""",
    "exchange_low_latency": """Expert all-to-all, dispatch and combine, a copy for each expert
(decode): 2·t0 + bytes/(link·e); beyond a node e_out and cross.""",
    "exchange_throughput": """The same with one copy for each rank and node that has one of the
token's experts (prefill).""",
    "recurrent_decode": """Gated delta rule, one step: t0 + (B+b0)·8 bytes·state elements/(BW·b).""",
    "recurrent_prefill": """The same over n tokens, chunked: t0 + (n + w0)·8·state elements/(F16·e).""",
    "sparse_index": """Sparse indexer: t0 + max(pairs·2·heads·dim/(F8·e), stored bytes/BW) + pairs·12
bytes/(BW·b).""",
}
"""What the constants file says above the rows of each operator."""


def constants_rows(fits: list[Fit], date: str) -> Iterator[str]:
    """The fitted arrays of the constants file."""
    for operator, title in TITLES.items():
        yield from (f"# {line.strip()}" for line in title.splitlines())
        yield f"{operator} = ["
        for found in fits:
            if found.operator == operator and (is_default(found) or is_engines_own(found)):
                yield "    { " + ", ".join(_fields(found, fits, date)) + " },"
        yield "]"
        yield ""


def _fields(found: Fit, fits: list[Fit], date: str) -> Iterator[str]:
    if is_engines_own(found):
        yield f'engine = "{ENGINES[found.backend]}"'
    yield f'system = "{found.generation}"'
    if found.operator == "all_reduce":
        yield f"ranks = {found.key}"
    elif found.key:
        yield f'dtype = "{found.key}"'
    constants = dict(found.constants)
    if (found.operator, found.key) == ("gemm", "fp8_tensor"):
        constants["t0_us"] = min(constants["t0_us"], FLOOR_LIMIT_US)
    if found.key == "node":
        # One node says nothing of the links between nodes.
        constants = {name: value for name, value in constants.items() if name not in ("e_out", "cross_us")}
    yield from (f"{name} = {value:g}" for name, value in constants.items())
    residuals = np.array([errors(FORMS[found.operator], table, found.constants) for table in found.tables])
    median, high, _ = np.median(residuals, axis=0)
    yield f"median_pct = {median:.1f}, p90_pct = {high:.0f}"
    yield f'source = "AIC-{found.backend}", date = "{date}"'


def sections(data: Path, date: str) -> Iterator[str]:
    """The fitted sections of scalars."""
    elementwise, hop = fit_elementwise(data), fit_hop(data)
    yield "[elementwise]"
    yield "# Norms, rotary embedding, activation, cache writes: floors and the bytes that they move. Launches"
    yield "# of a block are counted as engines fuse them (an assumption)."
    yield from (f"{name} = {value:g}" for name, value in elementwise.items())
    yield "launches_per_mixer = 3\nlaunches_per_mlp = 2\nlaunches_per_linear_mixer = 3"
    yield f'source = "VIDUR"\ndate = "{date}"\n'
    yield "[pipeline]"
    yield from (f"{name} = {value:g}" for name, value in hop.items())
    yield f'source = "VIDUR"\ndate = "{date}"'


def write_constants(fits: list[Fit], data: Path, date: str) -> None:
    """Replace the marked blocks of the constants file; all else stays as it is."""
    text = CONSTANTS.read_text(encoding="utf-8")
    text = _replaced(text, "ROWS", constants_rows(fits, date))
    text = _replaced(text, "SECTIONS", sections(data, date))
    CONSTANTS.write_text(text, encoding="utf-8")
    # Only now can steps be computed with the new constants.
    title = "# Error of decode steps and prefills of a generation with another's constants (dtype), per cent."
    inherited = [title, "inheritance = [", *inheritance_rows(date), "]"]
    CONSTANTS.write_text(_replaced(text, "INHERITANCE", iter(inherited)), encoding="utf-8")


def _replaced(text: str, name: str, lines: Iterator[str]) -> str:
    """The text with the lines between the marks of a block replaced."""
    begin, end = f"# BEGIN FITTED {name}\n", f"# END FITTED {name}\n"
    head, rest = text.split(begin)
    return head + begin + "\n".join(lines) + "\n" + end + rest.split(end)[1]


def main() -> None:
    """Fit, write both files, print the medians over tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, required=True, help="aiconfigurator_core/systems/data")
    parser.add_argument("--data", type=Path, default=Path("../shared"), help="folder that holds measured/")
    parser.add_argument("--date", default=datetime.date.today().strftime("%Y-%m"))
    arguments = parser.parse_args()
    start = time.perf_counter()
    fits = fit_all(arguments.tables)
    rows = list(residual_rows(fits))
    write_constants(fits, arguments.data, arguments.date)
    with RESIDUALS.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# aiconfigurator-core kernel tables (Apache-2.0); scripts/fit_kernels.py, {arguments.date}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    frame = pd.DataFrame(rows, columns=COLUMNS)
    grouped = frame.groupby(["operator", "use"])[["median_pct", "p90_pct", "signed_pct"]]
    print(grouped.median().round(1).assign(tables=grouped.size()).to_string())
    print(f"{len(fits)} fits in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
