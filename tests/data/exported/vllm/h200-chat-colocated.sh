#!/bin/sh
# 4 of these, each on 2 x h200-sxm: colocated
exec vllm serve meta-llama/Llama-3.1-70B \
  --served-model-name chat \
  --tensor-parallel-size 2 \
  --quantization fp8 \
  --kv-cache-dtype auto \
  --max-model-len 131072 \
  --max-num-seqs 1024 \
  --enable-chunked-prefill \
  --max-num-batched-tokens 3072 \
  --gpu-memory-utilization 0.9 \
  --enable-prefix-caching
