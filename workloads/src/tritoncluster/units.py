"""What goes along with a submitted script: a module, a package, a file or folder of data, each as a whole."""

import hashlib
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES

#: Of files that can be imported.
SUFFIXES = (".py", *EXTENSION_SUFFIXES)


@dataclass(frozen=True)
class Unit:
    """A file or a folder that goes along as a whole.

    Parameters
    ----------
    name
        Of the file or folder itself.
    files
        Path below where the unit is put, as "package/module.py" -> content.
    origin
        Where it is on the script's machine.
    yields
        Whether a module of that name that is installed where the unit arrives is the better one.
    """

    name: str
    files: dict[str, bytes] = field(repr=False)
    origin: str
    yields: bool = False

    @property
    def module(self) -> str:
        """What it is imported as, "" for data."""
        if self.name not in self.files:
            return self.name if self.name.isidentifier() and any(path.endswith(".py") for path in self.files) else ""
        return module_name(self.name)

    @property
    def digest(self) -> str:
        """What stands for its content."""
        content = hashlib.sha256()
        for path, data in sorted(self.files.items()):
            content.update(f"{path}\0{len(data)}\0".encode() + data)
        return content.hexdigest()[:32]


def module_name(file: str) -> str:
    """Give the name by which a file of that name is imported, "" if it is no module."""
    stem = next((file.removesuffix(suffix) for suffix in SUFFIXES if file.endswith(suffix)), "")
    return stem if stem.isidentifier() else ""
