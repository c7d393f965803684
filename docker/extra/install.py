"""Install the user's own packages for one platform, in versions that go with the locked ones; say on one line why not.

    install.py ARCHITECTURE REQUIREMENTS LOCKED FOLDER

Wheels alone: nothing is compiled, so that one machine builds for both platforms.
"""

import pathlib
import re
import subprocess
import sys

#: The words that open the line: docker/bake looks for them in all that a build prints.
SAID = "own packages: "
LONGEST = 300
CPUS = {"amd64": "x86_64", "arm64": "aarch64"}


def main(architecture: str, requirements: str, locked: str, folder: str) -> None:
    """Resolve, then install what the lock does not have."""
    target = [
        "--only-binary=:all:",
        "--python-version=3.13",
        f"--python-platform={CPUS[architecture]}-manylinux_2_28",
    ]
    names = re.findall(r"^([a-z0-9-]+)==", pathlib.Path(locked).read_text(), re.MULTILINE)
    resolved = "/tmp/resolved.txt"  # noqa: S108 - of a build stage
    compiled = [f"--constraint={locked}", "--generate-hashes", f"--output-file={resolved}"]
    uv(architecture, "compile", *target, *compiled, *(f"--no-emit-package={name}" for name in names), requirements)
    installed = ["--no-deps", "--require-hashes", f"--target={folder}", f"--requirement={resolved}"]
    uv(architecture, "install", *target, *installed)


def uv(architecture: str, *words: str) -> None:
    """Run a command of uv's, or end with what it says."""
    done = subprocess.run(["/opt/uv/bin/uv", "pip", *words, "--quiet"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{SAID}{one_line(done.stderr, architecture)}")


def one_line(error: str, architecture: str) -> str:
    r"""Give what uv says in a drawn tree of lines as one, with what to do about it.

    >>> tree = " × No solution found:\n  ╰─▶ Because x was not\n      found in the package registry, no.\n  hint: y"
    >>> one_line(tree, "arm64")
    'Because x was not found in the package registry, no; check the name in docker/extra-requirements.txt'
    """
    reason = " ".join(re.sub("[×│╰├▶─]|error:", " ", error.rpartition("╰─▶")[2] or error).split())
    # Under "No solution found", which says nothing.
    reason = re.sub(r"^No solution found.*? cause: ", "", reason)
    if "not found in the package registry" in reason:
        advice = "check the name in docker/extra-requirements.txt"
    elif "wheel" in reason:
        advice = (
            f"there is nothing to install on linux/{architecture}: without machines of that kind, build for this one's "
            "alone with docker/bake; else leave it out of docker/extra-requirements.txt"
        )
    elif "unsatisfiable" in reason or "incompatible" in reason:
        advice = "ask for another version in docker/extra-requirements.txt, or for none"
    else:
        advice = "see docker/extra-requirements.txt, and whether the network is there"
    # A hint knows names of platforms alone; a list of all versions is for uv's own screen.
    reason = re.split(r"\s+hint: ", reason)[0].rstrip(".")
    return f"{reason if len(reason) <= LONGEST else reason[:LONGEST] + '…'}; {advice}"


if __name__ == "__main__":
    main(*sys.argv[1:])
