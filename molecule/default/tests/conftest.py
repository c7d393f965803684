"""What the tests of the hosts share."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import testinfra

HOSTS = ("desktop", "laptop", "pi")
#: The laptop has two processes.
WORKERS = ("desktop", "laptop-1", "laptop-2", "pi")
ADDRESSES = {"desktop": "10.214.13.11", "laptop": "10.214.13.12", "pi": "10.214.13.13"}
FILES = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PKI = FILES / "pki"
PROJECT = Path(__file__).resolve().parents[3]
LAYOUTS = PROJECT / ".cache/images"


def on(name):
    """Give a host by name."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(FILES / "ssh/config"), sudo=True)


def containers(host):
    """Describe the containers of a host; name -> what Docker tells of it."""
    names = host.check_output("docker ps --all --format '{{.Names}}'").split()
    found = json.loads(host.check_output("docker inspect " + " ".join(names)))
    return {each["Name"].removeprefix("/tritoncluster-"): each for each in found}


def index(image):
    """Give the digest of an image that was built, and platform -> digest of its manifest."""
    digest = json.loads((LAYOUTS / image / "index.json").read_text())["manifests"][0]["digest"]
    content = json.loads((LAYOUTS / image / "blobs" / digest.replace(":", "/")).read_text())
    return digest, {each["platform"]["architecture"]: each["digest"] for each in content["manifests"]}


def log(host, container):
    """Give what a container printed last."""
    return host.run(f"docker logs --tail 40 tritoncluster-{container} 2>&1").stdout


def alone(job, *options):
    """Give the content of result.json of a job on this machine, without the cluster."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tritoncluster", "run", job, *options, "--json", "--output", folder + "/alone"]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
