"""Settings of ours in the engine's file: the owner's stay what they are, meanwhile and afterwards."""

import json
from pathlib import Path
from types import SimpleNamespace

import engine_settings
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modules import module

OURS = {"live-restore": True, "log-driver": "local", "log-opts": {"max-size": "10m", "max-file": "3"}, "bridge": "none"}


class Host:
    """A host's file, and what we keep of it."""

    def __init__(self, folder: Path, content: str | None = None) -> None:
        self.path, self.record = folder / "docker/daemon.json", folder / "own/engine-settings.json"
        if content is not None:
            self.path.parent.mkdir()
            self.path.write_text(content)

    def module(self, settings: dict[str, object], *, all_ours: bool = False) -> engine_settings.Settings:
        params = {"path": self.path, "record": self.record, "settings": settings, "all_ours": all_ours}
        fail = SimpleNamespace(
            params=params, check_mode=False, atomic_move=lambda new, old, **_: Path(new).replace(old)
        )
        return engine_settings.Settings(fail)

    def have(self, settings: dict[str, object], *, all_ours: bool = False) -> bool:
        return self.module(settings, all_ours=all_ours).have()

    def leave(self, *, all_ours: bool = False) -> bool:
        return self.module(OURS, all_ours=all_ours).leave()

    @property
    def settings(self) -> dict[str, object]:
        return json.loads(self.path.read_text())


def test_without_a_file_there_is_one_until_teardown(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.have(OURS)
    assert host.settings == OURS
    assert not host.have(OURS)
    assert host.have(OURS | {"live-restore": False})
    assert host.settings == OURS | {"live-restore": False}
    assert host.leave()
    assert not host.path.exists()
    assert not host.record.exists()


@pytest.mark.parametrize(
    ("owners", "added"),
    [
        ({"data-root": "/mnt/ssd", "dns": ["10.0.0.1"]}, set(OURS)),
        ({"log-driver": "json-file"}, {"live-restore", "bridge"}),
        ({"log-opts": {"labels": "a"}}, {"live-restore", "bridge"}),
        ({"bip": "10.9.0.1/24"}, {"live-restore", "log-driver", "log-opts"}),
        ({"bridge": "br0"}, {"live-restore", "log-driver", "log-opts"}),
        ({"live-restore": False, "registry-mirrors": []}, set(OURS) - {"live-restore"}),
        # The same by chance is the owner's all the same.
        (OURS, set()),
    ],
)
def test_the_owner_s_settings_precede_ours(tmp_path: Path, owners: dict[str, object], added: set[str]) -> None:
    # As nobody's program writes it.
    before = json.dumps(owners, indent=1).replace(":", " :") + "\n\n"
    host = Host(tmp_path, before)
    assert host.have(OURS) == bool(added)
    assert host.settings == {name: OURS[name] for name in added} | owners
    assert not host.have(OURS)
    assert host.leave() == bool(added)
    assert host.path.read_text() == before


def test_what_the_owner_changes_meanwhile_stays(tmp_path: Path) -> None:
    host = Host(tmp_path, '{"dns": []}')
    host.have(OURS)
    host.path.write_text(json.dumps(host.settings | {"dns": ["10.0.0.1"], "debug": True, "live-restore": False}))
    assert not host.have(OURS)
    assert host.settings["live-restore"] is False
    host.leave()
    assert host.settings == {"dns": ["10.0.0.1"], "debug": True, "live-restore": False}


def test_what_an_earlier_version_wrote_is_ours(tmp_path: Path) -> None:
    host = Host(tmp_path, json.dumps(OURS))
    assert not host.have(OURS, all_ours=True)
    assert host.leave()
    assert not host.path.exists()
    host = Host(tmp_path / "torn down at once", None)
    host.path.parent.mkdir(parents=True)
    host.path.write_text(json.dumps(OURS))
    assert host.leave(all_ours=True)
    assert not host.path.exists()


values = st.booleans() | st.integers(0, 9) | st.text(max_size=3) | st.lists(st.integers(0, 9), max_size=2)
names = st.sampled_from([*OURS, *engine_settings.CLASHES["bridge"], "dns", "debug"])


# A busy machine is slow.
@given(
    owners=st.dictionaries(names, values | st.sampled_from(list(OURS.values()))), more=st.dictionaries(names, values)
)
def test_whatever_the_owner_has_comes_back(
    tmp_path_factory: pytest.TempPathFactory, owners: dict[str, object], more: dict[str, object]
) -> None:
    host = Host(tmp_path_factory.mktemp("host"), json.dumps(owners))
    host.have(OURS)
    assert host.settings.items() >= owners.items()
    for name, others in engine_settings.CLASHES.items():
        assert name in owners or name not in host.settings or not set(owners).intersection(others)
    # What the owner sets, while ours are there, to something else.
    host.path.write_text(json.dumps(host.settings | {name: [value] for name, value in more.items()}))
    host.have(OURS)
    host.leave()
    assert host.settings == owners | {name: [value] for name, value in more.items()}


def test_the_module_answers_ansible(tmp_path: Path) -> None:
    files = {"path": f"{tmp_path}/daemon.json", "record": f"{tmp_path}/record"}
    assert module("engine_settings", settings=OURS, check=True, **files)["changed"]
    assert list(tmp_path.iterdir()) == []
    assert module("engine_settings", settings=OURS, **files)["settings"] == OURS
    (tmp_path / "daemon.json").write_text("{no JSON")
    said = module("engine_settings", settings=OURS, **files)
    assert said["failed"]
    assert said["msg"] == f"{tmp_path}/daemon.json is no JSON that an engine could read: mend it, or remove it"
