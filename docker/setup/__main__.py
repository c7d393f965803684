"""What happens once before a cluster of one machine starts; runs as root with few capabilities, in its container.

prepare          check the settings, then make and renew certificates
people           give passwords to whom CLUSTER_PEOPLE names, and take back what others had
adopt            make it this clone's cluster, which has been moved
password [NAME]  print somebody's password for the dashboard; without a name, the one of whoever is not named
certificate      print the dashboard's certificate, for browsers and Prometheus to trust
client [NAME]    print a tar archive of what a Dask client of somebody's needs outside of the containers
"""

import io
import os
import sys
import tarfile
from pathlib import Path

import certificates
import clone
import people
import settings
from certificates import SECRETS
from changed import changed


def prepare() -> None:
    """Make everything ready, or exit with one line for each thing that is wrong."""
    wrong = settings.check(os.environ) or clone.refuse(Path("/proc/self/mountinfo").read_text())
    if wrong:
        sys.exit("\n".join(f"setup: {line}" for line in wrong))
    renewed = certificates.make(
        days=int(os.environ["CERTIFICATE_DAYS"]),
        names=os.environ["DASHBOARD_NAMES"].split(","),
        user=(int(os.environ["UID"]), int(os.environ["GID"])),
    )
    # For the scheduler's HTTP; the gateway has the same user.
    certificates.give_folder(SECRETS / "scheduler")
    # For the workload to note that the three jobs have run; for jobs and notebooks to be kept, and to be found.
    for name in ("demonstrated", "jobs", "jobs-socket", "notebooks", "notebook-sockets"):
        os.chown(SECRETS / name, int(os.environ["UID"]), int(os.environ["GID"]))
    if renewed:
        print("setup: renewed certificates; those that run take them with: docker compose restart")
    if changed():
        print(
            "setup: the code has changed since its image was built; what runs takes it along with: "
            "docker compose up --build"
        )


def agree() -> None:
    """Let in who is named, or exit with one line for each name that can't be."""
    named = os.environ["CLUSTER_PEOPLE"]
    if wrong := list(people.wrong(named)):
        sys.exit("\n".join(f"setup: {line}" for line in wrong))
    let_in, refused = people.agree(named.split())
    for said, names in {"let in": let_in, "refused from now on": refused}.items():
        if names:
            print(f"setup: {said}: {', '.join(names)}")
    print(f"setup: the dashboard's user is {people.NOBODY}; its password: docker compose run --rm setup password")


def client(person: str) -> None:
    """Write the archive."""
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for name, content in people.bundle(person, int(os.environ["CERTIFICATE_DAYS"])).items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))


def main() -> None:
    """Run the command that was given."""
    match sys.argv[1:]:
        case ["password" | "client", str(name)] if name not in people.known():
            there = ", ".join(people.known())
            sys.exit(f"setup: {name} is not let in, but {there}: add to CLUSTER_PEOPLE, then docker compose up")
        case ["prepare"]:
            prepare()
        case ["people"]:
            agree()
        case ["adopt"]:
            clone.KEPT.unlink(missing_ok=True)
            prepare()
        case ["password", *name]:
            print(people.password(name[0] if name else people.NOBODY))
        case ["certificate"]:
            print((SECRETS / "gateway/gateway.crt").read_text().strip())
        case ["client", *name]:
            client(name[0] if name else people.NOBODY)
        case _:
            sys.exit("setup: usage: setup prepare|people|adopt|password [NAME]|certificate|client [NAME]")


if __name__ == "__main__":
    main()
