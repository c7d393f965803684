"""An authority for tests: it signs certificates, and lists those that it takes back."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID, ObjectIdentifier

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
HOUR, YEAR = dt.timedelta(hours=1), dt.timedelta(days=365)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


class Authority:
    """Signs, and takes back."""

    def __init__(self, name: str = "authority") -> None:
        self.name, self.key = name, ec.generate_private_key(ec.SECP256R1())
        self.certificate = self.pem(self._certificate(name, self.key, is_authority=True))

    def _certificate(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        is_authority: bool,
        usages: Sequence[ObjectIdentifier] = (),
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self.name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - HOUR)
            .not_valid_after(NOW + YEAR)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return builder.sign(self.key, hashes.SHA256())

    @staticmethod
    def pem(what: x509.Certificate | x509.CertificateRevocationList) -> str:
        return what.public_bytes(serialization.Encoding.PEM).decode()

    def give(self, folder: Path, name: str, *usages: ObjectIdentifier) -> int:
        """Put a certificate with its key, for these uses or for all, into a folder, and give its number."""
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._certificate(name, key, is_authority=False, usages=usages)
        (folder / "tls.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (folder / "tls.crt").write_text(self.pem(certificate))
        return certificate.serial_number

    def refusing(self, *numbers: int) -> str:
        """Give the list of those that are taken back."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(_name(self.name))
        builder = builder.last_update(NOW - HOUR).next_update(NOW + YEAR)
        for number in numbers:
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(NOW - HOUR).build()
            builder = builder.add_revoked_certificate(entry)
        return self.pem(builder.sign(self.key, hashes.SHA256()))
