"""Ansible filters: images on the controller, as OCI layouts in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"image_digests": digests, "image_files": files, "image_manifests": manifests, "image_names": names}


def digests(folder: str, images: list[str]) -> dict[str, str]:
    """Give image -> digest of the index that names its platforms."""
    return {
        image: json.loads(Path(folder, image, "index.json").read_text())["manifests"][0]["digest"] for image in images
    }


def names(digests: dict[str, str], images: list[str], registry: str) -> dict[str, str]:
    """Give image -> its name, which hosts pull it by."""
    return {image: f"{registry}/tritoncluster/{image}@{digests[image]}" for image in images}


def files(folder: str, images: list[str]) -> list[str]:
    """List what belongs to the images, relative to `folder`; builds leave parts of earlier ones there."""
    found = []
    for image, digest in digests(folder, images).items():
        found += [f"{image}/index.json", f"{image}/oci-layout"]
        found += [f"{image}/{_path(each)}" for each in dict.fromkeys(_reachable(Path(folder, image), digest))]
    return found


def manifests(folder: str, images: list[str]) -> list[str]:
    """List the images and their platforms, as NAME@DIGEST."""
    found = []
    for image, digest in digests(folder, images).items():
        index = json.loads(Path(folder, image, _path(digest)).read_bytes())
        found += [f"{image}@{each}" for each in (digest, *(one["digest"] for one in index["manifests"]))]
    return found


def _reachable(layout: Path, digest: str) -> list[str]:
    """List a part by its digest, and all that it names."""
    content = (layout / _path(digest)).read_bytes()
    # Only lists of parts name others; layers and configurations are not read.
    described = json.loads(content)
    found = [digest]
    for manifest in described.get("manifests", []):
        found += _reachable(layout, manifest["digest"])
    parts = [described["config"], *described["layers"]] if "layers" in described else []
    return found + [part["digest"] for part in parts]


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")
