"""The images: how large they are, and what a change of our own code costs.

Takes the engine and the images that `make images` leaves.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from _pairs import seconds, show_machine

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ("node", "gateway")
MEGA = 1e6


def build(image: str, project: Path, layout: Path) -> None:
    """Build an image for both platforms into an OCI layout."""
    output = f"*.output=type=oci,tar=false,compression=gzip,force-compression=true,dest={layout}"
    command = [project / "docker/bake", f"{image}-cross", "--set", "*.tags=", "--set", output]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)


def layers(layout: Path) -> dict[str, list[tuple[str, int]]]:
    """Read digest and compressed size of each layer, by platform."""

    def blob(digest: str) -> dict:
        return json.loads((layout / "blobs" / digest.replace(":", "/")).read_text())

    index = blob(json.loads((layout / "index.json").read_text())["manifests"][0]["digest"])
    return {
        entry["platform"]["architecture"]: [(each["digest"], each["size"]) for each in blob(entry["digest"])["layers"]]
        for entry in index["manifests"]
        if entry["platform"]["architecture"] != "unknown"
    }


def change_our_code(folder: Path) -> Path:
    """Copy what the node image is made of, with one line more in our package."""
    copy = folder / "project"
    for name in ("docker", "workloads"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, copy)
    with (copy / "workloads/src/tritoncluster/__init__.py").open("a") as module:
        module.write("\nCHANGED = True\n")
    return copy


def unpacked(image: str) -> float:
    """Count what the files of an image take, in megabytes, for this machine's platform."""
    count = ["--summarize", "--one-file-system", "--apparent-size", "--bytes", "/"]
    command = ["docker", "run", "--rm", "--user=0", "--entrypoint=du", f"tritoncluster/{image}:local", *count]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) / MEGA


if __name__ == "__main__":
    show_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for image in IMAGES:
            build(image, ROOT, folder / image)
            for platform, found in layers(folder / image).items():
                print(f"{image}, {platform}: {sum(size for _, size in found) / MEGA:.0f} MB compressed")
            print(f"{image}: {unpacked(image):.0f} MB unpacked here")
        project = change_our_code(folder)
        taken = seconds(lambda: build("node", project, folder / "changed"))
        before = {digest for found in layers(folder / "node").values() for digest, _ in found}
        new = [size for found in layers(folder / "changed").values() for digest, size in found if digest not in before]
        print(f"a change of our code: {taken:.1f} s on both platforms, aim 15; {len(new)} new layers, {max(new)} bytes")
