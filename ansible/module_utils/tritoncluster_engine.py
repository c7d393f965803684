"""What a host's Docker Engine is, and what is there in its stead."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from ansible.module_utils.tritoncluster_host import output, text

SETTINGS = "/etc/docker/daemon.json"
ROOT = "/var/lib/docker"
#: Packages of Docker's own repository, and of Microsoft's, which the distribution's engine takes the place of.
RIVALS = ("containerd.io", "docker-ce", "docker-ce-cli", "docker-engine", "moby-cli", "moby-containerd", "moby-engine")


def engine() -> dict[str, object]:
    """Give what is known of the engine; "" for what is not there. Ours is the one that we installed."""
    versions = output("docker", "version", "--format", "{{.Server.Version}} {{.Server.APIVersion}}").split()
    told = described(output("docker", "info", "--format", "{{json .}}"))
    installed = bool(shutil.which("dockerd"))
    settings = settings_of(text(SETTINGS))
    return {
        "installed": installed,
        "ours": Path("/etc/tritoncluster/engine-is-ours").exists(),
        "version": versions[0] if versions else "",
        "api": versions[1] if versions else "",
        "compose": output("docker", "compose", "version", "--short").lstrip("v"),
        "starts": output("systemctl", "is-enabled", "docker.service") == "enabled",
        "settings": settings,
        "other": other_engine(),
        # Where the distribution's would be installed, what apt would remove for it.
        "removes": [] if installed else removed_for_it(),
        **told,
        "root": told["root"] or (settings or {}).get("data-root") or ROOT,
    }


def described(info: str) -> dict[str, object]:
    """Choose what matters of what `docker info` says as JSON; podman's, which has other names, says nothing."""
    told = json.loads(info or "{}")
    security = told.get("SecurityOptions") or []
    return {
        "maps_users": any(option.startswith("name=userns") for option in security),
        "rootless": any(option.startswith("name=rootless") for option in security),
        "root": told.get("DockerRootDir", ""),
        "proxy": told.get("HTTPSProxy") or told.get("HTTPProxy") or "",
        "no_proxy": told.get("NoProxy", ""),
    }


def settings_of(content: str) -> dict[str, object] | None:
    """Read the engine's settings; None when they are none that an engine could read."""
    try:
        found = json.loads(content or "{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def other_engine() -> str:
    """Name what takes the place of the system's engine: snap, podman, or rootless for one of a login's; or ""."""
    if Path("/snap/docker/current").exists():
        return "snap"
    if shutil.which("docker") and "podman" in output("docker", "--version"):
        return "podman"
    sockets = list(Path("/run/user").glob("*/docker.sock"))
    return "rootless" if sockets and not Path("/run/docker.sock").exists() else ""


def removed_for_it() -> list[str]:
    """List the packages that apt would remove, or an engine from elsewhere would lose, for the distribution's."""
    listed = output("dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\\n")
    there = {name for state, name in (line.split() for line in listed.splitlines()) if state == "installed"}
    return sorted(there.intersection(RIVALS).union(removals(output(*SIMULATION))))


#: Without lists of packages it fails, and says nothing: installing refuses to remove any.
SIMULATION = ("apt-get", "--simulate", "--no-install-recommends", "install", "docker.io")


def removals(simulated: str) -> list[str]:
    """Choose the packages that apt would remove of what it says it would do."""
    return re.findall(r"^(?:Remv|Purg) (\S+)", simulated, re.MULTILINE)


def images() -> dict[str, str]:
    """Give NAME@DIGEST -> ID of the images that came from a registry of ours."""
    there = output("docker", "image", "ls", "--all", "--quiet", "--no-trunc").split()
    words = "{{$image := .}}{{range .RepoDigests}}{{println . $image.Id}}{{end}}"
    found = output("docker", "image", "inspect", "--format", words, *there) if there else ""
    pairs = (line.split() for line in found.splitlines() if line)
    return {name: identity for name, identity in pairs if re.match(r"[^/]+:\d+/tritoncluster/", name)}


def containers() -> dict[str, dict[str, str]]:
    """Give name -> state, image and definition of our containers; the last says what they were made from."""
    words = '{{.Names}} {{.State}} {{.Image}} {{.Label "tritoncluster.definition"}}'
    listed = output("docker", "ps", "--all", "--no-trunc", "--filter", "name=^tritoncluster-", "--format", words)
    found = {}
    for line in listed.splitlines():
        name, state, image, *definition = line.split()
        found[name[len("tritoncluster-") :]] = {"state": state, "image": image, "definition": "".join(definition)}
    return found


def registries(folder: str = "/etc/docker/certs.d", authority: str = "/etc/tritoncluster/tls/ca.crt") -> list[str]:
    """List the registries of ours that the engine knows; those at earlier addresses too."""
    ours = text(authority)
    return sorted(path.name for path in Path(folder).glob("*") if ours and text(f"{path}/ca.crt") == ours)
