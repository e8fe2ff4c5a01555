"""A terminal of the tests, in which `twofold dev` runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.control import GIVE_UP
from tests.shells import hostile_environment, unreadable_home
from tests.test_embedded import family, wait_until_gone

SECRET = "a secret that nobody may see, ever"
NOWHERE = f"postgresql://ada:{SECRET.split()[-1]}@127.0.0.1:1/tasks"


class Terminal:
    """`twofold dev`, started in a folder and read until it says how to stop it.

    The variables of its shell are about another database.
    """

    def __init__(self, folder: Path, *command: str) -> None:
        command = command or (sys.executable, "-m", "api.cli", "dev")
        kept = ("PATH", "PYTHONPATH")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= hostile_environment(unreadable_home(folder))
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment | {"PORT": "0"}, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        lines = iter(self.process.stdout.readline, "")
        output = []
        for line in lines:
            output.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        self.commands = [line for line in output if line.startswith("curl")]
        self.processes = family(self.process.pid)

    def paste(self, command: str) -> Any:
        done = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
        return json.loads(done.stdout)

    def end(self, number: int, *, times: int = 1) -> int:
        for _ in range(times):
            self.process.send_signal(number)
        self.process.communicate(timeout=GIVE_UP)
        wait_until_gone(self.processes)
        return self.process.returncode
