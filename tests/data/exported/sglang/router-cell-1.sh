#!/bin/sh
# The router of cell 1
exec python3 -m sglang_router.launch_router \
  --policy cache_aware \
  --worker-urls http://h200-chat-colocated:8000
