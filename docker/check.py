"""What the checks share: commands, verdicts and waiting."""

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx


def run(*command: str, **environment: str) -> str:
    """What a command printed; a failure ends the check and shows the end of its output."""
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    if ended.returncode:
        sys.exit(f"{' '.join(command[:6])} ... failed:\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}")
    return ended.stdout.strip()


def need(package: str, *tools: str) -> None:
    """Installs a Debian package where one of its tools is missing."""
    if all(map(shutil.which, tools)):
        return
    if os.geteuid():
        sys.exit(f"as root: apt-get install {package}")
    print(f"installing {package}", flush=True)
    run("apt-get", "update")
    run("apt-get", "install", "--yes", "--no-install-recommends", package, DEBIAN_FRONTEND="noninteractive")


def check(holds: bool, what: str) -> None:
    """Prints a verdict; the first that fails ends the check."""
    print(("ok    " if holds else "FAILS ") + what, flush=True)
    if not holds:
        sys.exit(1)


def wait_until_ready(url: str, child: "subprocess.Popen[bytes]", log: Path) -> None:
    """Waits for /readyz of a service that has been started; ends the check when it never comes."""
    started = time.monotonic()
    while time.monotonic() < started + 300 and child.poll() is None:
        try:
            if httpx.get(url + "/readyz").status_code == 200:
                check(True, f"ready {time.monotonic() - started:.0f} s after its start")
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    sys.exit(f"the service did not become ready:\n{log.read_text()[-4000:]}")


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
