"""An authority of the cluster's own, and what it signs: made by the openssl command, kept in volumes.

authority/  its key, and what people have (people.py): in no other container
node/       for scheduler and workers: both ends of a connection
client/     for clients: a client can't pass itself off as a scheduler. The gateway's certificate is beside it
gateway/    for browsers. Signed by itself: the authority's word is for the cluster alone
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

SECRETS = Path("/secrets")
#: The user of the images.
NODE_USER = (1000, 1000)
AUTHORITY_DAYS = 3650
DAY = 24 * 3600
REFUSALS = "ca.crl"
#: What openssl wants to know to make that list.
LIST = """[ca]
default_ca = own
[own]
database = {folder}/index.txt
certificate = {folder}/ca.crt
private_key = {folder}/ca.key
default_md = sha256
default_crl_days = {days}
unique_subject = no
"""


def make(*, days: int, names: Iterable[str], user: tuple[int, int]) -> bool:
    """Make what is missing, and what has less than a third of its time left; say whether anything was renewed."""
    authority = SECRETS / "authority"
    authority.chmod(0o700)
    found = [
        _unless_good(authority / "ca.crt", authority / "ca.crt", days, lambda: _make_authority(authority)),
        _make_pair(SECRETS / "node", "serverAuth,clientAuth", days, NODE_USER),
        _make_pair(SECRETS / "client", "clientAuth", days, user),
        _make_gateway(SECRETS / "gateway", days, names),
    ]
    # The gateway knows clients by the authority, they know it by its certificate.
    copy(authority / "ca.crt", SECRETS / "gateway/ca.crt")
    copy(SECRETS / "gateway/gateway.crt", SECRETS / "client/gateway.crt")
    # One of an earlier authority refuses nobody whom this one knows.
    refuse([], anew=found[0] or not (authority / REFUSALS).exists())
    return any(found)


def for_client(name: str, days: int) -> dict[str, bytes]:
    """Make a pair for a client outside of the containers; file -> content."""
    with tempfile.TemporaryDirectory() as folder:
        _sign(Path(folder), name, "clientAuth", days)
        files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
    files["ca.crt"] = (SECRETS / "authority/ca.crt").read_bytes()
    files["gateway.crt"] = (SECRETS / "gateway/gateway.crt").read_bytes()
    return files


def refuse(certificates: Iterable[Path], *, anew: bool = False) -> None:
    """Take certificates back: put them on the list of those that are refused, and give it to whoever lets people in."""
    authority = SECRETS / "authority"
    index, refusals = authority / "index.txt", authority / REFUSALS
    index.touch(mode=0o600)
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as config:
        config.write(LIST.format(folder=authority, days=AUTHORITY_DAYS))
        config.flush()
        for certificate in certificates:
            serial = openssl("x509", "-in", certificate, "-noout", "-serial").strip().partition("=")[2]
            # Already there, if a run before was interrupted.
            if serial not in index.read_text():
                openssl("ca", "-config", config.name, "-revoke", certificate)
                anew = True
        if anew:
            new = refusals.with_name(f"{REFUSALS}.new")
            openssl("ca", "-config", config.name, "-gencrl", "-out", new)
            new.replace(refusals)
    for folder in ("node", "client", "gateway"):
        copy(refusals, SECRETS / folder / REFUSALS)


def _unless_good(certificate: Path, authority: Path, days: int, renew: Callable[[], None]) -> bool:
    """Call `renew` unless a certificate is there, is signed by `authority` and lasts; say whether it replaced one."""
    there = certificate.exists()
    lasting = ["x509", "-in", certificate, "-noout", "-checkend", str(days * DAY // 3)]
    signed = ["verify", "-CAfile", authority, certificate]
    if not there or not _true(*lasting) or not _true(*signed):
        renew()
        return there
    return False


def _make_authority(folder: Path) -> None:
    usage = ["basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,keyCertSign,cRLSign"]
    _request(folder / "ca.key", folder / "ca.crt", "tritoncluster authority", AUTHORITY_DAYS, usage)


def _make_pair(folder: Path, usage: str, days: int, user: tuple[int, int]) -> bool:
    authority = SECRETS / "authority/ca.crt"
    renewed = _unless_good(folder / "tls.crt", authority, days, lambda: _sign(folder, folder.name, usage, days))
    copy(authority, folder / "ca.crt")
    _give(folder, user, "tls.key")
    return renewed


def _sign(folder: Path, name: str, usage: str, days: int) -> None:
    extensions = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"]
    extensions += [f"extendedKeyUsage={usage}", f"subjectAltName=DNS:{name}"]
    signer = ["-CA", SECRETS / "authority/ca.crt", "-CAkey", SECRETS / "authority/ca.key"]
    _request(folder / "tls.key", folder / "tls.crt", f"tritoncluster {name}", days, extensions, signer)


def _make_gateway(folder: Path, days: int, names: Iterable[str]) -> bool:
    hosts = [name for name in names if name]
    numbers = [name for name in hosts if ":" in name or name.replace(".", "").isdecimal()]
    other = ["DNS:localhost", "IP:127.0.0.1", "IP:::1", *(f"DNS:{name}" for name in hosts if name not in numbers)]
    names_there = ",".join(other + [f"IP:{name}" for name in numbers])
    extensions = ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature"]
    extensions += ["extendedKeyUsage=serverAuth", f"subjectAltName={names_there}"]
    certificate, written = folder / "gateway.crt", folder / "names"

    def renew() -> None:
        _request(folder / "gateway.key", certificate, "tritoncluster dashboard", days, extensions)
        written.write_text(names_there)

    if not written.exists() or written.read_text() != names_there:
        certificate.unlink(missing_ok=True)
    renewed = _unless_good(certificate, certificate, days, renew)
    _give(folder, NODE_USER, "gateway.key")
    return renewed


def give_folder(folder: Path) -> None:
    """Let the user of the images write into a folder, and nobody else look into it; once, for then it is his."""
    if folder.stat().st_uid == 0:
        folder.chmod(0o700)
        os.chown(folder, *NODE_USER)


def copy(source: Path, target: Path) -> None:
    """Have the same file there; who follows it sees no change where there is none."""
    if target.exists() and target.read_bytes() == source.read_bytes():
        return
    new = target.with_name(f"{target.name}.new")
    shutil.copyfile(source, new)
    new.replace(target)


def _give(folder: Path, user: tuple[int, int], key: str) -> None:
    folder.chmod(0o755)
    os.chown(folder / key, *user)


def _request(
    key: Path, certificate: Path, name: str, days: int, extensions: Iterable[str], signer: Iterable[object] = ()
) -> None:
    """Write a new key and its certificate, both whole or not at all."""
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as config:
        config.write("[req]\ndistinguished_name = name\n[name]\n")
        config.flush()
        new_key, new_certificate = (path.with_name(f"{path.name}.new") for path in (key, certificate))
        for path in (new_key, new_certificate):
            path.unlink(missing_ok=True)
        added = [word for extension in extensions for word in ("-addext", extension)]
        openssl(
            "req", "-x509", "-config", config.name, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc",
            "-subj", f"/CN={name}", "-days", days, *added, *signer, "-keyout", new_key, "-out", new_certificate,
        )  # fmt: skip
    new_key.chmod(0o600)
    new_certificate.chmod(0o644)
    new_key.replace(key)
    new_certificate.replace(certificate)


def write(path: Path, content: str, user: tuple[int, int] | None = None) -> None:
    """Write a file that is one user's alone, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    new.write_text(content)
    if user:
        os.chown(new, *user)
    new.replace(path)


def _true(*arguments: object) -> bool:
    return subprocess.run(["/usr/bin/openssl", *map(str, arguments)], capture_output=True, check=False).returncode == 0


def openssl(*arguments: object, text: str | None = None) -> str:
    """Run the command, and give what it prints."""
    command = ["/usr/bin/openssl", *map(str, arguments)]
    return subprocess.run(command, input=text, capture_output=True, check=True, text=True).stdout
