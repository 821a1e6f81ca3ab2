#!/bin/sh
# 4 of these, each on 2 x h200-sxm: colocated
exec python3 -m sglang.launch_server \
  --model-path meta-llama/Llama-3.1-70B \
  --served-model-name chat \
  --tp-size 2 \
  --quantization fp8 \
  --kv-cache-dtype auto \
  --context-length 131072 \
  --max-running-requests 1024 \
  --chunked-prefill-size 2048 \
  --mem-fraction-static 0.8607 \
  --host 0.0.0.0 \
  --port 8000
