#!/bin/sh
# 1 of these, each on 4 x tpu-v7x: colocated
exec vllm serve meta-llama/Llama-3.1-70B \
  --served-model-name chat \
  --tensor-parallel-size 4 \
  --quantization fp8 \
  --kv-cache-dtype auto \
  --max-model-len 131072 \
  --max-num-seqs 1024 \
  --enable-chunked-prefill \
  --max-num-batched-tokens 2048 \
  --gpu-memory-utilization 0.9 \
  --enable-prefix-caching
