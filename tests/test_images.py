"""What must hold for the built images, on both platforms."""

import json
import pathlib
import shutil
import subprocess
import time
import tomllib
import uuid

import pytest
from containers import ARCHITECTURES, PROJECT, Layout, export, run
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

# The first test waits for the engine, the base image and the images.
pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

NODE = "tritoncluster/node:local"
HARDENED = [
    "--rm",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
    "--tmpfs=/tmp",
]
MEGABYTE = 1_000_000
PLATFORMS = pytest.mark.parametrize("architecture", ARCHITECTURES)
IMAGES = pytest.mark.parametrize("image", ["node", "gateway"])


def start(architecture: str, *command: object, image: str = NODE, check: bool = True) -> subprocess.CompletedProcess:
    """Run a command in a container as locked up as the services are."""
    platform = f"--platform=linux/{architecture}"
    return run("docker", "run", *HARDENED, platform, "--env=QEMU_CPU=cortex-a72", image, *command, check=check)


@PLATFORMS
def test_the_node_image_is_small(layouts: dict[str, Layout], architecture: str) -> None:
    layers = layouts["node"].layers(architecture)
    assert sum(layer["size"] for layer in layers) < 220 * MEGABYTE
    # What a file takes on disk: whole blocks.
    unpacked = sum(-(-m.size // 4096) * 4096 for layer in layers for m in layouts["node"].members(layer))
    assert unpacked < 650 * MEGABYTE


@IMAGES
@PLATFORMS
def test_user_labels_and_health_check(layouts: dict[str, Layout], image: str, architecture: str) -> None:
    config = layouts[image].config(architecture)["config"]
    assert config["User"] == "1000:1000"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert labels["title"] == f"tritoncluster {image}"
    assert labels["licenses"] == "BSD-3-Clause"
    assert {"description", "version", "vendor"} <= labels.keys()


@IMAGES
@PLATFORMS
def test_nothing_of_the_build_machine_is_baked_in(layouts: dict[str, Layout], image: str, architecture: str) -> None:
    layout = layouts[image]
    config = layout.config(architecture)
    settings = json.dumps(config["config"])
    assert not [word for word in ("SSL_CERT", "PIP_", "PROXY", "proxy", "QEMU") if word in settings]
    for layer in layout.layers(architecture)[1:]:
        names = [member.name for member in layout.members(layer) if "/.wh." not in member.name]
        assert not [n for n in names if n.startswith(("run/secrets", "tmp/", "root/", "var/lib/apt/lists/"))]
        assert not [n for n in names if n.endswith(("uv_cache.json", "direct_url.json", ".log"))]


def test_the_extra_ca_bundle_is_not_in_the_image(images: dict[str, str]) -> None:
    count = "ls /usr/share/ca-certificates/mozilla | wc -l; grep -c BEGIN /etc/ssl/certs/ca-certificates.crt"
    packaged, trusted = start("amd64", "sh", "-c", count).stdout.split()
    assert packaged == trusted


@PLATFORMS
def test_our_code_is_a_small_layer_of_its_own(layouts: dict[str, Layout], architecture: str) -> None:
    *others, own = layouts["node"].layers(architecture)
    assert own["size"] < MEGABYTE
    ours = {m.name for m in layouts["node"].members(own) if m.isfile()}
    assert any(name.endswith("tritoncluster/__init__.py") for name in ours)
    assert all("tritoncluster" in name for name in ours)
    assert not any("dist-packages/tritoncluster" in m.name for layer in others for m in layouts["node"].members(layer))


def test_our_code_is_the_same_for_both_platforms(layouts: dict[str, Layout]) -> None:
    assert len({layouts["node"].layers(architecture)[-1]["digest"] for architecture in ARCHITECTURES}) == 1


@pytest.fixture
def project_copy(tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a copy of what the node image is made of, to change."""
    copy = tmp_path / "project"
    ignore = shutil.ignore_patterns("__pycache__", "extra-requirements.txt")
    for folder in ("docker", "workloads"):
        shutil.copytree(PROJECT / folder, copy / folder, ignore=ignore)
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(PROJECT / name, copy)
    return copy


def test_a_change_of_our_code_changes_one_layer(
    layouts: dict[str, Layout], project_copy: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    with (project_copy / "workloads/src/tritoncluster/__init__.py").open("a") as module:
        module.write("\nCHANGED = True\n")
    changed = export("node", tmp_path / "changed", project=project_copy)
    for architecture in ARCHITECTURES:
        old, new = ([layer["digest"] for layer in x.layers(architecture)] for x in (layouts["node"], changed))
        assert old[:-1] == new[:-1]
        assert old[-1] != new[-1]
        assert changed.layers(architecture)[-1]["size"] < 10**6


def test_own_packages_go_into_both_platforms(project_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (project_copy / "docker/extra-requirements.txt").write_text("humanize\nmsgspec\nnumpy\n")
    layout = export("node", tmp_path / "extra", project=project_copy)
    for architecture in ARCHITECTURES:
        names = [m.name for m in layout.members(layout.layers(architecture)[-2])]
        cpu = {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
        assert any(name.endswith("humanize/__init__.py") for name in names)
        assert any("msgspec/_core" in name and cpu in name for name in names)
        assert not any("/numpy/" in name for name in names)


def test_own_packages_that_contradict_the_lock_are_refused(project_copy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (project_copy / "docker/extra-requirements.txt").write_text("numpy<2\n")
    refused = run(
        project_copy / "docker/bake", "node-cross", "--set", f"*.output=type=oci,dest={tmp_path}/x.tar", check=False
    )
    assert refused.returncode != 0
    assert "numpy<2" in refused.stderr


@PLATFORMS
def test_the_node_image_computes(images: dict[str, str], architecture: str) -> None:
    code = """
import importlib.metadata, json, platform
import dask, distributed, numpy, pandas, pandas.testing, numpy.testing, scipy.stats, tritoncluster
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
matrix = numpy.random.default_rng(0).standard_normal((300, 300))
X, y = load_digits(return_X_y=True)
score = RandomForestClassifier(5, random_state=0).fit(X, y).score(X, y)
versions = {d.name.lower().replace("_", "-"): d.version for d in importlib.metadata.distributions()}
print(json.dumps({
    "machine": platform.machine(),
    "error": float(abs(matrix @ numpy.linalg.inv(matrix) - numpy.eye(300)).max()),
    "score": score,
    "versions": versions,
}))
"""
    seen = json.loads(start(architecture, "python3", "-c", code).stdout)
    assert seen["machine"] == {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
    assert seen["error"] < 1e-9
    assert seen["score"] == pytest.approx(0.9955481357818586, abs=0.01)
    locked = {p["name"]: p["version"] for p in tomllib.loads((PROJECT / "uv.lock").read_text())["package"]}
    assert {"dask", "numpy", "pandas", "scikit-learn", "tritoncluster"} <= seen["versions"].keys()
    assert {name: locked[name] for name in seen["versions"]} == seen["versions"]


@PLATFORMS
def test_byte_code_is_there_and_is_not_checked(layouts: dict[str, Layout], architecture: str) -> None:
    names = [m.name for layer in layouts["node"].layers(architecture) for m in layouts["node"].members(layer)]
    compiled = {name for name in names if name.endswith(".pyc")}
    for module in ("usr/lib/python3.13/{}ast", "usr/local/lib/python3.13/dist-packages/sklearn/{}base"):
        assert module.format("__pycache__/") + ".cpython-313.pyc" in compiled
    unchecked = "import sklearn; print(open(sklearn.__cached__, 'rb').read(8)[4])"
    assert start("amd64", "python3", "-c", unchecked).stdout.strip() == "1"


def test_any_user_may_run_it(images: dict[str, str]) -> None:
    done = run(
        "docker",
        "run",
        *HARDENED,
        "--user=4321:4321",
        NODE,
        "python3",
        "-c",
        "import distributed, tritoncluster",
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_health_check_sees_a_scheduler(images: dict[str, str]) -> None:
    scheduler = ["dask", "scheduler", "--dashboard-address", ":8788", "--no-show"]
    name = run("docker", "run", "--detach", "--tmpfs=/tmp", NODE, *scheduler).stdout.strip()
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = run("docker", "inspect", "--format={{.State.Health.Status}}", name).stdout.strip()
            if state == "healthy":
                break
            time.sleep(0.5)
        assert state == "healthy", run("docker", "logs", name).stderr
        check = ["python3", "-I", "/usr/local/lib/tritoncluster/healthcheck.py"]
        other_port = run("docker", "exec", "--env=HEALTH_PORT=8799", name, *check, check=False)
        assert other_port.returncode == 1
        assert other_port.stderr.startswith("port 8799: ")
    finally:
        run("docker", "rm", "--force", name)


@IMAGES
@PLATFORMS
def test_the_bill_of_materials_lists_what_is_inside(
    images: dict[str, str], image: str, architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1735689600")
    text = run("docker/sbom.py", images[image], f"linux/{architecture}").stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = json.loads(text)["components"]
    debian = {c["name"]: c["version"] for c in components if c["purl"].startswith("pkg:deb/")}
    listed = start(architecture, "dpkg-query", "--show", image=images[image]).stdout.split()
    assert debian == dict(zip((n.partition(":")[0] for n in listed[::2]), listed[1::2], strict=True))
    python = [c for c in components if c["purl"].startswith("pkg:pypi/")]
    if image == "node":
        # Ours is made here; every other wheel is one of the lock's.
        assert [c["name"] for c in python if "hashes" not in c] == ["tritoncluster"]
        assert len(python) > 30
    assert text == run("docker/sbom.py", images[image], f"linux/{architecture}").stdout


@pytest.mark.usefixtures("images")
def test_an_image_runs_here_that_was_packed_for_hosts_before(
    project_copy: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    # Layers for hosts are compressed in a way of their own, which the engine does not run, and the builder keeps them.
    with (project_copy / "workloads/src/tritoncluster/__init__.py").open("a") as module:
        module.write(f"\nCHANGED = {uuid.uuid4().hex!r}\n")
    run(project_copy / "docker/layouts", tmp_path)
    image = "tritoncluster/node:packed-before"
    run(project_copy / "docker/bake", "node-cross", "--set", f"*.tags={image}")
    try:
        for architecture in ARCHITECTURES:
            start(architecture, "true", image=image)
    finally:
        run("docker", "rmi", image)
