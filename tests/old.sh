#!/bin/bash
# Builds the services of an earlier commit: `old.sh COMMIT FOLDER` leaves their binaries in FOLDER, for the
# fault schedules' kind `upgrade`. That build has a target folder of its own, so nothing of this one changes.
set -eu -o pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
commit=$1
folder=$2
tree="$folder/tree"

cleanup() { git -C "$root" worktree remove --force "$tree" 2> /dev/null || true; }
trap cleanup EXIT

mkdir -p "$folder"
cleanup
git -C "$root" worktree add --quiet --force --detach "$tree" "$commit"
# For Cargo, crates of one name and version differ by their folder alone, so this needs its own.
(cd "$tree" && CARGO_TARGET_DIR="$folder/target" cargo build --locked -p sluice-ingest -p sluice-processor)
cp "$folder/target/debug/sluice-ingest" "$folder/target/debug/sluice-processor" "$folder/"
rm -rf "$folder/target"
