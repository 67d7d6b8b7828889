"""The small shell script that horovodrun calls: this command, by absolute paths, whatever the caller's environment.

This module knows quoting and files, not what the options mean.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ft_horovod.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]  # where `launch` is imported from
MARK = "# Written by ft-horovod hosts --script: horovodrun --host-discovery-script calls it once a second."


def script_text(arguments: Sequence[str], python: str, root: Path) -> str:
    """The script that runs `ft-horovod hosts ARGUMENTS` with this Python and these sources."""
    # -I: neither PYTHONPATH nor the folder we are called in can put another module in our place.
    program = (
        f"import sys; root = {str(root)!r}; root in sys.path or sys.path.insert(0, root); "
        "from launch.discover import main; main()"
    )
    command = shlex.join([python, "-I", "-c", program, *arguments])
    return f"#!/bin/sh\n{MARK}\nexec {command}\n"


def write_script(path: Path, arguments: Sequence[str]) -> None:
    """Write the script, executable, at once as a whole; one of ours is replaced. Raises ConfigError."""
    try:
        if path.exists() and MARK not in path.read_text(errors="replace"):
            raise ConfigError("is there already, and was not written by this command", source=str(path))
        new = path.with_name(f".{path.name}.new")
        new.write_text(script_text(arguments, sys.executable, ROOT))
        new.chmod(0o755)
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", source=str(path)) from error
