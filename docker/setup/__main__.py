"""What happens once before a cluster of one machine starts; runs as root with few capabilities, in its container.

prepare       check the settings, then make and renew certificates and the dashboard's password
password      print the dashboard's password
certificate   print the dashboard's certificate, for browsers and Prometheus to trust
client        print a tar archive of what a Dask client outside of the containers needs
"""

import io
import os
import sys
import tarfile

import certificates
import settings
from certificates import SECRETS


def prepare() -> None:
    """Make everything ready, or exit with one line for each thing that is wrong."""
    wrong = settings.check(os.environ)
    if wrong:
        sys.exit("\n".join(f"setup: {line}" for line in wrong))
    renewed = certificates.make(
        days=int(os.environ["CERTIFICATE_DAYS"]),
        names=os.environ["DASHBOARD_NAMES"].split(","),
        user=(int(os.environ["UID"]), int(os.environ["GID"])),
    )
    if renewed:
        print("setup: renewed certificates; those that run take them with: docker compose restart")
    print("setup: the dashboard's user is dask; its password: docker compose run --rm setup password")


def client() -> None:
    """Write the archive."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for name, content in certificates.for_client(int(os.environ["CERTIFICATE_DAYS"])).items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))


def main() -> None:
    """Run the command that was given."""
    match sys.argv[1:]:
        case ["prepare"]:
            prepare()
        case ["password"]:
            print((SECRETS / "authority/password").read_text().strip())
        case ["certificate"]:
            print((SECRETS / "gateway/gateway.crt").read_text().strip())
        case ["client"]:
            client()
        case _:
            sys.exit("setup: usage: setup prepare|password|certificate|client")


if __name__ == "__main__":
    main()
