"""Settings of every kernel."""

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - what IPython gives to its settings
c.IPKernelApp.extensions = ["tritoncluster.kernel"]
