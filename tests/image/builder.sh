#!/usr/bin/env bash
# Makes a builder image for the Dockerfile where no registry of images is reachable: a Debian root with what
# the official image of Rust has of use here, and this machine's toolchain. Arguments: image, version of Rust.
set -euo pipefail
image=$1 version=$2
toolchain=$(rustup which --toolchain "$version" rustc)
toolchain=${toolchain%/bin/rustc}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mmdebstrap --quiet --variant=apt --include=gcc,g++,libc6-dev,make,perl,ca-certificates \
  --aptopt='APT::Sandbox::User "root"' bookworm "$dir/root" >&2
mkdir -p "$dir/root/usr/local/cargo"
cp -a "$toolchain/bin" "$toolchain/lib" "$dir/root/usr/local/"
rm -rf "$dir"/root/var/cache/apt/* "$dir"/root/var/lib/apt/lists/*
container=$(buildah from scratch)
trap 'buildah rm "$container" > /dev/null; rm -rf "$dir"' EXIT
buildah add --quiet "$container" "$dir/root" / >&2
buildah config --env PATH=/usr/local/bin:/usr/bin:/bin --env CARGO_HOME=/usr/local/cargo "$container"
buildah commit --quiet "$container" "$image" >&2
