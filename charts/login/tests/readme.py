"""Writes the table of values in README.md from the comments of values.yaml; `table` is what the test compares."""

import json
import re

import yaml

from render import CHART


def entries():
    """Yields (path, comment) of each value, in the file's order."""
    stack, comment = [], []
    for line in (CHART / "values.yaml").read_text().splitlines():
        if not line.strip():
            comment = []
        elif match := re.match(r"( *)# ?(.*)", line):
            comment.append(match.group(2))
        elif match := re.match(r"( *)([A-Za-z0-9]+):", line):
            depth = len(match.group(1)) // 2
            stack = stack[:depth] + [match.group(2)]
            yield ".".join(stack), " ".join(comment)
            comment = []
        else:
            comment = []


def lookup(values, path):
    for key in path.split("."):
        if not isinstance(values, dict) or key not in values:
            raise KeyError(path)
        values = values[key]
    return values


def table():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = ["| Value | Default | What it is |", "| --- | --- | --- |"]
    skipped = ()
    for path, comment in entries():
        if skipped and path.startswith(skipped):
            continue
        try:
            value = lookup(values, path)
        except KeyError:
            continue
        # A map with keys of the user's own, or of Kubernetes, is one value.
        if isinstance(value, dict) and value and not path.endswith(("resources", "nodeSelector")):
            continue
        if isinstance(value, dict):
            skipped = (*skipped, path + ".")
        rows.append(f"| `{path}` | `{json.dumps(value)}` | {comment.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def main():
    readme = CHART / "README.md"
    text = readme.read_text()
    new = re.sub(r"(<!-- values -->\n).*?(<!-- /values -->)", lambda m: m.group(1) + table() + m.group(2), text, flags=re.S)
    readme.write_text(new)


if __name__ == "__main__":
    main()
