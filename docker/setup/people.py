"""Who uses the cluster: each has a password and certificates of their own, and loses both when no longer named.

Of each, authority/people/<name>/ has the password, its line for the gateway, and all certificates that were given.
"""

import re
import secrets
import shutil
from collections.abc import Iterator

import certificates
from certificates import NODE_USER, SECRETS, openssl, write

#: Who is not named; also what the cluster's own programs are to it.
NOBODY = "client"
FOLDER = SECRETS / "authority/people"
#: No word of this has look-alikes, and 20 of them are 98 bits.
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def wrong(named: str) -> Iterator[str]:
    """Give a line for each thing that is wrong with names, which have blanks between."""
    names = named.split()
    for name in dict.fromkeys(names):
        said = f"CLUSTER_PEOPLE={named} in .env:"
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", name):
            yield f"{said} {name} is no name: write small letters, digits and -, with a letter first, 31 at most"
        elif name == NOBODY:
            yield f"{said} {name} is there without being named: leave it out"
        elif names.count(name) > 1:
            yield f"{said} {name} is there twice: leave one out"


def agree(names: list[str]) -> tuple[list[str], list[str]]:
    """Let in who is named, and nobody else; give who is new and who is refused from now on."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    before, wanted = known(), [NOBODY, *names]
    gone = [name for name in before if name not in wanted]
    for name in wanted:
        _have_password(name)
    lines = "".join((FOLDER / name / "line").read_text() for name in wanted)
    write(SECRETS / "gateway/htpasswd", lines, NODE_USER)
    certificates.refuse(file for name in gone for file in (FOLDER / name).glob("*.crt"))
    for name in gone:
        shutil.rmtree(FOLDER / name)
    return [name for name in names if name not in before], gone


def known() -> list[str]:
    """List those who are let in, by name."""
    return sorted(folder.name for folder in FOLDER.glob("*"))


def password(name: str) -> str:
    """Give somebody's password."""
    return (FOLDER / name / "password").read_text().strip()


def bundle(name: str, days: int) -> dict[str, bytes]:
    """Make certificates for somebody, who goes on with those that were given before, too; file -> content."""
    files = certificates.for_client(name, days)
    number = len(list((FOLDER / name).glob("*.crt")))
    write(FOLDER / name / f"{number}.crt", files["tls.crt"].decode())
    return files


def _have_password(name: str) -> None:
    folder = FOLDER / name
    folder.mkdir(mode=0o700, exist_ok=True)
    own, line, earlier = folder / "password", folder / "line", SECRETS / "authority/password"
    if name == NOBODY and earlier.exists():  # from when there was but one
        earlier.replace(own)
    if not own.exists():
        write(own, "".join(secrets.choice(LETTERS) for _ in range(20)))
    if not line.exists():
        write(line, f"{name}:{openssl('passwd', '-6', '-stdin', text=password(name)).strip()}\n")
