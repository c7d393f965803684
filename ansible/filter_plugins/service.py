"""Ansible filters: what the containers of a service are made from, and what there is to do for it."""

from __future__ import annotations

from hashlib import sha1
from typing import TYPE_CHECKING, Any

from ansible.plugins.filter.core import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"service_definitions": definitions, "service_to_do": to_do}


def definitions(
    instances: Mapping[str, Mapping[str, Any]], files: Mapping[str, str], user: str, certificate: str
) -> dict[str, str]:
    """Give container -> what stands for all that it is made from; another one is made when that changes.

    Parameters
    ----------
    instances
        Container -> its own environment and volumes.
    files
        Those of the service, by name, but for the one that names the containers.
    user
        Whose the containers are, as numbers.
    certificate
        What changes when the certificate does, for a service that reads it but when it starts.
    """
    return {
        name: sha1(to_json([files, own, user, certificate], sort_keys=True).encode(), usedforsecurity=False).hexdigest()
        for name, own in instances.items()
    }


def to_do(
    containers: Mapping[str, Mapping[str, str]], service: str, definitions: Mapping[str, str], registry: str
) -> str:
    """Say what a service needs: nothing ("same"), to be started ("start"), or what runs to give way to it ("replace").

    Parameters
    ----------
    containers
        Those of the host as they were when the run began; name -> `state`, `image`, and `definition`, what it was made
        from.
    service
        Its name; containers have this name, or one that begins with it and `-`.
    definitions
        Name -> what that container is to be made from.
    registry
        Where the scheduler's host was found; what came from elsewhere knows another scheduler, or another address of
        it, and can't move what it has.
    """
    own = {name: one for name, one in containers.items() if name == service or name.startswith(f"{service}-")}
    running = [one for one in own.values() if one["state"] == "running"]
    if len(running) == len(own) and {name: one["definition"] for name, one in own.items()} == definitions:
        return "same"
    return "replace" if any(one["image"].startswith(f"{registry}:") for one in running) else "start"
