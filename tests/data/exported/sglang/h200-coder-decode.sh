#!/bin/sh
# 4 of these, each on 8 x h200-sxm: decode
exec python3 -m sglang.launch_server \
  --model-path deepseek-ai/DeepSeek-V3.2 \
  --served-model-name coder \
  --tp-size 8 \
  --attn-dp-size 4 \
  --ep-size 8 \
  --kv-cache-dtype fp8_e4m3 \
  --context-length 128000 \
  --max-running-requests 4096 \
  --mem-fraction-static 0.8617 \
  --disaggregation-mode decode \
  --disaggregation-transfer-backend nixl \
  --host 0.0.0.0 \
  --port 8000
