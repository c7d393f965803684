"""Ansible filters: a host's share of the certificates, as folders for the module node_files, and people's passwords."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.plugins.filter.core import get_encrypted_password

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

HERE = "/etc/tritoncluster"
#: Whose they are: programs in the containers read them, and nobody else does.
OWN = {"owner": "tritoncluster", "mode": "0700"}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"pki_htpasswd": htpasswd, "pki_trust": trust, "pki_share": share}


def htpasswd(names: Iterable[str], passwords: Iterable[str], salts: Iterable[str]) -> str:
    """Give the gateway's file of who has which password."""
    lines = [
        f"{name}:{get_encrypted_password(password, 'sha512', salt=salt, rounds=5000)}\n"
        for name, password, salt in zip(names, passwords, salts, strict=True)
    ]
    return "".join(lines)


def trust(
    services: Collection[str], registry: str, people: Iterable[str], authorities: str, refusals: str, passwords: str
) -> list[dict[str, Any]]:
    """Give what says whom a host trusts and refuses, and who has a password.

    Parameters
    ----------
    services
        What runs on the host.
    registry
        Address and port of the room's.
    people
        Who has a certificate of their own, for their notebook.
    authorities, refusals
        As PEM.
    passwords
        The gateway's file of them.
    """
    both = {"ca.crt": authorities, "ca.crl": refusals}
    found: list[dict[str, Any]] = [
        {"path": f"{HERE}/tls", **OWN, "files": both},
        {"path": f"/etc/docker/certs.d/{registry}", "files": {"ca.crt": authorities}},
    ]
    if "scheduler" in services:
        of_gateway = {"files": {**both, "htpasswd": passwords}, "modes": {"htpasswd": "0600"}}
        found += [{"path": f"{HERE}/client", **OWN, "files": both}, {"path": f"{HERE}/gateway", **OWN, **of_gateway}]
    if "notebook" in services:
        found += [{"path": f"{HERE}/people/{person}", **OWN, "files": both} for person in people]
    return found


def share(trusting: Iterable[dict[str, Any]], folder: str, host: str) -> list[dict[str, Any]]:
    """Give what `trust` gives, and in it the certificates and keys that belong there.

    Parameters
    ----------
    trusting
        What `trust` gives.
    folder
        Of the certificates on the controller.
    host
        The host's name.
    """
    found: list[dict[str, Any]] = []
    for one in trusting:
        parent, _, name = one["path"].rpartition("/")
        if parent == f"{HERE}/people":
            if not any(each["path"] == parent for each in found):
                found.append({"path": parent, "mode": "0700"})
            own = _pair(folder, f"clients/{name}", "tls.crt", "tls.key") | _of_gateway(folder)
        elif name == "client":
            own = _pair(folder, "client", "tls.crt", "tls.key") | _of_gateway(folder)
        elif name == "gateway":
            own = _pair(folder, "gateway", "gateway.crt", "gateway.key")
        elif name == "tls":
            own = _pair(folder, f"hosts/{host}", "tls.crt", "tls.key")
        else:
            # The engine shows the host's to the registry, and has names of its own for it.
            own = _pair(folder, f"hosts/{host}", "client.cert", "client.key")
        modes = {name: "0600" for name in own if name.endswith(".key")}
        found.append({**one, "files": {**one["files"], **own}, "modes": {**one.get("modes", {}), **modes}})
    return found


def _pair(folder: str, of: str, certificate: str, key: str) -> dict[str, str]:
    return {certificate: _read(folder, of, "tls.crt"), key: _read(folder, of, "tls.key")}


def _of_gateway(folder: str) -> dict[str, str]:
    # By which programs know it.
    return {"gateway.crt": _read(folder, "dashboard", "ca.crt")}


def _read(*path: str) -> str:
    return Path(*path).read_text(encoding="utf-8").rstrip() + "\n"
