"""What decides about incoming connections on a host."""

from __future__ import annotations

import json
import re

from ansible.module_utils.tritoncluster_host import output


def firewall() -> dict[str, object]:
    """Name what decides about incoming connections, "" for nothing; its chain, without a command; our rules in it."""
    rules = output("ufw", "status")
    if "Status: active" in rules:
        return {"name": "ufw", "chain": "", "rules": our_rules(rules)}
    if output("firewall-cmd", "--state") == "running":
        return {"name": "firewalld", "chain": "", "rules": []}
    chain = closed_chain(json.loads(output("nft", "--json", "list", "ruleset") or "{}").get("nftables", []))
    return {"name": "nftables" if chain else "", "chain": chain, "rules": []}


def our_rules(status: str) -> list[dict[str, str]]:
    """Choose our rules of those that ufw lists: ports, protocol and source, in its own words."""
    found = re.findall(r"^(\S+)/(tcp|udp) +ALLOW +(\S+) +# tritoncluster$", status, re.MULTILINE)
    return [{"ports": ports, "protocol": protocol, "source": source} for ports, protocol, source in found]


def closed_chain(ruleset: list[dict[str, dict[str, object]]]) -> str:
    """Give the chain of an nftables ruleset that refuses what no rule of it lets in, as "inet filter input"; or ""."""
    for chain in (each["chain"] for each in ruleset if "chain" in each):
        if chain.get("hook") != "input" or chain["family"] == "ip6":
            continue
        place = (chain["family"], chain["table"], chain["name"])
        rules = [each["rule"] for each in ruleset if "rule" in each]
        own = [rule["expr"] for rule in rules if (rule["family"], rule["table"], rule["chain"]) == place]
        words = [{word for statement in rule for word in statement} for rule in own]
        if chain["policy"] == "drop" or any(found & {"drop", "reject"} and "match" not in found for found in words):
            return " ".join(place)
    return ""
