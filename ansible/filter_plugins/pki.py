"""Ansible filters: which certificates on the controller have to be made, made anew, or taken back."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import idna
from cryptography import x509
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

#: Who is not named; also what the cluster's own programs are to it.
NOBODY = "client"
NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {
            "pki_certificates": certificates,
            "pki_is_due": is_due,
            "pki_is_refused": is_refused,
            "pki_unrefused": unrefused,
            "pki_known": known,
            "pki_people_problems": people_problems,
            "pki_constraints": constraints,
            "pki_signs_for": signs_for,
            "pki_common_name": common_name,
            "pki_days_left": days_left,
            "pki_names": alternative_names,
        }


def alternative_names(names: list[str]) -> list[str]:
    """Give names and addresses as certificates have them, as in `DNS:desktop` or `IP:192.168.1.5`."""
    return [_alternative_name(name) for name in names]


def _alternative_name(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{'.'.join(_ascii(label) for label in name.split('.'))}"


def _ascii(label: str) -> str:
    # What letters beyond ASCII are in DNS: as browsers have it, or as Python has it, which lets underscores be.
    if label.isascii():
        return label
    try:
        return idna.encode(label, uts46=True).decode()
    except idna.IDNAError:
        return label.encode("idna").decode()


def certificates(
    services: Collection[str], host: str, address: str, people: Iterable[str], dashboard: list[str]
) -> list[dict[str, Any]]:
    """List what is signed for a host: folder below the certificates', authority, uses, alternative names.

    Parameters
    ----------
    services
        What runs there.
    host, address
        Its name and its address.
    people
        Who has a certificate of their own: their notebook is a client as their own programs are.
    dashboard
        Names and addresses at which browsers find the dashboard.
    """

    def signed(folder: str, usage: list[str], names: list[str], authority: str = "cluster") -> dict[str, Any]:
        return {"folder": folder, "authority": authority, "usage": usage, "names": alternative_names(names)}

    found = [signed(f"hosts/{host}", ["serverAuth", "clientAuth"], [host, address])]
    if "scheduler" in services:
        # A client can't pass itself off as a scheduler. Who was the scheduler's host, and is no longer there, has it
        # too.
        found.append(signed("client", ["clientAuth"], [NOBODY, host]))
        found.append(signed("gateway", ["serverAuth"], dashboard, authority="dashboard"))
    if "notebook" in services:
        found += [signed(f"clients/{person}", ["clientAuth"], [person]) for person in people]
    return found


def days_left(certificate: str) -> int:
    """Give the whole days until a certificate ends; many, when there is none yet."""
    if not Path(certificate).exists():
        return 10**6
    return (_read(Path(certificate)).not_valid_after_utc - datetime.now(UTC)).days


def is_due(folder: str, authority: str, names: list[str], days: int) -> bool:
    """Tell whether the certificate in `folder` is missing, refused, of another authority or names, or about to end.

    Parameters
    ----------
    folder
        Has `tls.crt` and `tls.key`.
    authority
        File of the certificate that signs it; the same as the certificate for one that signs itself.
    names
        Alternative names, as in `DNS:desktop` or `IP:192.168.1.5`.
    days
        It has to last for so many more.
    """
    certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
    if not (certificate.exists() and key.exists() and Path(authority).exists()):
        return True
    found = _read(certificate)
    if found.not_valid_after_utc < datetime.now(UTC) + timedelta(days=days) or _names(found) != set(names):
        return True
    return _is_refused(found, _refusals(authority)) or not _is_of(found, _read(Path(authority)))


def is_refused(folder: str, authority: str) -> bool:
    """Tell whether the certificate in `folder` is there, and its authority has taken it back."""
    certificate = Path(folder, "tls.crt")
    return certificate.exists() and _is_refused(_read(certificate), _refusals(authority))


def unrefused(folder: str, departed: list[str], people: list[str] | None = None) -> list[str]:
    """List the files of certificates that departed hosts and people have, and that are not refused yet.

    Also those that were renewed since, and clients', where one of these hosts was the scheduler's. None, where there is
    no authority yet.
    """
    authority = Path(folder, "cluster/ca.crt")
    of_people = [file for name in people or [] for file in Path(folder, "clients", name).glob("tls.crt*")]
    files = [file for name in departed for file in Path(folder, "hosts", name).glob("tls.crt*")]
    files += [file for file in Path(folder, "client").glob("tls.crt*") if _names(_read(file)) & _of_dns(departed)]
    return sorted(
        str(file)
        for file in files + of_people
        if authority.exists()
        and not _is_refused(_read(file), _refusals(str(authority)))
        and _is_of(_read(file), _read(authority))
    )


def known(folder: str) -> list[str]:
    """List who has a password of their own."""
    return sorted(file.parent.name for file in Path(folder).glob("clients/*/password"))


def people_problems(people: Any, hosts: list[str]) -> list[str]:
    """Give a line for each thing that is wrong with the list of people, whose names no host may have."""
    if not isinstance(people, (list, tuple)):
        return ["inventory: cluster_people is no list: write one, as cluster_people: [teacher, group-1]"]
    found = []
    for name in dict.fromkeys(map(str, people)):
        if not NAME.fullmatch(name):
            found.append(f"{name} is no name: write small letters, digits and -, with a letter first, 31 at most")
        elif name == NOBODY:
            found.append(f"{name} is there without being named: leave it out")
        elif name in hosts:
            found.append(f"{name} is the name of a host: give one of them another")
        elif list(people).count(name) > 1:
            found.append(f"{name} is there twice: leave one out")
    return [f"inventory: cluster_people: {line}" for line in found]


def constraints(names: list[str]) -> list[str]:
    """Give alternative names as an authority is limited to them (RFC 5280, section 4.2.1.10)."""
    return [f"{name}/{128 if ':' in name[3:] else 32}" if name.startswith("IP:") else name for name in names]


def signs_for(authority: str, names: list[str]) -> bool:
    """Tell whether an authority is there, and is limited to no other names than these or more."""
    if not Path(authority).exists():
        return False
    try:
        limits = _read(Path(authority)).extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:  # from before there were limits
        return True
    permitted = {name.value for name in limits.permitted_subtrees or []}
    wanted = {name[4:] if name.startswith("DNS:") else ipaddress.ip_network(name[3:]) for name in constraints(names)}
    return wanted <= permitted


def common_name(file: str) -> str:
    """Give the name of an authority, by the file of its certificate."""
    return str(_read(Path(file)).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def _refusals(authority: str) -> Path:
    return Path(authority).with_name("ca.crl")


def _is_refused(certificate: x509.Certificate, refusals: Path) -> bool:
    if not refusals.exists():
        return False
    found = x509.load_pem_x509_crl(refusals.read_bytes())
    return found.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None


def _is_of(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is not
        return False
    return True


def _of_dns(names: list[str]) -> set[str]:
    return set(alternative_names(names))


def _read(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    numbers = found.get_values_for_type(x509.IPAddress)
    return {f"DNS:{name}" for name in found.get_values_for_type(x509.DNSName)} | {f"IP:{each}" for each in numbers}
