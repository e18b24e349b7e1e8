"""Where it was measured, and what."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate


def best_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def report(
    title: str,
    table: Sequence[Mapping[str, str]],
    results: Sequence[Mapping[str, Any]],
    device: torch.device,
    file: Path | None,
) -> None:
    """Print a table, a line for each mapping; write all results to file as JSON.

    Args:
        results: the figures behind the table, times in seconds.
        device: where they were measured.
    """
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{title}; {where}, torch {torch.__version__}")
    print(tabulate(table, headers="keys", tablefmt="pipe", disable_numparse=True))
    if file:
        file.write_text(json.dumps({"device": where, "torch": torch.__version__, "results": results}, indent=2) + "\n")
