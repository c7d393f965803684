"""What is on a host, line by line, so that two records can be compared."""

from concurrent.futures import ThreadPoolExecutor

from room import root

#: Kept by apt, dpkg, systemd, Docker's command line and Ansible for themselves, whatever is installed or run.
OWN = [
    "/root/.docker", "/home/someone/.ansible", "/root/.ansible", "/root/.ansible_async",
    "/var/backups", "/var/cache", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/systemd", "/var/log",
    "/etc/.updated", "/var/.updated", "/etc/passwd-", "/etc/shadow-", "/etc/group-", "/etc/gshadow-",
]  # fmt: skip
SCRIPT = f"""
prune='( {" -o ".join(f"-path {folder}" for folder in OWN)} ) -prune'
find / -xdev $prune -o -type f -exec sha1sum {{}} + | sort --key 2
find / -xdev $prune -o -printf 'file %p %y %m %u:%g %l\\n' |
    grep --invert-match --extended-regexp '^file /var/lib/(docker|containerd) ' | sort
getent passwd | sed 's/^/user /'
getent group | sed 's/^/group /'
dpkg-query --show --showformat 'package ${{Package}} ${{db:Status-Abbrev}}\\n'
systemctl list-unit-files --no-legend --plain --type service,socket,timer,path | sed 's/^/unit /'
systemctl list-units --no-legend --plain --type service,socket,timer --state active |
    sed -n 's/^\\([^ ]*\\) .*/active \\1/p' |
    # What a first start does, and a later one does not.
    grep --invert-match --extended-regexp '^active (ldconfig|systemd-(journal-catalog-update|sysusers|update-done))[.]'
# A host that was at another address for a while has another number for its interface.
ip -brief link | sed 's/^\\([^ ]*\\) .*/link \\1/; s/veth.*/veth/; s/eth[0-9]*@if[0-9]*/eth/'
# Chains of the kernel's without rules, which let all through, say nothing.
nft --stateless list ruleset 2>/dev/null |
    grep --perl-regexp '^\\t\\t(?!type .* policy accept;$)|chain (?!INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING)' |
    # Names of the test's network, at ports that each start of the host chooses.
    grep --invert-match --fixed-strings 127.0.0.11 | sed 's/^\\s*/rule /'
if type docker >/dev/null; then
    docker ps --all --no-trunc --format 'container {{{{.ID}}}} {{{{.Names}}}} {{{{.State}}}}'
    docker images --all --no-trunc --format 'image {{{{.ID}}}} {{{{.Repository}}}}:{{{{.Tag}}}}'
    docker volume ls --format 'volume {{{{.Name}}}}'
    docker network ls --format 'network {{{{.Name}}}}'
else
    find /var/lib/docker /var/lib/containerd -mindepth 1 -maxdepth 1 -printf 'data %p\\n' | sort
fi 2>/dev/null
true
"""


def record(name):
    """Give all that is on a host."""
    return root(name, SCRIPT).splitlines()


def records(names):
    """Give host -> all that is on it."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(names, pool.map(record, names), strict=True))


def difference(before, after):
    """Give what was added to a record, and what is gone from it."""
    return [f"+ {line}" for line in sorted(set(after) - set(before))] + [
        f"- {line}" for line in sorted(set(before) - set(after))
    ]
