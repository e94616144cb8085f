"""The commands of sluicectl that the chart renders and that runbooks and docs/operating.md name: it takes them."""

import json
import re
import shlex

from common import BINARIES, ROOT, command, rendered, values_files

RUNBOOKS = ROOT / "docs" / "runbooks"
OPERATING = ROOT / "docs" / "operating.md"
# What a runbook's reader puts in.
PUT_IN = {"P": "0", "N": "7", "REASON": "malformed_json"}
# The settings are at fault: the command line has been read.
EXIT_CONFIG = 78


def containers(document):
    """Each container of an object that runs sluicectl."""
    if isinstance(document, dict):
        if document.get("command") == ["/usr/bin/sluicectl"]:
            yield document
        for each in document.values():
            yield from containers(each)
    elif isinstance(document, list):
        for each in document:
            yield from containers(each)


def written():
    """Each list of arguments, with where it stands."""
    for values in values_files():
        for document in rendered(values):
            for container in containers(document):
                yield f"{values.name}: {document['kind']} {document['metadata']['name']}", container["args"]
    text = OPERATING.read_text()
    for line in re.findall(r"^in_cluster \S+ +(.+)$", text, re.MULTILINE):
        yield f"{OPERATING.name}: in_cluster", shlex.split(line)
    for path in sorted(RUNBOOKS.glob("*.md")):
        for line in re.findall(r"^sluicectl (.+)$", path.read_text(), re.MULTILINE):
            yield path.name, [PUT_IN.get(word, word) for word in shlex.split(line)]


def taken(counts):
    """sluicectl reads each command line, and stops at settings that are not there."""
    if not (BINARIES / "sluicectl").exists():
        raise SystemExit(f"{BINARIES} has no sluicectl: cargo build, or make chart without run.py alone")
    every = {json.dumps(arguments): where for where, arguments in written()}
    counts["commands"] = len(every)
    for arguments, where in every.items():
        words = json.loads(arguments)
        answer = command(BINARIES / "sluicectl", *words, env={"SLUICE_CONFIG": "/nowhere/settings.yaml"})
        if answer.returncode != EXIT_CONFIG:
            yield f"{where}: sluicectl {shlex.join(words)}: {answer.returncode}: {answer.stderr.strip()}"
    if not any(where.startswith(OPERATING.name) for where in every.values()):
        yield f"{OPERATING.name} has no line that begins with in_cluster"
