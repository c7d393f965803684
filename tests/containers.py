"""An engine and the images, for all tests here: made once for a session, and left for the next."""

import json
import os
import pathlib
import shlex
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

PROJECT = pathlib.Path(__file__).resolve().parent.parent
ARCHITECTURES = ("amd64", "arm64")


def run(*command: object, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder and return what it printed; a failure shows it."""
    done = subprocess.run(
        [str(part) for part in command], check=False, cwd=PROJECT, capture_output=True, text=True, **options
    )
    if check and done.returncode:
        pytest.fail(f"{shlex.join(done.args)} exited {done.returncode}:\n{done.stdout}{done.stderr}", pytrace=False)
    return done


@dataclass(frozen=True)
class Layout:
    """An image as an OCI layout on disk."""

    folder: pathlib.Path

    def blob(self, digest: str) -> pathlib.Path:
        """Return the file that has this digest."""
        return self.folder / "blobs" / digest.replace(":", "/")

    def read(self, digest: str) -> dict:
        """Return a manifest, an index or a configuration."""
        return json.loads(self.blob(digest).read_text())

    def manifest(self, architecture: str) -> dict:
        """Return the manifest of one platform."""
        index = json.loads((self.folder / "index.json").read_text())["manifests"][0]["digest"]
        (digest,) = (
            entry["digest"]
            for entry in self.read(index)["manifests"]
            if entry["platform"]["architecture"] == architecture
        )
        return self.read(digest)

    def config(self, architecture: str) -> dict:
        """Return the image configuration of one platform."""
        return self.read(self.manifest(architecture)["config"]["digest"])

    def layers(self, architecture: str) -> list[dict]:
        """Return the descriptors of the layers that have content, lowest first."""
        return [layer for layer in self.manifest(architecture)["layers"] if layer["size"] > 100]

    def members(self, layer: dict) -> Iterator[tarfile.TarInfo]:
        """Yield what a layer holds."""
        with tarfile.open(self.blob(layer["digest"])) as archive:
            yield from archive


@pytest.fixture(scope="session")
def engine() -> None:
    """Point the docker command at an engine that builds for both platforms."""
    for line in run(".ci/engine", "start").stdout.splitlines():
        name, _, value = shlex.split(line)[1].partition("=")
        os.environ[name] = value
    run("docker/base/make")


@pytest.fixture(scope="session")
def images(engine: None) -> dict[str, str]:
    """Build the images for both platforms, in the engine; return their names."""
    run("docker/bake", "cross")
    return {image: f"tritoncluster/{image}:local" for image in ("node", "notebook", "gateway")}


def export(image: str, folder: pathlib.Path, *options: str, project: pathlib.Path = PROJECT) -> Layout:
    """Build an image for both platforms into an OCI layout."""
    output = f"*.output=type=oci,tar=false,compression=gzip,force-compression=true,dest={folder}"
    run(project / "docker/bake", f"{image}-cross", "--set", "*.tags=", "--set", output, *options)
    return Layout(folder)


@pytest.fixture(scope="session")
def layouts(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Layout]:
    """Return the images as OCI layouts."""
    return {image: export(image, tmp_path_factory.mktemp(image)) for image in images}
