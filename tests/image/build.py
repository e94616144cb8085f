"""Builds the image from the Dockerfile by buildah, without a daemon, and prints a verdict as one JSON object.

Usage: build.py [--builder IMAGE]. Leaves in target/image the OCI archive sluice-VERSION-ARCH.oci.tar and its
bill of materials sluice-VERSION-ARCH.cdx.json, and in buildah's store the image localhost/sluice:VERSION.
Ends with 1 where the image is larger than LIMIT or holds anything that it should not.
"""

import argparse
import gzip
import json
import subprocess
import sys
import tarfile
import time
import tomllib
from pathlib import Path

import sbom

ROOT = Path(__file__).resolve().parent.parent.parent
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
OUT = ROOT / "target" / "image"
# Bytes of the layers as a registry has them.
LIMIT = 40_000_000
BINARIES = {"sluice-ingest", "sluice-processor", "sluicectl"}
FILES = {f"usr/bin/{name}" for name in BINARIES} | {"etc/ssl/certs/ca-certificates.crt"}


def run(*command, **options):
    """What a command prints; its standard error is ours."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} … ended with {done.returncode}")
    return done.stdout.strip()


def version():
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def revision():
    """The commit that is checked out, and whether the tree differs from it in what the image is made of."""
    made_of = ["Dockerfile", ".dockerignore", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"]
    made_of += ["ingest", "processor", "schemas"]
    dirty = run("git", "status", "--porcelain", "--", *made_of) != ""
    return run("git", "rev-parse", "HEAD"), dirty


def rust():
    return tomllib.loads((ROOT / "rust-toolchain.toml").read_text())["toolchain"]["channel"]


def builder(image):
    """The builder image; one of this machine's own where none is given."""
    if image:
        return image
    image = f"localhost/sluice-builder:{rust()}-bookworm"
    if subprocess.run(["buildah", "inspect", "--type", "image", image], capture_output=True).returncode:
        print(f"making the builder image {image}", file=sys.stderr)
        run(ROOT / "tests" / "image" / "builder.sh", image, rust())
    return image


def build(builder, tag, commit, dirty):
    epoch = run("git", "show", "--no-patch", "--format=%ct", commit)
    arguments = {
        "BUILDER": builder,
        "VERSION": version(),
        "REVISION": commit + ("-dirty" if dirty else ""),
        "SOURCE_DATE_EPOCH": epoch,
    }
    given = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    # A proxy's authority is known to this machine and not to the builder.
    secret = ["--secret", f"id=ca,src={AUTHORITIES}"] if AUTHORITIES.exists() else []
    command = ["buildah", "bud", "--isolation", "chroot", "--timestamp", epoch, "--tag", tag]
    command += [*secret, *given, "."]
    if subprocess.run(command, stdout=sys.stderr, cwd=ROOT).returncode:
        sys.exit("buildah cannot build the Dockerfile: read above why")


def archive(tag, path):
    """Writes the image as an OCI archive. Returns its digest, its configuration and its layers."""
    path.unlink(missing_ok=True)
    run("buildah", "push", "--quiet", tag, f"oci-archive:{path}:{tag.split('/')[1]}")
    with tarfile.open(path) as tar:

        def blob(descriptor):
            return tar.extractfile("blobs/" + descriptor["digest"].replace(":", "/"))

        index = json.load(tar.extractfile("index.json"))
        manifest = json.load(blob(index["manifests"][0]))
        config = json.load(blob(manifest["config"]))
        files = {}
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=gzip.open(blob(layer))) as content:
                files |= {entry.name.lstrip("./"): entry for entry in content if not entry.isdir()}
    return index["manifests"][0]["digest"], config, manifest["layers"], files


def faults(config, size, files):
    """What is not as docs/image.md says."""
    if size > LIMIT:
        yield f"the layers have {size} bytes, and {LIMIT} are the limit"
    for name in sorted(files.keys() ^ FILES):
        yield f"{name} is {'in the image and not expected' if name in files else 'not in the image'}"
    for name, entry in files.items():
        if entry.uid or entry.gid or entry.mode & 0o7022:
            yield f"{name} could be changed by others: {entry.uid}:{entry.gid} {entry.mode:o}"
    if config["config"].get("User") != "65532:65532":
        yield f"the user is {config['config'].get('User')}"
    for name in ("Entrypoint", "Cmd"):
        if config["config"].get(name):
            yield f"{name} is set: {config['config'][name]}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--builder", help="an image with Rust, a C compiler, make and perl; with its digest")
    options = parser.parse_args()
    began = time.monotonic()
    OUT.mkdir(parents=True, exist_ok=True)
    commit, dirty = revision()
    image = builder(options.builder)
    tag = f"localhost/sluice:{version()}"
    build(image, tag, commit, dirty)
    staged = OUT / "sluice.oci.tar"
    digest, config, layers, files = archive(tag, staged)
    name = f"sluice-{version()}-{config['architecture']}"
    staged.rename(OUT / f"{name}.oci.tar")
    bill = sbom.write(ROOT, OUT / f"{name}.cdx.json", image, rust(), version(), digest)
    size = sum(layer["size"] for layer in layers)
    found = list(faults(config, size, files))
    verdict = {
        "ok": not found,
        "faults": found,
        "image": tag,
        "digest": digest,
        "builder": image,
        "revision": commit,
        "dirty": dirty,
        "compressed_bytes": size,
        "limit_bytes": LIMIT,
        "files": {name: entry.size for name, entry in sorted(files.items())},
        "archive": str((OUT / f"{name}.oci.tar").relative_to(ROOT)),
        "sbom": str((OUT / f"{name}.cdx.json").relative_to(ROOT)),
        "sbom_components": len(bill["components"]),
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(verdict, indent=2))
    sys.exit(0 if verdict["ok"] else 1)


if __name__ == "__main__":
    main()
