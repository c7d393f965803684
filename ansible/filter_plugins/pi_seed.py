"""Ansible filters: what a new Raspberry Pi is told of itself, as cloud-init reads it from its card."""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: RFC 1123: a label.
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
ZONE = re.compile(r"[A-Za-z]+(?:[/_+-][A-Za-z0-9]+)*")
HOST_KEY = "/etc/ssh/own_ed25519_key"
COUNTRY = re.compile(r"[A-Z]{2}")


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Give the filters by name."""
        return {
            "pi_seed_network": network,
            "pi_seed_problems": problems,
            "pi_seed_user_data": user_data,
        }


def problems(host: str, settings: Mapping[str, Any], addresses: Iterable[str] = ()) -> list[str]:
    """Give a line for each thing that a Pi can't be told.

    Parameters
    ----------
    host
        Its name.
    settings
        The role's, without its prefix: user, key, time_zone, address, gateway, name_servers, wifi, wifi_password and
        wifi_country.
    addresses
        Of all that get one.
    """
    found = []
    if not NAME.fullmatch(host):
        found.append(f"{host} can't be the name of a computer: use small letters, digits and hyphens, 63 at most")
    if not USER.fullmatch(str(settings["user"])) or settings["user"] == "root":
        found.append(f"pi_seed_user is {settings['user']!r}: set it to a user's name in small letters, not root")
    if not str(settings["key"]).startswith(("ssh-", "ecdsa-", "sk-")):
        found.append("this computer has no SSH key: make one with ssh-keygen, or name its .pub file as pi_seed_key")
    zones = zoneinfo.available_timezones()
    if not ZONE.fullmatch(str(settings["time_zone"])) or (zones and settings["time_zone"] not in zones):
        found.append(f"pi_seed_time_zone is {settings['time_zone']!r}: set it to a name as Europe/Berlin")
    found += _network_problems(settings)
    if settings["address"] and list(addresses).count(settings["address"]) > 1:
        found.append(f"pi_seed_address {settings['address']} is another Pi's, too: give each its own")
    return [f"{host}: {line}" for line in found]


def _network_problems(settings: Mapping[str, Any]) -> list[str]:
    address, gateway = str(settings["address"]), str(settings["gateway"])
    found = []
    try:
        own = ipaddress.ip_interface(address) if address else None
    except ValueError:
        own = None
    if address and (own is None or "/" not in address):
        found.append(
            f"pi_seed_address is {address!r}: write it with the length of the network's part, as 192.168.1.11/24"
        )
    elif own and (not _is_address(gateway) or ipaddress.ip_address(gateway) not in own.network):
        found.append(f"pi_seed_gateway is {gateway!r}: set it to the router's address in the network {own.network}")
    servers = settings["name_servers"]
    if not isinstance(servers, (list, tuple)) or not all(map(_is_address, servers)):
        found.append(f"pi_seed_name_servers is {servers!r}: set it to a list of addresses, as ['192.168.1.1']")
    if settings["wifi"]:
        password = str(settings["wifi_password"])
        if not 8 <= len(password) <= 63 or not password.isprintable():
            found.append("pi_seed_wifi_password has to be of 8 to 63 characters: set it to the network's")
        if not COUNTRY.fullmatch(str(settings["wifi_country"])):
            found.append(f"pi_seed_wifi_country is {settings['wifi_country']!r}: set it to two letters, as DE")
    return found


def _is_address(text: Any) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


def user_data(host: str, settings: Mapping[str, Any], private_key: str, public_key: str) -> dict[str, Any]:
    """Give the content of `user-data`.

    Parameters
    ----------
    host, settings
        As `problems` takes them.
    private_key, public_key
        The computer's own, Ed25519.
    """
    return {
        "hostname": host,
        "manage_etc_hosts": True,
        "timezone": settings["time_zone"],
        "users": [
            {
                "name": settings["user"],
                "groups": ["adm", "sudo"],
                "shell": "/bin/bash",
                "lock_passwd": True,
                # As Raspberry Pi OS has it: nobody has a password that sudo could ask for.
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "ssh_authorized_keys": [settings["key"]],
            }
        ],
        "disable_root": True,
        "ssh_pwauth": False,
        # Under a name of its own: Raspberry Pi OS makes those of the usual names anew at its first start.
        "write_files": [
            {"path": HOST_KEY, "permissions": "0600", "content": private_key.rstrip("\n") + "\n"},
            {"path": f"{HOST_KEY}.pub", "permissions": "0644", "content": public_key.strip() + "\n"},
            {
                "path": "/etc/ssh/sshd_config.d/10-own-key.conf",
                "permissions": "0644",
                "content": f"HostKey {HOST_KEY}\n",
            },
        ],
        # Raspberry Pi OS leaves it off.
        "runcmd": [["systemctl", "enable", "ssh"], ["systemctl", "restart", "ssh"]],
    }


def network(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give the content of `network-config`: by cable, and in a wireless network if one is named."""
    address = settings["address"]
    how: dict[str, Any] = {"dhcp4": not address}
    if address:
        how["addresses"] = [address]
        how["routes"] = [{"to": "0.0.0.0/0", "via": settings["gateway"]}]
        how["nameservers"] = {"addresses": list(settings["name_servers"] or [settings["gateway"]])}
    found: dict[str, Any] = {"version": 2}
    if settings["wifi"]:
        # Whichever of them is there: the start does not wait for the other. The address is the wireless one's then.
        found["ethernets"] = {"cable": {"match": {"name": "e*"}, "dhcp4": True, "optional": True}}
        found["wifis"] = {
            "wlan0": {
                **how,
                "optional": True,
                "regulatory-domain": settings["wifi_country"],
                "access-points": {settings["wifi"]: {"password": settings["wifi_password"]}},
            }
        }
    else:
        found["ethernets"] = {"cable": {"match": {"name": "e*"}, **how}}
    return {"network": found}
