"""Counts the instructions of one record and one request, stage by stage, and compares them with table.json.

The benches named `instructions` run under callgrind. A row is service/provider/stage, with two counts: `hash`
in functions that hash and sign, for which valgrind knows no instructions of the processor, and `own` in all
others. A count that is more than 3 % above the table's is a fault.

The counts depend on the compiler, on valgrind, on libc and on what valgrind knows of the processor, which the
table names. Where one of them is another here, the commit that wrote the table is counted too, in the same
way, and takes the table's place. `--update` writes the table. The last line is the verdict as JSON.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "instructions"
TABLE = HERE / "table.json"
OUT = ROOT / "target" / "instructions"
BASE = OUT / "base"
# There from the first unit of the base that is built until none is left.
MARK = OUT / "base-is-built"

MOST = 1.03
PARTS = ("own", "hash")

# Of the processor's features those by which a program chooses its code, as far as valgrind knows them.
FEATURES = {"ssse3", "cx16", "avx", "avx2"}

# Crates and C functions that hash, sign and verify. ring's random numbers are no part of it.
HASHES = re.compile(
    r"\b(sha2|hmac|digest|block_buffer|ctutils|cmov)::"
    r"|\bring::(digest|hmac|signature|ec|ed25519|limb|arithmetic|constant_time)\b"
    r"|\bring_core_\w+"
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--valgrind", required=True, type=pathlib.Path, help="valgrind")
    parser.add_argument("--runner", required=True, type=pathlib.Path, help="gungraun-runner")
    parser.add_argument("--update", action="store_true", help="write the table")
    options = parser.parse_args()
    forget_base()
    here = {"environment": environment(options), "rows": count(ROOT, options)}
    if options.update:
        TABLE.write_text(written(here))
        return end(here, "nothing", [])
    if not TABLE.exists():
        return end(here, "nothing", ["there is no table: make instructions ARGS=--update"])
    table = json.loads(TABLE.read_text())
    faults = [
        f"{row} is {'not counted any more' if row in table['rows'] else 'not in the table'}: "
        "make instructions ARGS=--update"
        for row in sorted(table["rows"].keys() ^ here["rows"].keys())
    ]
    other = differing(table["environment"], here["environment"])
    if not other:
        return end(here, "table", faults + rises(table["rows"], here["rows"]))
    print("the table is of " + ", ".join(other), file=sys.stderr)
    commit = base_commit()
    print(f"counting {commit[:12]}, which wrote the table, to compare with", file=sys.stderr)
    return end(here, commit, faults + rises(count_base(commit, options), here["rows"]))


def environment(options):
    """What the counts depend on apart from the code."""

    def said(*command):
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.split(":")[1].split() for line in lines if re.match("flags|Features", line)), [])
    kernel = os.uname()
    return {
        "rustc": said("rustc", "--version").strip(),
        "valgrind": said(options.valgrind, "--version").strip(),
        "libc": os.confstr("CS_GNU_LIBC_VERSION"),
        "cpu": " ".join([kernel.machine, *sorted(FEATURES & set(flags))]),
    }


def differing(table, here):
    return [f"{name} {table.get(name)}, not {here[name]}" for name in here if table.get(name) != here[name]]


def count(tree, options):
    """Builds the benches of a tree, runs them, and returns the rows."""
    home = OUT / ("counts" if tree == ROOT else "counts-of-base")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    channel = re.search('channel = "(.*)"', (ROOT / "rust-toolchain.toml").read_text()).group(1)
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(target()),
        "CARGO_INCREMENTAL": "0",
        "RUSTUP_TOOLCHAIN": channel,
        "GUNGRAUN_HOME": str(home),
        "GUNGRAUN_RUNNER": str(options.runner.resolve()),
        "GUNGRAUN_VALGRIND_BIN": str(options.valgrind.resolve()),
        "GUNGRAUN_NOSUMMARY": "true",
        "GUNGRAUN_PARALLEL": str(os.cpu_count() or 1),
    }
    command = ["cargo", "--locked", "--config", HERE / "profile.toml", "bench", "--profile", "test"]
    command += ["--workspace", "--bench", "instructions"]
    build = subprocess.run([*command, "--no-run"], cwd=tree, env=environment, check=False)
    if build.returncode != 0:
        sys.exit("the benches do not build")
    run = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"{run.stdout}{run.stderr}\nthe benches fail")
    rows = {}
    for file in sorted(home.rglob("callgrind.*.out")):
        # package/bench/group/stage.provider/
        stage, provider = file.parent.name.rsplit(".", 1)
        service = file.parent.parent.name
        rows[f"{service}/{provider}/{stage}"] = costs(file)
    if not rows:
        sys.exit(f"the benches left no counts in {home}")
    return rows


def costs(file):
    """The instructions of each function's own, in the two parts."""
    found = collections.Counter()
    names, function, called, total = {}, None, False, None
    for line in file.read_text(errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key == "fn":
            number = re.match(r"\((\d+)\)(?: (.*))?$", value)
            if number and number.group(2):
                names[number.group(1)] = number.group(2)
            function = names[number.group(1)] if number else value
        elif key == "calls":
            # The next line is what the callee costs, which is counted there.
            called = True
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if not called:
                found["hash" if HASHES.search(function) else "own"] += int(line.split()[1])
            called = False
        elif line.startswith(("summary:", "totals:")):
            total = int(line.split()[1])
    if total is None or sum(found.values()) != total:
        sys.exit(f"{file} has {total} instructions, and its functions have {sum(found.values())}")
    return {part: found[part] for part in PARTS}


def rises(before, after):
    """Each count that rose by too much."""
    return [
        f"{row} {part} {was:,} -> {now:,} ({f'+{100 * now / was - 100:.1f} %' if was else 'new'})"
        for row in sorted(before.keys() & after.keys())
        for part in PARTS
        for was, now in [(before[row][part], after[row][part])]
        if now > was * MOST
    ]


def end(here, against, faults):
    for row, parts in sorted(here["rows"].items()):
        print(f"{row:45}" + "".join(f"{part:>7} {parts[part]:>8,}" for part in PARTS))
    for fault in faults:
        print(fault, file=sys.stderr)
    verdict = {"holds": not faults, "rows": len(here["rows"]), "against": against, "faults": faults}
    print(json.dumps(verdict))
    return 1 if faults else 0


def written(here):
    """The table, a row a line."""
    rows = ",\n".join(f"    {json.dumps(row)}: {json.dumps(parts)}" for row, parts in sorted(here["rows"].items()))
    environment = json.dumps(here["environment"], indent=2).replace("\n", "\n  ")
    return f'{{\n  "environment": {environment},\n  "rows": {{\n{rows}\n  }}\n}}\n'


def target():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def base_commit():
    if git("rev-parse", "--is-shallow-repository") == "true":
        sys.exit("the commit that wrote the table is to be counted: git fetch --unshallow")
    return git("log", "-1", "--format=%H", "--", str(TABLE.relative_to(ROOT)))


def count_base(commit, options):
    """The rows of a commit, which is built where this tree is, so that nothing but our own is built again."""
    subprocess.run(["git", "worktree", "remove", "--force", BASE], cwd=ROOT, capture_output=True, check=False)
    shutil.rmtree(BASE, ignore_errors=True)
    git("worktree", "prune")
    git("worktree", "add", "--detach", str(BASE), commit)
    MARK.touch()
    try:
        return count(BASE, options)
    finally:
        forget_base()
        git("worktree", "remove", "--force", str(BASE))


def forget_base():
    """Cargo would take what was built of the base for this tree's: makes it build that again."""
    if not MARK.exists():
        return
    since = MARK.stat().st_mtime
    for folder in target().glob("debug/.fingerprint/sluice-*"):
        if any(file.stat().st_mtime >= since for file in folder.iterdir()):
            shutil.rmtree(folder)
    MARK.unlink()


if __name__ == "__main__":
    sys.exit(main())
