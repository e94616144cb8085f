#!/usr/bin/env bash
# Makes the class data archive (AppCDS) with which a node starts in under a second: starts one node,
# waits until it listens, and lets it write the archive as it stops. Arguments: java, libs, archive.
set -euo pipefail
java=$1 libs=$2 archive=$3
dir=$(mktemp -d)
node=
cleanup() {
  if [ -n "$node" ]; then kill -KILL "$node" 2>/dev/null || true; fi
  rm -rf "$dir" "$archive.part"
}
trap cleanup EXIT
free_port() { perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'; }
broker=$(free_port) controller=$(free_port)
cat > "$dir/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$broker,CONTROLLER://127.0.0.1:$controller
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
offsets.topic.replication.factor=1
log.cleaner.dedupe.buffer.size=8388608
EOF
# The class path must be the same text as in the harness (tests/src/harness/cluster/jvm.rs): sorted, absolute.
classpath=$(printf "%s\n" "$libs"/*.jar | LC_ALL=C sort | paste -sd:)
run=("$java" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData "-Djava.io.tmpdir=$dir"
  "-Dlog4j2.configurationFile=$(dirname "$(readlink -f "$0")")/log4j2.properties" -cp "$classpath")
"${run[@]}" kafka.tools.StorageTool format -t AAAAAAAAQACAAAAAAAAAAA -c "$dir/server.properties" > "$dir/log" 2>&1 ||
  { cat "$dir/log" >&2; exit 1; }
"${run[@]}" "-XX:ArchiveClassesAtExit=$archive.part" kafka.Kafka "$dir/server.properties" >> "$dir/log" 2>&1 &
node=$!
for _ in $(seq 300); do
  if (: > "/dev/tcp/127.0.0.1/$broker") 2>/dev/null; then break; fi
  kill -0 "$node" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
  sleep 0.1
done
kill -TERM "$node"
wait "$node" || true
node=
if [ ! -s "$archive.part" ]; then cat "$dir/log" >&2; exit 1; fi
mv "$archive.part" "$archive"
