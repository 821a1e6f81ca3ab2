"""A small architecture problem and its workload, as files state them."""

WORKLOAD = """
kind: procurement
name: small
objective: cost_per_task
models: {llama: {card: Llama-3.1-8B, weights: [fp8]}}
tasks:
  - {name: chat, rate: 30/s, models: [llama], context: 1K, output: 200, slo: {ttft: {p95: 1 s}, tpot: {p95: 40 ms}}}
hardware:
  l40s: {accelerator: l40s, price: 1.2 $/h, server: {accelerators: 1}}
options: {disaggregation: never, max_replica_accelerators: 1}
"""
PROBLEM = """
kind: architecture
name: small
designs:
  chip:
    fp16: {continuous: [50 TFLOPS, 800 TFLOPS]}
    sram: {choice: [16 MB, 32 MB]}
    memory: [{kind: {choice: [gddr7, hbm3e]}, units: {integer: [2, 8]}}]
    scaleup: {bandwidth: 64 GB/s, domain: 1}
    server: 1
compete: [l40s]
market: {volume: 100000}
workloads: [{name: small, problem: small.yaml}]
search: {trials: 24, batch: 6, seed: 3}
"""
