"""The image's bill of materials: one CycloneDX document of what Cargo, C and Debian put into it.

cargo-cyclonedx writes one document for each crate, with a serial number and a time of its own. What is
linked into the binaries is the union of their components, and what Cargo does not know of is added here.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

VERSION = "0.5.9"
PACKAGES = ("ingest", "processor", "processor/ctl")
# Crates that carry a library in C, whose version is their build metadata.
CARRIERS = {
    "openssl-src": ("openssl", "Apache-2.0"),
    "rdkafka-sys": ("librdkafka", "BSD-2-Clause"),
    "zstd-sys": ("zstd", "BSD-3-Clause"),
}
# What the build stage's Debian puts into the image: libraries that are linked in, and the CA bundle.
DEBIAN = ("libc6-dev", "libgcc-12-dev", "ca-certificates")


def cargo(root):
    """The documents of the packages, and none of their files left in the tree."""
    home = Path(os.path.realpath(root / ".cache")) / f"cargo-cyclonedx-{VERSION}"
    tool = home / "bin" / "cargo-cyclonedx"
    if not tool.exists():
        print(f"building cargo-cyclonedx {VERSION} into {home}", file=sys.stderr)
        install = ["cargo", "install", "--quiet", "--locked", "--root", home, f"cargo-cyclonedx@{VERSION}"]
        subprocess.run(install, check=True, stdout=sys.stderr)
    name = "sluice-image"
    written = [root / package / f"{name}.json" for package in PACKAGES]
    command = [tool, "cyclonedx", "--format", "json", "--spec-version", "1.5", "--all", "--quiet"]
    host = subprocess.run(["rustc", "--print", "host-tuple"], capture_output=True, text=True, check=True)
    command += ["--target", host.stdout.strip(), "--override-filename", name]
    try:
        subprocess.run(command, check=True, cwd=root, stdout=sys.stderr)
        return [json.loads(path.read_text()) for path in written]
    finally:
        for path in root.glob(f"**/{name}.json"):
            if "target" not in path.parts:
                path.unlink()


def debian(builder):
    """Versions of the builder's packages; none where it is another system."""
    container = subprocess.run(["buildah", "from", builder], capture_output=True, text=True, check=True)
    container = container.stdout.strip()
    try:
        query = ["dpkg-query", "-W", "-f", "${Package} ${Version}\\n", *DEBIAN]
        command = ["buildah", "run", "--isolation", "chroot", container, "--", *query]
        done = subprocess.run(command, capture_output=True, text=True)
        return dict(line.split() for line in done.stdout.splitlines())
    finally:
        subprocess.run(["buildah", "rm", container], capture_output=True, check=True)


def merge(documents):
    """The union of components and dependencies; required where any document requires it."""
    components, dependencies = {}, {}
    for document in documents:
        own = document["metadata"]["component"]
        # Its targets are the binaries and libraries that the crate builds, and say nothing more.
        for component in [{k: v for k, v in own.items() if k != "components"}, *document["components"]]:
            known = components.setdefault(component["bom-ref"], component)
            if component.get("scope") == "required":
                known["scope"] = "required"
        for entry in document["dependencies"]:
            dependencies.setdefault(entry["ref"], set()).update(entry.get("dependsOn", []))
    return components, dependencies


def add(components, dependencies, parent, name, version, purl, licence):
    reference = f"{name}@{version}"
    components[reference] = {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "scope": "required",
        "purl": purl,
        **({"licenses": [{"license": {"id": licence}}]} if licence else {}),
    }
    dependencies.setdefault(parent, set()).add(reference)
    dependencies.setdefault(reference, set())


def write(root, path, builder, rust, version, digest):
    """Writes the bill of materials. Returns it. The same sources and builder give the same bytes."""
    documents = cargo(root)
    binaries = [document["metadata"]["component"]["bom-ref"] for document in documents]
    components, dependencies = merge(documents)
    for component in list(components.values()):
        name, found = component["name"], component["version"]
        if name in CARRIERS:
            # Listed as a tool of the build, while what it carries is linked in.
            component["scope"] = "required"
            library, licence = CARRIERS[name]
            carried = found.split("+")[1].split(".", 1)[1] if "zstd." in found else found.split("+")[1]
            purl = f"pkg:generic/{library}@{carried}"
            add(components, dependencies, component["bom-ref"], library, carried, purl, licence)
    image = f"sluice@{version}"
    dependencies[image] = set(binaries)
    add(components, dependencies, image, "rust-std", rust, f"pkg:generic/rust@{rust}", None)
    for package, found in debian(builder).items():
        purl = f"pkg:deb/debian/{package}@{found.replace('+', '%2B')}?distro=bookworm"
        add(components, dependencies, image, package, found, purl, None)
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": documents[0]["specVersion"],
        "version": 1,
        "metadata": {
            "tools": [{"vendor": "CycloneDX", "name": "cargo-cyclonedx", "version": VERSION}],
            "component": {
                "type": "container",
                "bom-ref": image,
                "name": "sluice",
                "version": version,
                "purl": f"pkg:oci/sluice@{digest.replace(':', '%3A')}?tag={version}",
            },
        },
        "components": [components[reference] for reference in sorted(components)],
        "dependencies": [
            {"ref": reference, "dependsOn": sorted(needed)}
            for reference, needed in sorted(dependencies.items())
        ],
    }
    # Where the sources lie on this machine is nobody's concern.
    text = json.dumps(bill, indent=1, sort_keys=True).replace(f"file://{root}", "file:///sluice")
    path.write_text(text + "\n")
    return json.loads(text)
