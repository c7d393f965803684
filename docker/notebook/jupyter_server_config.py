"""Settings of a person's JupyterLab behind the gateway."""

import os
from pathlib import Path

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - what Jupyter gives to its settings

# The gateway has asked for the password, and nobody else is let at the socket.
c.ServerApp.sock = os.environ["NOTEBOOK_SOCKET"]
c.ServerApp.sock_mode = "0666"
c.IdentityProvider.token = ""
c.ServerApp.base_url = "/lab/"
# Under whatever name browsers find the gateway.
c.ServerApp.allow_remote_access = True
c.ServerApp.trust_xheaders = True
c.ServerApp.root_dir = str(Path.cwd())
c.ServerApp.open_browser = False
c.ServerApp.quit_button = False
# It would let the browser at any port of this machine.
c.ServerApp.jpserver_extensions = {"jupyter_server_proxy": False}

# Other programs of this machine can listen to what a port says.
c.KernelManager.transport = "ipc"
c.MappingKernelManager.cull_idle_timeout = max(1, int(60 * float(os.environ["NOTEBOOK_IDLE_MINUTES"])))
c.MappingKernelManager.cull_interval = min(60, c.MappingKernelManager.cull_idle_timeout)
# Also where a browser was left open.
c.MappingKernelManager.cull_connected = True
c.TerminalManager.cull_inactive_timeout = c.MappingKernelManager.cull_idle_timeout

# What a node image has is what the cluster has; and nobody out there has to know that this is here.
c.LabApp.extension_manager = "readonly"
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
