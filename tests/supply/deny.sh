#!/usr/bin/env bash
# What we depend on: licences, sources, bans and duplicates by deny.toml, and the advisories of RustSec.
#
#   deny.sh CARGO-DENY FOLDER [--require-advisories]
#
# The advisories come from ADVISORY_DB, an archive or a folder of the database's files, where it is set, else
# from the online database. Where neither can be had the verdict says so, and --require-advisories makes that
# a fault. FOLDER keeps the unpacked copy.
set -euo pipefail

deny=$1 folder=$2 require=${3:-}
# The name that cargo-deny gives the database: it takes a copy in a folder of this name alone.
copy=$folder/advisory-db-3157b0e258782691
config=$folder/deny.toml
required=(licenses bans sources)
mkdir -p "$folder"

verdict() { # holds, how the advisories were checked
  printf '{"holds":%s,"checked":["licenses","bans","sources"],"advisories":"%s"}\n' "$1" "$2"
  test "$1" = true
}

fail() {
  verdict false "$1" || exit 1
}

"$deny" --locked check --hide-inclusion-graph "${required[@]}" >&2 || fail "not reached"

# A copy is months old by nature: its age is printed, and is no fault.
cp deny.toml "$config"
printf '\n[advisories]\ndb-path = "%s"\nmaximum-db-staleness = "P3650D"\n' "$folder" >> "$config"

if test -n "${ADVISORY_DB:-}"; then
  echo "reading the advisories from ADVISORY_DB" >&2
  rm -rf "$copy" && mkdir "$copy"
  if test -d "$ADVISORY_DB"; then cp -R "$ADVISORY_DB/." "$copy"; else tar -xzf "$ADVISORY_DB" -C "$copy"; fi
  rm -rf "$copy/.git"
  git -C "$copy" init --quiet
  git -C "$copy" add --all --force
  git -C "$copy" -c user.name=copy -c user.email=copy@localhost commit --quiet --message copy
  from="a copy"
elif timeout 120 "$deny" --locked --config "$config" fetch db > "$folder/fetch.log" 2>&1; then
  from="the online database"
else
  reason="not checked: the online database cannot be reached, and ADVISORY_DB names no copy"
  echo "warning: advisories are $reason" >&2
  test -z "$require" || fail "$reason"
  verdict true "$reason"
  exit
fi

newest=$(grep -rh --include='RUSTSEC-*.md' '^date = ' "$copy/crates" | cut -d '"' -f 2 | sort | tail -1)
# Offline: the database is there, and a copy must not be fetched again.
"$deny" --locked --offline --config "$config" check advisories >&2 || fail "found, from $from up to $newest"
verdict true "none, from $from up to $newest"
