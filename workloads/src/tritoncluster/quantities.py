"""Durations and sizes as people read them."""


def seconds(value: float) -> str:
    """Spell a duration: "0.47 s", "43.6 s", "2 min 49 s", "1 h 05 min", "12 days", "31,000 years"."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    days = whole // 86400
    return f"{days:,} days" if days < 1000 else f"{days // 365:,} years"


def memory(size: int) -> str:
    """Spell a number of bytes; 0 is Dask's way to say that there is no limit."""
    if not size:
        return "no limit"
    gib = size / 2**30
    return f"{gib:.1f} GiB" if gib >= 1 else f"{size / 2**20:.0f} MiB"
