"""Notebooks on the scheduler's host, through the gateway."""

import asyncio
import base64
import json
import re
import ssl
import urllib.error
import urllib.request
from http.cookies import SimpleCookie
from uuid import uuid4

import pytest
from conftest import ADDRESSES, PKI, WORKERS, containers, log, on
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

ADDRESS = f"https://{ADDRESSES['desktop']}:8787/lab"
PASSWORDS = {"client": "gateway/password", "teacher": "clients/teacher/password", "guest": "clients/guest/password"}
NAMES = """
from distributed import Client
client = Client()
client.wait_for_workers(4, timeout=120)
print(*sorted(worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()))
import joblib
with joblib.parallel_config("balanced"):
    print(sum(joblib.Parallel()(joblib.delayed(abs)(-number) for number in range(100))))
"""
LEFT = """
import json, subprocess
cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
cell["source"] = "from distributed import Client; print(Client().submit(sum, [40, 2]).result())"
with open("left.ipynb", "w") as file:
    json.dump({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, file)
def say(*words):
    return subprocess.run(["tritoncluster", *words], capture_output=True, text=True, check=True).stdout.strip()
job = say("submit", "--detach", "left.ipynb")
say("jobs", "wait", job)
say("jobs", "fetch", job, "--output", "left")
print(say("jobs", "show", job).count("teacher"), *json.load(open("left/left.ipynb"))["cells"][0]["outputs"][0]["text"])
"""
REACHED = "import os; print(*os.listdir('/run/notebooks'), os.getcwd())"


class Server:
    """A person's server, as their browser sees it."""

    def __init__(self, person, password):
        self.trust = ssl.create_default_context(cafile=PKI / "dashboard/ca.crt")
        pair = base64.b64encode(f"{person}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {pair}"}

    def ask(self, path, method="GET", **headers):
        """Give status, body and headers of an answer."""
        request = urllib.request.Request(ADDRESS + path, method=method, headers=self.headers | headers)
        try:
            with urllib.request.urlopen(request, context=self.trust, timeout=60) as answer:
                return answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            return error.code, error.read(), error.headers

    async def printed(self, code):
        """Run code in a new kernel, and give what it printed."""
        cookie = SimpleCookie(self.ask("/lab")[2].get_all("Set-Cookie")[-1])["_xsrf"].value
        token = {"Cookie": f"_xsrf={cookie}", "X-XSRFToken": cookie}
        kernel, session = json.loads(self.ask("/api/kernels", "POST", **token)[1])["id"], uuid4().hex
        channels = f"{ADDRESS.replace('https', 'wss')}/api/kernels/{kernel}/channels"
        connection = await websocket_connect(HTTPRequest(channels, headers=self.headers, ssl_options=self.trust))
        header = {"msg_id": uuid4().hex, "msg_type": "execute_request", "session": session, "username": ""}
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
        header["version"] = "5"
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await connection.write_message(json.dumps(message))
        found, ended = "", False
        while not ended:
            said = json.loads(await asyncio.wait_for(connection.read_message(), 240))
            told, about_it = said["content"], said["parent_header"].get("msg_id") == header["msg_id"]
            assert said["msg_type"] != "error", told
            if said["msg_type"] == "stream" and told["name"] == "stdout":
                found += told["text"]
            # It comes after all that was printed.
            ended = about_it and told.get("execution_state") == "idle"
        connection.close()
        self.ask(f"/api/kernels/{kernel}", "DELETE", **token)
        return found


@pytest.fixture(scope="module")
def servers():
    return {person: Server(person, (PKI / file).read_text().strip()) for person, file in PASSWORDS.items()}


def test_everybody_s_own_password_lets_in_and_nothing_else(servers):
    for person, server in servers.items():
        assert server.ask("/api")[0] == 200, log(on("desktop"), f"notebook-{person}")
    assert Server("client", "wrong").ask("/api")[0] == 401
    assert Server("nobody", (PKI / PASSWORDS["guest"]).read_text().strip()).ask("/api")[0] == 401


def test_a_kernel_has_the_cluster_and_is_its_person_s(servers):
    assert asyncio.run(servers["teacher"].printed(NAMES)) == " ".join(sorted(WORKERS)) + "\n4950\n"
    # By their own certificate.
    said = on("desktop").check_output("docker logs tritoncluster-scheduler 2>&1")
    assert re.search(r"teacher at tls://\S+: client Client-\S+ connected", said)
    assert asyncio.run(servers["guest"].printed(REACHED)) == "socket /work\n"


def test_a_notebook_is_left_alone_from_a_notebook(servers):
    assert asyncio.run(servers["teacher"].printed(LEFT)) == "1 42\n\n"


def test_its_limits_are_the_setting_s_and_files_are_each_person_s():
    found = containers(on("desktop"))
    for person in PASSWORDS:
        server = found[f"notebook-{person}"]
        assert server["HostConfig"]["Memory"] == server["HostConfig"]["MemorySwap"] == 512 * 2**20
        assert server["HostConfig"]["NanoCpus"] == 10**9
        home = on("desktop").file(f"/var/lib/tritoncluster/notebooks/{person}")
        assert (home.user, home.mode) == ("tritoncluster", 0o700)
        assert on("desktop").file(f"{home.path}/first-notebook.ipynb").exists
