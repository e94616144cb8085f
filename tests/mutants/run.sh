#!/bin/bash
# Breaks the engine on purpose, one patch at a time, and asks whether its tests notice, the simulation above
# all: a proof that finds no fault in what is broken proves nothing. Guards that compare calls are left out,
# for they notice any change. The patches are applied to a copy of the sources.
# `run.sh NAME` tries one patch alone. Ends standard output with one JSON object; exit status 0 only where
# each broken build was caught.
set -eu -o pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
tree="$root/.cache/mutants"
seeds=${SLUICE_SEEDS:-2000}
caught=0
results=()

cleanup() { rm -rf "$tree"; }
trap cleanup EXIT

rm -rf "$tree"
mkdir -p "$tree"
tar -C "$root" --exclude=./target --exclude=./.cache --exclude=./.git -cf - . | tar -C "$tree" -xf -
# A repository of its own, for within ours the copy is ignored. `make check` asks the same tool.
git -C "$tree" init --quiet
# Third-party crates come from the checkout's own target folder. Cargo distinguishes our crates there by their
# version, not by their place: so the copy's is its own.
sed -i 's/^version = "\(.*\)"$/version = "\1-mutant"/' "$tree/Cargo.toml"
sed -i '/^name = "sluice-/{n;s/"$/-mutant"/}' "$tree/Cargo.lock"

for patch in "$root"/tests/mutants/${1:-*}.patch; do
  name=$(basename "$patch" .patch)
  if ! git -C "$tree" apply "$patch" >&2; then
    echo "$name: the patch does not fit the sources any more" >&2
    results+=("{\"mutant\":\"$name\",\"caught\":false,\"why\":\"the patch does not fit\"}")
    continue
  fi
  # Cargo goes by the time of a file.
  git -C "$tree" apply --numstat "$patch" | cut -f 3 | (cd "$tree" && xargs touch)
  echo "$name: building and running $seeds seeds" >&2
  build=$(cd "$tree" && CARGO_TARGET_DIR="$root/target" cargo test --locked --quiet -p sluice-processor --lib \
    --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
  log=$(cd "$tree/processor" && SLUICE_SEEDS=$seeds RUST_BACKTRACE=0 "$build" --skip guards 2>&1) && status=0 || status=$?
  # A seed says what is wrong in its last line, another test by its name.
  verdict=$(grep -aoE '^seed [0-9]+: .*' <<< "$log" | tail -1 | cut -c 1-200 | tr -d '"\\' || true)
  failed=$(grep -aoE '^test [a-z_:]+ \.\.\. FAILED' <<< "$log" | cut -d ' ' -f 2 | tail -1 || true)
  verdict=${verdict:-$failed}
  if [ "$status" != 0 ] && [ -n "$verdict" ]; then
    caught=$((caught + 1))
    echo "$name: caught by $verdict" >&2
    results+=("{\"mutant\":\"$name\",\"caught\":true,\"by\":\"simulation\",\"verdict\":\"$verdict\"}")
  else
    echo "$name: NOT caught by $seeds seeds" >&2
    results+=("{\"mutant\":\"$name\",\"caught\":false,\"why\":\"all seeds hold\"}")
  fi
  git -C "$tree" apply -R "$patch"
  git -C "$tree" apply --numstat "$patch" | cut -f 3 | (cd "$tree" && xargs touch)
done

count=${#results[@]}
holds=$([ "$caught" = "$count" ] && echo true || echo false)
printf '{"holds":%s,"mutants":%s,"caught":%s,"results":[%s]}\n' \
  "$holds" "$count" "$caught" "$(IFS=,; echo "${results[*]}")"
[ "$holds" = true ]
