"""Ansible filter: the digests of images on the controller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {"image_digests": digests}


def digests(folder: str, images: list[str]) -> dict[str, str]:
    """Give image -> digest of the index that names its platforms, of OCI layouts in `folder`."""
    found = {}
    for image in images:
        index = json.loads(Path(folder, image, "index.json").read_text())
        found[image] = index["manifests"][-1]["digest"]
    return found
