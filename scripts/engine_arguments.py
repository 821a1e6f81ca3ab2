"""Ask an installed engine's own parser for its arguments, and check exported commands against it.

    python scripts/engine_arguments.py vllm tests/data/vllm-arguments.json [EXPORT_DIR ...]

Run it in an environment where the engine is installed (vllm or sglang; no accelerator is needed). With folders that
`codesign export` wrote, each *.sh in them is parsed as the engine would, and a flag that it refuses ends the script.
"""

from __future__ import annotations

import argparse
import json
import shlex
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    """Write the list; parse the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("vllm", "sglang"))
    parser.add_argument("output", help="JSON file to write")
    parser.add_argument("exports", nargs="*", help="folders that codesign export wrote")
    given = parser.parse_args()
    own = _vllm() if given.engine == "vllm" else _sglang()
    arguments = [
        {
            "flags": action.option_strings,
            "takes": "nothing" if action.nargs == 0 else "values" if action.nargs in ("+", "*") else "value",
            "choices": [str(choice) for choice in action.choices] if action.choices else None,
        }
        for action in own._actions
        if action.option_strings and action.dest != "help"
    ]
    made = {"engine": given.engine, "version": version(given.engine), "arguments": arguments}
    Path(given.output).write_text(json.dumps(made) + "\n", encoding="utf-8")
    print(f"{given.engine} {made['version']}: {len(arguments)} arguments")
    for script in (path for folder in given.exports for path in sorted(Path(folder).glob("*.sh"))):
        words = shlex.split(script.read_text(encoding="utf-8").replace("\\\n", " "), comments=True)
        if "launch_router" not in " ".join(words):
            own.parse_args(words[4:])  # after exec vllm serve MODEL, exec python3 -m sglang.launch_server
            print(f"{script}: accepted")


def _vllm() -> argparse.ArgumentParser:
    import vllm.platforms
    from vllm.platforms.cpu import CpuPlatform

    vllm.platforms._current_platform = CpuPlatform()  # no accelerator here, and none is asked for
    from vllm.entrypoints.common.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    own: argparse.ArgumentParser = make_arg_parser(FlexibleArgumentParser())
    return own


def _sglang() -> argparse.ArgumentParser:
    from sglang.srt.server_args import ServerArgs

    own = argparse.ArgumentParser()
    ServerArgs.add_cli_args(own)
    return own


if __name__ == "__main__":
    main()
