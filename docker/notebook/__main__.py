"""Becomes JupyterLab for one person, who finds the first notebook there, when it is theirs for the first time."""

import os
import shutil
import sys
from pathlib import Path

HOME = Path("/work")
FIRST = Path("/usr/local/share/tritoncluster/first-notebook.ipynb")
#: Jupyter's settings in Python, and its own folder: in the person's home, so that what they set stays.
CONFIGURATION = Path(__file__).with_name("jupyter_server_config.py")
SETTINGS = HOME / ".jupyter"


def prepare(home: Path = HOME, first: Path = FIRST) -> None:
    """Put the first notebook there, once: who throws it away does not find it again."""
    settings = home / SETTINGS.name
    if not settings.exists():
        shutil.copyfile(first, home / first.name)
        settings.mkdir(mode=0o700)


def main() -> None:
    """Start it."""
    os.umask(0o077)
    prepare()
    folder = Path(os.environ["NOTEBOOK_SOCKET"]).parent
    # The gateway may have another user's number. Who is not let at the folder above does not come here.
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    environment = os.environ | {
        "HOME": str(HOME),
        # Where kernels have their sockets and their keys: gone with the container.
        "JUPYTER_RUNTIME_DIR": "/tmp/jupyter",  # noqa: S108 - the container's own
        "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108
    }
    os.chdir(HOME)
    command = [sys.executable, "-P", "-m", "jupyterlab", f"--config={CONFIGURATION}"]
    os.execve(command[0], command, environment)  # noqa: S606 - it becomes the container's program


if __name__ == "__main__":
    main()
