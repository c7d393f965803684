"""Ansible filter: whether a certificate on the controller has to be made, or made anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"pki_is_due": is_due, "pki_days_left": days_left}


def days_left(certificate: str) -> int:
    """Give the whole days until a certificate ends; many, when there is none yet."""
    if not Path(certificate).exists():
        return 10**6
    end = x509.load_pem_x509_certificate(Path(certificate).read_bytes()).not_valid_after_utc
    return (end - datetime.now(UTC)).days


def is_due(folder: str, authority: str, names: list[str], days: int) -> bool:
    """Tell whether the certificate in `folder` is missing, another authority's, for other names, or about to end.

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
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    signer = x509.load_pem_x509_certificate(Path(authority).read_bytes())
    if found.not_valid_after_utc < datetime.now(UTC) + timedelta(days=days) or _names(found) != set(names):
        return True
    try:
        found.verify_directly_issued_by(signer)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, another one is made
        return True
    return False


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    numbers = found.get_values_for_type(x509.IPAddress)
    return {f"DNS:{name}" for name in found.get_values_for_type(x509.DNSName)} | {f"IP:{each}" for each in numbers}
