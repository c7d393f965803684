"""Ansible filters: authorities that are trusted, of which there are two while one takes over from the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cryptography import x509

BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"pki_trusted": trusted, "pki_joined": joined}


def trusted(own: str, others: list[str]) -> str:
    """Give the authorities, or their lists of who is refused, and those that others have which are not among them.

    A newer list of an authority takes the place of an older one.
    """
    found = {_origin(block): block for text in [*others, own] for block in blocks(text)}
    first = [_origin(block) for block in blocks(own)]
    return "".join(f"{found[key]}\n" for key in [*first, *(key for key in found if key not in first)])


def joined(files: list[str]) -> str:
    """Give certificates of several files as one text."""
    return "".join(f"{block}\n" for file in files for block in blocks(Path(file).read_text(encoding="utf-8")))


def blocks(text: str) -> list[str]:
    """Cut text into blocks of PEM."""
    return [block.group() for block in BLOCK.finditer(text)]


def _origin(block: str) -> tuple[str, str]:
    # A list stands for the authority that made it, an authority for its key.
    if "X509 CRL" in block:
        return "list", x509.load_pem_x509_crl(block.encode()).issuer.rfc4514_string()
    return "authority", block
