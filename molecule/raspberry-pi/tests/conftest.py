"""What the tests of the machine share."""

import os
from pathlib import Path

import testinfra

FILES = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
ADDRESSES = {"desktop": "10.214.15.11", "pi": "10.214.15.13"}


def on(name):
    """Give a host by name."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(FILES / "ssh/config"), sudo=True)


def starts():
    """Give what the firmware told the kernel at each start of the machine."""
    return (FILES / "pi/starts").read_text().splitlines()
