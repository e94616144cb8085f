#!/usr/bin/env bash
# Prints a Java of version 21 or newer, which the schema registry needs: JAVA_HOME's, the path's, else the
# newest that stands in the usual folder.
set -euo pipefail
shopt -s nullglob
major() { "$1" -XshowSettings:properties -version 2>&1 | sed -nE 's/^ *java\.specification\.version = ([0-9]+).*/\1/p'; }
best= best_version=20
for java in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
  [ -x "$java" ] || continue
  version=$(major "$java")
  if [ "${version:-0}" -gt "$best_version" ]; then best=$java best_version=$version; fi
done
if [ -z "$best" ]; then
  echo "the schema registry needs Java 21 or newer, and none was found: apt-get install openjdk-21-jre-headless (or set JAVA_HOME)" >&2
  exit 1
fi
echo "$best"
