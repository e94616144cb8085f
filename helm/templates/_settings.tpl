{{/*
The settings file: what the user gives, and what the chart owns of it.
*/}}

{{/*
The folders of the pods, which the settings and the mounts agree on.
*/}}
{{- define "sluice.configDir" -}}/etc/sluice/config{{- end }}
{{- define "sluice.secretsDir" -}}/etc/sluice/secrets{{- end }}
{{- define "sluice.spoolMount" -}}/var/lib/sluice{{- end }}
{{/* Ingest makes this folder itself, for itself alone (0700), which it cannot do with the mount. */}}
{{- define "sluice.spoolDir" -}}{{ include "sluice.spoolMount" . }}/spool{{- end }}

{{/*
The sources. One that is null was taken away by another values file. (the root)
*/}}
{{- define "sluice.sources" -}}
{{- $sources := dict -}}
{{- range $name, $source := .Values.settings.sources -}}
{{- if $source }}{{ $_ := set $sources $name $source }}{{ end -}}
{{- end -}}
{{- toYaml $sources -}}
{{- end }}

{{/*
The file. Only keys that the chart owns are put in; templates/_checks.tpl refuses other values of them.
(root; spool: whether the spool's folder is named)
*/}}
{{- define "sluice.settings" -}}
{{- $values := .root.Values -}}
{{- $settings := deepCopy $values.settings -}}
{{- $ingest := $settings.ingest | default dict -}}
{{- $processor := $settings.processor | default dict -}}
{{- $_ := set $settings "sources" (include "sluice.sources" .root | fromYaml) -}}
{{- $_ := set $settings "secrets_dir" (include "sluice.secretsDir" .root) -}}
{{- $_ := set $ingest "listen" ($ingest.listen | default "0.0.0.0:8080") -}}
{{- $_ := set $ingest "admin_listen" ($ingest.admin_listen | default "0.0.0.0:9090") -}}
{{- $_ := set $processor "admin_listen" ($processor.admin_listen | default "0.0.0.0:9091") -}}
{{- if .spool -}}
{{- $spool := $ingest.spool | default dict -}}
{{- $_ := set $spool "dir" (include "sluice.spoolDir" .root) -}}
{{- $_ := set $ingest "spool" $spool -}}
{{- end -}}
{{- if $values.ingest.tls.enabled -}}
{{- $_ := set $ingest "tls" (dict "cert_file" "tls.crt" "key_file" "tls.key") -}}
{{- end -}}
{{- $_ := set $settings "ingest" $ingest -}}
{{- $_ := set $settings "processor" $processor -}}
{{- toYaml $settings -}}
{{- end }}

{{/*
What the chart computes with: the settings, and of docs/settings.yaml the defaults that it needs for that.
*/}}
{{- define "sluice.effective" -}}
{{- $defaults := fromYaml (include "sluice.defaults" .) -}}
{{- $settings := deepCopy .Values.settings -}}
{{- $_ := set $settings "sources" (include "sluice.sources" . | fromYaml) -}}
{{- merge $settings $defaults | toYaml -}}
{{- end }}

{{- define "sluice.defaults" -}}
kafka: {bootstrap_servers: ""}
topics:
  prefix: ""
  create: false
  partitions: 12
  event_partitions: 3
  replication: 3
  retention: {raw: 7d, events: 28d, duplicates: 7d, rejected: 7d, dead_letter: 28d}
  rejected_bytes: 1GiB
schema_registry: {}
ingest: {spool: {max_bytes: 1GiB}}
processor: {group: sluice-processor, workers: 1, dedup_window: 72h}
telemetry: {}
{{- end }}

{{/*
A number without an exponent, which Go writes from a million on (YAML's numbers are floats here); a text as it is.
*/}}
{{- define "sluice.plain" -}}
{{- kindIs "float64" . | ternary (int64 . | toString) (toString .) -}}
{{- end }}

{{/*
Bytes of a size such as 64KiB, or of a number.
*/}}
{{- define "sluice.bytes" -}}
{{- $text := include "sluice.plain" . -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- $count := regexFind "^[0-9]+" $text | int64 -}}
{{- $factors := dict "" 1 "B" 1 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824 -}}
{{- mul $count (get $factors $unit | int64) -}}
{{- end }}

{{/*
Milliseconds of a duration such as 30s or 7d.
*/}}
{{- define "sluice.millis" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[a-z]+$" $text -}}
{{- $count := regexFind "^[0-9]+" $text | int64 -}}
{{- $factors := dict "" 0 "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- mul $count (get $factors $unit | int64) -}}
{{- end }}

{{/*
Bytes of a quantity of Kubernetes such as 4Gi; a fraction such as 1.5Gi is rounded down to MiB.
*/}}
{{- define "sluice.quantity" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- $factors := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mulf (regexFind "^[0-9.]+" $text | float64) (get $factors $unit | int64) | int64 -}}
{{- end }}

{{/*
The largest body of any source, in bytes. files/providers.yaml has what a provider's sources take by default.
*/}}
{{- define "sluice.largestBody" -}}
{{- $providers := .Files.Get "files/providers.yaml" | fromYaml -}}
{{- $largest := 0 | int64 -}}
{{- range $_, $source := include "sluice.sources" . | fromYaml -}}
{{- $default := (get $providers ($source.provider | toString) | default dict).max_body | default "1MiB" -}}
{{- $largest = max $largest (include "sluice.bytes" ($source.max_body | default $default) | int64) -}}
{{- end -}}
{{- $largest -}}
{{- end }}

{{/*
The longest window of any source, in milliseconds. (the effective settings)
*/}}
{{- define "sluice.longestWindow" -}}
{{- $longest := 0 | int64 -}}
{{- $default := .processor.dedup_window -}}
{{- range $_, $source := .sources -}}
{{- $longest = max $longest (include "sluice.millis" ($source.dedup_window | default $default) | int64) -}}
{{- end -}}
{{- $longest -}}
{{- end }}

{{/*
A hash of those settings that a running process does not take over (schemas/src/settings/change.rs), so that
a change of them, and of nothing else, restarts the pods. (root, component)
*/}}
{{- define "sluice.restartChecksum" -}}
{{- $root := .root -}}
{{- $effective := include "sluice.effective" $root | fromYaml -}}
{{- $all := include "sluice.settings" (dict "root" $root "spool" $root.Values.ingest.spool.enabled) | fromYaml -}}
{{- $waiting := pick $all "kafka" "topics" "schema_registry" "secrets_dir" -}}
{{- $_ := set $waiting "telemetry" (omit ($all.telemetry | default dict) "trace_ratio") -}}
{{- $_ := set $waiting "largest_body" (include "sluice.largestBody" $root) -}}
{{- $_ := set $waiting "longest_window" (include "sluice.longestWindow" $effective) -}}
{{- if eq .component "ingest" -}}
{{- $ingest := omit $all.ingest "header_timeout" "body_timeout" "max_buffered" "limits" "tls" -}}
{{- $_ := set $ingest "spool" (omit ($all.ingest.spool | default dict) "drain_older" "source_share") -}}
{{- $_ := set $ingest "tls" (not (empty $all.ingest.tls)) -}}
{{- $_ := set $waiting "ingest" $ingest -}}
{{- else -}}
{{- $_ := set $waiting "processor" (omit $all.processor "dedup_window" "dedup_memory" "cloudevents_headers") -}}
{{- end -}}
{{- toJson $waiting | sha256sum -}}
{{- end }}
