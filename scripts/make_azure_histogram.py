"""Make the histogram of problems/azure-chat.yaml from the raw trace, which stays outside the repository.

    python scripts/make_azure_histogram.py TRACE.csv[.gz] [-o problems/data/azure2023-conv.csv]

TRACE is AzureLLMInferenceTrace_conv.csv of the Azure public dataset (columns TIMESTAMP, ContextTokens,
GeneratedTokens). The histogram keeps the exact means of each cell and the trace's rate.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from codesign.problem.trace import read_trace, write_histogram

COMMENTS = (
    "Prompt and answer lengths of a chat service: joint histogram, exact means per cell",
    "source: Azure LLM inference trace 2023 (conversation), https://github.com/Azure/AzurePublicDataset",
    "licence: CC-BY-4.0 (Microsoft; Patel et al., Splitwise, ISCA 2024); changed: binned, times dropped",
    "date: 2023-11-16",
    "made by: scripts/make_azure_histogram.py",
)


def main() -> None:
    """Read the trace, write its histogram."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trace", type=Path)
    default = Path(__file__).parents[1] / "problems" / "data" / "azure2023-conv.csv"
    parser.add_argument("-o", "--output", type=Path, default=default)
    arguments = parser.parse_args()
    histogram = read_trace(arguments.trace)
    write_histogram(histogram, arguments.output, COMMENTS)
    print(f"{arguments.output}: {histogram.lengths.weight.size} cells, {histogram.rate_per_s:.3f} requests/s")


if __name__ == "__main__":
    main()
