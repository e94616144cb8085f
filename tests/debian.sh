#!/bin/bash
# Unpacks Debian packages into a folder, which needs no root: debian.sh DIR PACKAGE…
# A machine without package lists, such as a fresh one, gets some in that folder for the time being.
set -eu -o pipefail

dir=$1
shift
for tool in apt-get dpkg-deb; do
  command -v $tool > /dev/null || { echo "$tool is missing: this needs Debian or a system like it" >&2; exit 1; }
done
mkdir -p "$dir"
cd "$dir"
download() {
  apt-get -qq -o APT::Sandbox::User=root "$@"
}
if ! download download "$@" 2> apt.log; then
  echo "fetching package lists" >&2
  mkdir -p lists/partial cache/archives/partial
  own=(-o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache")
  download "${own[@]}" update >&2
  download "${own[@]}" download "$@" >&2
fi
for package in *.deb; do
  dpkg-deb -x "$package" .
done
rm -rf ./*.deb apt.log lists cache
