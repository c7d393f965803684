#!/usr/bin/env python3
"""Print the CycloneDX bill of materials of one image on one platform.

Debian's packages are those of the image's package database, Python's those installed in the image; the lock says where
each wheel came from, and a wheel that it does not name (a user's own package) is listed without a hash.

    docker/sbom.py tritoncluster/node:local linux/arm64 >node-arm64.cdx.json
"""

import argparse
import datetime as dt
import os
import pathlib
import re
import subprocess
import tomllib
import uuid
from collections.abc import Iterator
from email.message import Message
from email.parser import HeaderParser

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.tags import Tag, parse_tag
from packaging.utils import canonicalize_name, parse_wheel_filename

LOCK = pathlib.Path(__file__).resolve().parent.parent / "uv.lock"


def read_image(image: str, platform: str) -> dict[str, str]:
    """Return the contents of the image's files that say what is installed, by path."""
    command = ["docker", "run", "--rm", "--network=none", f"--platform={platform}", "--env=QEMU_CPU=cortex-a72"]
    command += ["--entrypoint=find", image, "/var/lib/dpkg/status", "/usr/local/lib"]
    command += ["-regex", r".*\.dist-info/\(METADATA\|WHEEL\)\|/var/lib/dpkg/status"]
    # One program prints them all, each under its name: starting programs is slow under emulation.
    command += ["-exec", "tail", "-v", "-n", "+1", "{}", "+"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    parts = re.split(r"^==> (/.*) <==\n", output, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def headers(text: str) -> Message:
    """Parse the fields of a package's description."""
    return HeaderParser().parsestr(text)


def debian_components(status: str, architecture: str) -> Iterator[Component]:
    """Yield the installed packages of a dpkg status file."""
    for paragraph in re.split(r"\n\n+", status.strip()):
        package = headers(paragraph)
        if not package["Status"].endswith(" installed"):
            continue
        name, version = package["Package"], package["Version"]
        # "Source: name (version)"; absent where both are the package's own.
        source, _, source_version = (package["Source"] or name).partition(" ")
        qualifiers = {"arch": package["Architecture"], "distro": "debian-13"}
        yield Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            bom_ref=f"debian:{name}:{architecture}",
            purl=PackageURL("deb", "debian", name, version, qualifiers),
            properties=[
                Property(name="debian:source", value=source),
                Property(name="debian:source-version", value=source_version.strip("()") or version),
            ],
        )


def locked_wheels() -> dict[tuple[str, str, frozenset[Tag]], tuple[str, str]]:
    """Return file name and SHA-256 of each wheel in the lock, by normalised name, version and tags."""
    wheels: dict[tuple[str, str, frozenset[Tag]], tuple[str, str]] = {}
    for package in tomllib.loads(LOCK.read_text())["package"]:
        for wheel in package.get("wheels", []):
            filename = wheel["url"].rpartition("/")[2]
            name, version, _, tags = parse_wheel_filename(filename)
            wheels[name, str(version), tags] = (filename, wheel["hash"].removeprefix("sha256:"))
    return wheels


def python_components(files: dict[str, str]) -> Iterator[Component]:
    """Yield the Python distributions that are installed in the image."""
    wheels = locked_wheels()
    for path, content in files.items():
        if not path.endswith("/METADATA"):
            continue
        metadata = headers(content)
        name, version = canonicalize_name(metadata["Name"]), metadata["Version"]
        tag_lines = headers(files[path.removesuffix("METADATA") + "WHEEL"]).get_all("Tag") or []
        tags = frozenset(tag for line in tag_lines for tag in parse_tag(line))
        filename, digest = wheels.get((name, version, tags), ("", ""))
        yield Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            description=metadata["Summary"],
            bom_ref=f"pypi:{name}",
            purl=PackageURL("pypi", None, name, version, {"file_name": filename} if filename else None),
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else None,
        )


def bill_of_materials(image: str, platform: str) -> Bom:
    """Return the bill of materials of `image` on `platform`."""
    architecture = platform.removeprefix("linux/")
    files = read_image(image, platform)
    bom = Bom(components=[*debian_components(files["/var/lib/dpkg/status"], architecture), *python_components(files)])
    bom.metadata.component = Component(
        type=ComponentType.CONTAINER,
        name=image,
        bom_ref="image",
        properties=[Property(name="platform", value=platform)],
    )
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        bom.metadata.timestamp = dt.datetime.fromtimestamp(int(epoch), dt.UTC)
    # The same image gives the same document.
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, " ".join(sorted(str(c.purl) for c in bom.components)))
    bom.register_dependency(bom.metadata.component, bom.components)
    return bom


def main() -> None:
    """Print the bill of materials of the image that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("image")
    parser.add_argument("platform", choices=["linux/amd64", "linux/arm64"])
    arguments = parser.parse_args()
    print(JsonV1Dot6(bill_of_materials(arguments.image, arguments.platform)).output_as_string(indent=2))


if __name__ == "__main__":
    main()
