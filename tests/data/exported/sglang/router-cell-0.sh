#!/bin/sh
# The router of cell 0
exec python3 -m sglang_router.launch_router \
  --policy cache_aware \
  --pd-disaggregation \
  --prefill http://h200-coder-prefill:8000 \
  --decode http://h200-coder-decode:8000
