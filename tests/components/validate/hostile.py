"""A child that looks for what it must not find: a network, and secrets in its own and its parent's environment."""

import os
import socket
from pathlib import Path


def handle(data, progress) -> object:
    progress("looking around")
    return {
        "connected": connects(int(data["port"])),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "environment": sorted(os.environ),
        "own": Path("/proc/self/environ").read_text(),
        "parent": parents(),
        "uids": Path("/proc/self/uid_map").read_text(),
        "home": list(map(str, Path.home().iterdir())),
    }


def connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def parents() -> str:
    try:
        return Path(f"/proc/{os.getppid()}/environ").read_text()
    except OSError:
        return ""
