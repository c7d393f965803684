"""What each container of a service has of its own: instances.py among the filters."""

from instances import folders, notebooks, workers

PORTS = {"worker": "8800", "nanny": 8900, "http": 9000}


def test_each_worker_has_ports_of_its_own():
    found = workers(["pi-1", "pi-2"], PORTS, {}, [], 2)
    assert list(found) == ["worker", "worker-2"]
    ports = [
        {name: value for name, value in one["environment"].items() if name.endswith("PORT")} for one in found.values()
    ]
    assert ports == [
        {"WORKER_PORT": "8800", "WORKER_NANNY_PORT": "8900", "WORKER_HTTP_PORT": "9000", "HEALTH_PORT": "9000"},
        {"WORKER_PORT": "8801", "WORKER_NANNY_PORT": "8901", "WORKER_HTTP_PORT": "9001", "HEALTH_PORT": "9001"},
    ]
    assert [one["environment"]["WORKER_NAME"] for one in found.values()] == ["pi-1", "pi-2"]


def test_an_owners_environment_is_there_but_for_what_is_ours():
    environment = {"OMP_NUM_THREADS": "2", "WORKER_PORT": "1"}
    (found,) = workers(["pi"], PORTS, environment, ["gpu", "aarch64"], 4).values()
    assert found["environment"]["OMP_NUM_THREADS"] == "2"
    assert found["environment"]["WORKER_PORT"] == "8800"
    resources = "DASK_DISTRIBUTED__WORKER__RESOURCES__"
    assert {name: value for name, value in found["environment"].items() if name.startswith(resources)} == {
        f"{resources}GPU": "4",
        f"{resources}AARCH64": "4",
    }
    assert environment == {"OMP_NUM_THREADS": "2", "WORKER_PORT": "1"}


def test_a_notebook_has_its_persons_certificate_files_and_socket_alone():
    found = notebooks(["client", "ada"])
    assert list(found) == ["notebook-client", "notebook-ada"]
    assert found["notebook-ada"]["volumes"] == [
        "/etc/tritoncluster/people/ada:/run/tls:ro",
        "/var/lib/tritoncluster/notebooks/ada:/work",
        "/var/lib/tritoncluster/notebook-sockets/ada:/run/notebooks",
    ]
    assert found["notebook-client"]["volumes"][0] == "/etc/tritoncluster/client:/run/tls:ro"
    there = {folder["path"] for folder in folders(["client", "ada"])}
    mounted = {volume.partition(":")[0] for one in found.values() for volume in one["volumes"]}
    assert {path for path in mounted if path.startswith("/var/lib")} < there
