"""One Dask cluster out of the machines you have: jobs, uneven workers, reports and the command line."""


def __getattr__(name: str) -> str:
    # Read when asked for: importlib.metadata would be a third of the time that --help takes.
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
