#!/bin/sh
# 4 of these, each on 8 x h200-sxm: decode
exec vllm serve deepseek-ai/DeepSeek-V3.2 \
  --served-model-name coder \
  --tensor-parallel-size 2 \
  --data-parallel-size 4 \
  --enable-expert-parallel \
  --kv-cache-dtype fp8 \
  --max-model-len 128000 \
  --max-num-seqs 1024 \
  --max-num-batched-tokens 2048 \
  --gpu-memory-utilization 0.9 \
  --enable-prefix-caching \
  --kv-transfer-config '{"kv_connector": "NixlConnector", "kv_role": "kv_both"}'
