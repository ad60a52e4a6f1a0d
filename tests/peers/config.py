"""What a peer must know of one of Cairn's configs."""
import re
from pathlib import Path


def read(path, overrides=()):
    """The whole numbers of a config, by field, after overrides as `cairn` takes them."""
    text = "\n".join([Path(path).read_text(), *(override.replace("=", ": ", 1) for override in overrides)])
    return {name: int(value) for name, value in
            re.findall(r"^\s*(?:\w+\.)?(\w+): (\d+)\s*(?:#.*)?$", text, re.MULTILINE)}
