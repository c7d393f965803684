"""Names of people and programs, as a line of a log or a client's name can have them, whoever has made them up."""

import re

#: What every certificate's name of this project's begins with.
OURS = "tritoncluster "
#: What a name of somebody else's making may take in a log.
LONGEST = 100


def plain(text: str) -> str:
    """Give a text as one line of a log can have it, which nobody is to forge."""
    return "".join(letter for letter in text if letter.isprintable())[:LONGEST]


def person(common_name: str) -> str:
    """Give whose a certificate is, by its common name, without what all of them begin with."""
    return plain(common_name.removeprefix(OURS))


def in_client_name(text: str) -> str:
    """Give a text as a part of the name of a Dask client."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)
