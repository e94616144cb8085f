"""Runs the targets of fuzzing under libFuzzer, and ends with the verdict as one JSON object on one line.

Each target begins with its kept inputs in tests/fuzz/corpus/ and what earlier runs left in target/fuzz/. An
input that a target panics on, hangs on or takes much memory for is a finding: its file, with which the target
can be run again, is named on standard error and in the verdict.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "fuzz"
BUILT = ROOT / "target" / "fuzz"
CORPUS = HERE / "corpus"

# No target needs as long for one input, in seconds, or as much memory, in MiB; no longer input is looked at.
HANGS = 10
MEMORY = 2048
LONGEST = 8192


def main():
    names = sorted(folder.name for folder in CORPUS.iterdir())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cargo-fuzz", required=True, type=pathlib.Path, help="the binary of cargo-fuzz")
    parser.add_argument("--seconds", type=int, default=60, help="how long each target runs")
    parser.add_argument("--target", action="append", choices=names, help="this one alone; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="how many targets run at once")
    options = parser.parse_args()
    environment = nightly(options.cargo_fuzz)
    binary = build(environment)
    with concurrent.futures.ThreadPoolExecutor(max(options.jobs, 1)) as pool:
        each = pool.map(lambda name: run(binary, name, options.seconds), options.target or names)
        targets = list(each)
    holds = all(target["findings"] == 0 and target["executions"] > 0 for target in targets)
    print(json.dumps({"holds": holds, "targets": targets}))
    return 0 if holds else 1


def nightly(cargo_fuzz):
    """The environment under which cargo builds by a nightly compiler."""
    listed = subprocess.run(["rustup", "toolchain", "list"], capture_output=True, text=True, check=False)
    if "nightly" not in listed.stdout:
        sys.exit("fuzzing needs a nightly compiler: rustup toolchain install nightly --profile minimal")
    path = f"{cargo_fuzz.parent.resolve()}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "RUSTUP_TOOLCHAIN": "nightly", "PATH": path}
    manifest = HERE / "Cargo.toml"
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--manifest-path", manifest]
    if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit(f"tests/fuzz/Cargo.lock is stale: cargo update -w --manifest-path {manifest}")
    return environment


def build(environment):
    """The binary with all targets. The first build takes some ten minutes: Kafka's client is part of it."""
    print("building the targets", file=sys.stderr)
    command = ["cargo", "fuzz", "build", "--fuzz-dir", HERE, "--sanitizer", "none", "--no-cfg-fuzzing",
               "--target-dir", BUILT, "fuzz"]
    subprocess.run(command, env=environment, cwd=ROOT, stdout=sys.stderr, check=True)
    version = subprocess.run(["rustc", "-vV"], env=environment, capture_output=True, text=True, check=True)
    host = re.search(r"^host: (.*)$", version.stdout, re.MULTILINE).group(1)
    return BUILT / host / "release" / "fuzz"


def run(binary, name, seconds):
    """Runs one target, and counts what it did and found."""
    learned, artifacts = BUILT / "corpus" / name, BUILT / "artifacts" / name
    for folder in (learned, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(artifacts.iterdir())
    log = BUILT / f"{name}.log"
    command = [binary, f"-max_total_time={seconds}", f"-timeout={HANGS}", f"-rss_limit_mb={MEMORY}",
               f"-max_len={LONGEST}", "-print_final_stats=1", f"-artifact_prefix={artifacts}/", learned,
               CORPUS / name]
    begun = time.monotonic()
    with log.open("wb") as output:
        environment = {**os.environ, "SLUICE_FUZZ_TARGET": name, "RUST_BACKTRACE": "0"}
        status = subprocess.run(command, env=environment, stdout=output, stderr=output, cwd=BUILT,
                                check=False).returncode
    took = time.monotonic() - begun
    text = log.read_text(errors="replace")
    counts = re.findall(r"number_of_executed_units: (\d+)", text)
    counts = counts or re.findall(r"^#(\d+)\t", text, re.MULTILINE)
    executions = int(counts[-1]) if counts else 0
    found = sorted(str(file.relative_to(ROOT)) for file in set(artifacts.iterdir()) - before)
    target = {"target": name, "executions": executions, "seconds": round(took, 1),
              "findings": max(len(found), int(status != 0))}
    print(f"{name}: {executions} executions in {took:.0f} s, {target['findings']} findings", file=sys.stderr)
    if target["findings"]:
        target["inputs"] = found
        print(f"  status {status}, inputs {found}, log {log.relative_to(ROOT)}", file=sys.stderr)
        for line in re.findall(r"^.* panicked at .*\n.*$", text, re.MULTILINE)[:1]:
            print(f"  {line}", file=sys.stderr)
    return target


if __name__ == "__main__":
    sys.exit(main())
