{{/*
What the schema cannot say. Each failure names the path of the value and what to write. All are reported at
once.
*/}}
{{- define "sluice.checks" -}}
{{- $faults := list -}}
{{- range $part := list "settings" "secrets" "scale" "pods" "edge" "jobs" "strimzi" -}}
{{- range (include (printf "sluice.checks.%s" $part) $ | fromYamlArray) -}}
{{- $faults = append $faults . -}}
{{- end -}}
{{- end -}}
{{- with $faults -}}
{{- fail (printf "\n\n%s\n" (join "\n" .)) -}}
{{- end -}}
{{- end }}

{{/*
Keys of the settings that the chart owns, and what must be there.
*/}}
{{- define "sluice.checks.settings" -}}
{{- $faults := list -}}
{{- $values := .Values -}}
{{- $settings := $values.settings | default dict -}}
{{- $ingest := $settings.ingest | default dict -}}
{{- $processor := $settings.processor | default dict -}}
{{- $spool := $ingest.spool | default dict -}}
{{- if $values.existingConfigMap -}}
{{- if $settings -}}
{{- $faults = append $faults "settings: stands next to existingConfigMap, which has the whole file: give one of them" -}}
{{- end -}}
{{- else -}}
{{- if not ($settings.kafka | default dict).bootstrap_servers -}}
{{- $faults = append $faults "settings.kafka.bootstrap_servers: is needed: host:port of brokers, several separated by commas" -}}
{{- end -}}
{{- if eq (include "sluice.sources" .) "{}" -}}
{{- $faults = append $faults "settings.sources: at least one is needed, such as flock-prod: {provider: flock, secrets: [flock-prod]}" -}}
{{- end -}}
{{- $secretsDir := include "sluice.secretsDir" . -}}
{{- if not (has $settings.secrets_dir (list nil $secretsDir)) -}}
{{- $faults = append $faults (printf "settings.secrets_dir: must be %s, where the chart mounts the secrets: leave it out" $secretsDir) -}}
{{- end -}}
{{- $ports := list (list "ingest.listen" $ingest.listen "8080") (list "ingest.admin_listen" $ingest.admin_listen "9090") (list "processor.admin_listen" $processor.admin_listen "9091") -}}
{{- range $ports -}}
{{- $port := last . -}}
{{- if not (hasSuffix (printf ":%s" $port) (index . 1 | default (printf ":%s" $port) | toString)) -}}
{{- $faults = append $faults (printf "settings.%s: must have port %s, which probes and Services use: leave it out, or write \"[::]:%s\" for IPv6" (first .) $port $port) -}}
{{- end -}}
{{- end -}}
{{- if $values.ingest.spool.enabled -}}
{{- if not (has $spool.dir (list nil (include "sluice.spoolDir" .))) -}}
{{- $faults = append $faults (printf "settings.ingest.spool.dir: must be %s, on the volume that the chart mounts: leave it out" (include "sluice.spoolDir" .)) -}}
{{- end -}}
{{- else if $spool.dir -}}
{{- $faults = append $faults "settings.ingest.spool.dir: is set, and no volume is there: set ingest.spool.enabled: true and leave it out" -}}
{{- end -}}
{{- if $processor.member -}}
{{- $faults = append $faults "settings.processor.member: would be the same for all pods: leave it out, the chart gives each its own; processor.memberPrefix stands before it" -}}
{{- end -}}
{{- if and $values.ingest.tls.enabled $ingest.tls -}}
{{- if ne (toJson $ingest.tls) (toJson (dict "cert_file" "tls.crt" "key_file" "tls.key")) -}}
{{- $faults = append $faults "settings.ingest.tls: is the chart's with ingest.tls.enabled: leave it out, or set ingest.tls.enabled: false and mount the files by secrets.ingest" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end }}

{{- define "sluice.checks.secrets" -}}
{{- $faults := list -}}
{{- $secrets := .Values.secrets -}}
{{- $ingestHas := dict -}}
{{- $pathsOfIngest := dict -}}
{{- range $group := list "shared" "ingest" -}}
{{- range $entry := get $secrets $group -}}
{{- with $entry.secret }}{{ $_ := set $ingestHas . $group }}{{ end -}}
{{- with $entry.externalSecret }}{{ $_ := set $ingestHas .name $group }}{{ end -}}
{{- range $item := $entry.items }}{{ $_ := set $pathsOfIngest $item.path $group }}{{ end -}}
{{- end -}}
{{- end -}}
{{- range $entry := $secrets.providers -}}
{{- $name := $entry.secret | default ($entry.externalSecret | default dict).name | default "" -}}
{{- with get $ingestHas $name -}}
{{- $faults = append $faults (printf "secrets.%s: has %s, which secrets.providers has too: a provider's secret is never in ingest; take it out" . $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $source := include "sluice.sources" . | fromYaml -}}
{{- range $secret := $source.secrets -}}
{{- $file := $secret -}}
{{- if kindIs "map" $secret }}{{ $file = $secret.name }}{{ end -}}
{{- with get $pathsOfIngest $file -}}
{{- $faults = append $faults (printf "secrets.%s: has the file %s, a secret of settings.sources.%s: a provider's secret is never in ingest; move it to secrets.providers" . $file $name) -}}
{{- end -}}
{{- end -}}
{{- if and $source.secrets (not $secrets.providers) (not (include "sluice.mountsOwnSecrets" $.Values.processor)) -}}
{{- $faults = append $faults (printf "secrets.providers: is empty, and settings.sources.%s.secrets names files: list the Secret that holds them, such as {secret: sluice-providers}" $name) -}}
{{- end -}}
{{- end -}}
{{- $kafka := .Values.settings.kafka | default dict -}}
{{- $ofStrimzi := and .Values.strimzi.enabled .Values.strimzi.users.enabled -}}
{{- if and $kafka.secret_properties (not $ofStrimzi) -}}
{{- range $service := list "ingest" "processor" -}}
{{- if not (or $secrets.shared (get $secrets $service) (include "sluice.mountsOwnSecrets" (get $.Values $service))) -}}
{{- $faults = append $faults (printf "secrets.%s: is empty, and settings.kafka.secret_properties names files: list the Secret of its Kafka user" $service) -}}
{{- end -}}
{{- end -}}
{{- $check := .Values.checkJob -}}
{{- $ctl := or .Values.sluicectl.enabled (not (empty .Values.sluicectl.jobs)) -}}
{{- $runs := or $check.enabled $ctl (include "sluice.tests" .) -}}
{{- if and $runs (not (or $secrets.shared $secrets.operator (include "sluice.mountsOwnSecrets" $check))) -}}
{{- $off := $check.enabled | ternary "checkJob.enabled: false and checkJob.test.enabled: false" "checkJob.test.enabled: false" -}}
{{- $off = $ctl | ternary (printf "%s and no sluicectl" $off) $off -}}
{{- $faults = append $faults (printf "secrets.operator: is empty, and settings.kafka.secret_properties names files: list the Secret of the operator's Kafka user, or set %s" $off) -}}
{{- end -}}
{{- end -}}
{{- range $group := list "shared" "providers" "registry" "ingest" "processor" "operator" -}}
{{- range $index, $entry := get $secrets $group -}}
{{- if ne 1 (len (pick $entry "secret" "configMap" "externalSecret")) -}}
{{- $faults = append $faults (printf "secrets.%s[%d]: must have one of secret, configMap and externalSecret" $group $index) -}}
{{- end -}}
{{- with $entry.externalSecret -}}
{{- if not (or .secretStoreRef $secrets.external.secretStoreRef) -}}
{{- $faults = append $faults (printf "secrets.%s[%d].externalSecret.secretStoreRef: is needed, here or in secrets.external: such as {name: vault, kind: ClusterSecretStore}" $group $index) -}}
{{- end -}}
{{- if not (or .data .dataFrom) -}}
{{- $faults = append $faults (printf "secrets.%s[%d].externalSecret: needs data or dataFrom" $group $index) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end }}

{{/*
Whether a workload brings its secrets by a volume of its own, such as a CSI driver's.
*/}}
{{- define "sluice.mountsOwnSecrets" -}}
{{- range .extraVolumeMounts }}{{ if hasPrefix (include "sluice.secretsDir" .) .mountPath }}yes{{ end }}{{ end -}}
{{- end }}

{{- define "sluice.checks.scale" -}}
{{- $faults := list -}}
{{- $ingest := .Values.ingest -}}
{{- $processor := .Values.processor -}}
{{- $settings := include "sluice.effective" . | fromYaml -}}
{{- if and $ingest.spool.enabled (kindIs "invalid" $ingest.replicas) -}}
{{- $faults = append $faults "ingest.replicas: is needed with ingest.spool.enabled: nothing may scale ingest by itself, for a pod that goes leaves acknowledged requests in its spool" -}}
{{- end -}}
{{- if not .Values.existingConfigMap -}}
{{- $path := ternary "processor.autoscaling.maxReplicas" "processor.replicas" $processor.autoscaling.enabled -}}
{{- $most := ternary $processor.autoscaling.maxReplicas ($processor.replicas | default 0) $processor.autoscaling.enabled | int64 -}}
{{- $workers := $settings.processor.workers | int64 -}}
{{- $partitions := $settings.topics.partitions | int64 -}}
{{- if gt (mul $most $workers) $partitions -}}
{{- $faults = append $faults (printf "%s: %d × %d settings.processor.workers is over %d settings.topics.partitions, and what is over them has nothing to do: at most %d" $path $most $workers $partitions (div $partitions $workers)) -}}
{{- end -}}
{{- $room := include "sluice.bytes" $settings.ingest.spool.max_bytes | int64 -}}
{{- $size := include "sluice.quantity" $ingest.spool.size | int64 -}}
{{- if and $ingest.spool.enabled (lt $size (add (mul 2 $room) 268435456)) -}}
{{- $faults = append $faults (printf "ingest.spool.size: %s is too small: at least twice settings.ingest.spool.max_bytes (%s), for a file that is being drained, and 256Mi" $ingest.spool.size (include "sluice.plain" $settings.ingest.spool.max_bytes)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $workload := dict "ingest" $ingest "processor" $processor -}}
{{- with $workload.autoscaling -}}
{{- if .enabled -}}
{{- if gt (int .minReplicas) (int .maxReplicas) -}}
{{- $faults = append $faults (printf "%s.autoscaling.minReplicas: is over maxReplicas" $name) -}}
{{- end -}}
{{- if not (or .targetCPUUtilizationPercentage .metrics) -}}
{{- $faults = append $faults (printf "%s.autoscaling: needs targetCPUUtilizationPercentage or metrics" $name) -}}
{{- end -}}
{{- if and .targetCPUUtilizationPercentage (not (($workload.resources | default dict).requests | default dict).cpu) -}}
{{- $faults = append $faults (printf "%s.resources.requests.cpu: is needed: targetCPUUtilizationPercentage is a share of it" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end }}

{{- define "sluice.checks.pods" -}}
{{- $faults := list -}}
{{- range $name, $ends := dict "ingest" 29 "processor" 27 -}}
{{- $workload := get $.Values $name -}}
{{- $needed := add $workload.preStopSeconds $ends -}}
{{- if lt (int64 $workload.terminationGracePeriodSeconds) $needed -}}
{{- $faults = append $faults (printf "%s.terminationGracePeriodSeconds: must be at least %d: preStopSeconds and the %d s in which it ends" $name $needed $ends) -}}
{{- end -}}
{{- $names := list "SLUICE_CONFIG" "SLUICE_MEMBER" "K8S_NAMESPACE_NAME" "K8S_POD_NAME" "K8S_POD_UID" "K8S_NODE_NAME" "K8S_CONTAINER_NAME" -}}
{{- range $workload.extraEnv -}}
{{- if has .name $names -}}
{{- $faults = append $faults (printf "%s.extraEnv: %s is set by the chart: leave it out" $name .name) -}}
{{- end -}}
{{- end -}}
{{- range $workload.extraVolumes -}}
{{- if has .name (list "config" "secrets" "spool") -}}
{{- $faults = append $faults (printf "%s.extraVolumes: %s is a volume of the chart: give yours another name" $name .name) -}}
{{- end -}}
{{- end -}}
{{- range $workload.extraVolumeMounts -}}
{{- if .subPath -}}
{{- if hasPrefix "/etc/sluice" .mountPath -}}
{{- $faults = append $faults (printf "%s.extraVolumeMounts: %s with subPath is never renewed, so no change is seen: mount a whole directory" $name .mountPath) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $workload.podDisruptionBudget.enabled (kindIs "invalid" $workload.podDisruptionBudget.maxUnavailable) (kindIs "invalid" $workload.podDisruptionBudget.minAvailable) -}}
{{- $faults = append $faults (printf "%s.podDisruptionBudget: needs maxUnavailable or minAvailable" $name) -}}
{{- end -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end }}

{{- define "sluice.checks.edge" -}}
{{- $faults := list -}}
{{- $ingest := .Values.ingest -}}
{{- $service := $ingest.service -}}
{{- if eq $service.type "ClusterIP" -}}
{{- range $key := list "externalTrafficPolicy" "nodePort" "loadBalancerClass" "loadBalancerIP" "loadBalancerSourceRanges" -}}
{{- if get $service $key -}}
{{- $faults = append $faults (printf "ingest.service.%s: means nothing with type ClusterIP: set ingest.service.type: LoadBalancer, or leave it out" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $ingest.tls.enabled (not $ingest.tls.existingSecret) (not $ingest.certificate.enabled) -}}
{{- $faults = append $faults "ingest.tls.existingSecret: is needed, or ingest.certificate.enabled: true" -}}
{{- end -}}
{{- if $ingest.certificate.enabled -}}
{{- if not $ingest.certificate.issuerRef.name -}}
{{- $faults = append $faults "ingest.certificate.issuerRef: is needed, such as {name: letsencrypt, kind: ClusterIssuer}" -}}
{{- end -}}
{{- if not (or $ingest.certificate.dnsNames $ingest.ingress.hosts $ingest.httpRoute.hostnames) -}}
{{- $faults = append $faults "ingest.certificate.dnsNames: is needed where neither ingest.ingress nor ingest.httpRoute names hosts" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.existingConfigMap (not .Values.networkPolicy.kafka.ports) -}}
{{- $faults = append $faults "networkPolicy.kafka.ports: is needed with existingConfigMap, whose brokers the chart does not see: such as [9093]" -}}
{{- end -}}
{{- if and $ingest.ingress.enabled (not $ingest.ingress.hosts) -}}
{{- $faults = append $faults "ingest.ingress.hosts: at least one is needed, such as [hooks.example.com]" -}}
{{- end -}}
{{- if and $ingest.httpRoute.enabled (not $ingest.httpRoute.parentRefs) -}}
{{- $faults = append $faults "ingest.httpRoute.parentRefs: at least one Gateway is needed, such as [{name: public, namespace: gateways}]" -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end }}

{{- define "sluice.checks.jobs" -}}
{{- $faults := list -}}
{{- $ingest := .Values.ingest -}}
{{- $check := .Values.checkJob -}}
{{- $strimzi := .Values.strimzi -}}
{{- if and $check.enabled (has "pre-install" $check.hooks) -}}
{{- $late := "is not there before the install: set checkJob.hooks: [pre-upgrade]" -}}
{{- range $group := (include "sluice.secretGroups" (dict "component" "operator") | fromYaml).groups -}}
{{- range get $.Values.secrets $group -}}
{{- with .externalSecret -}}
{{- $faults = append $faults (printf "checkJob.hooks: the Secret of secrets.%s, externalSecret %s, %s" $group .name $late) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $strimzi.enabled -}}
{{- $faults = append $faults "checkJob.hooks: what strimzi makes is not there before the install: set checkJob.hooks: [post-install, post-upgrade]" -}}
{{- end -}}
{{- end -}}
{{- if and $check.enabled (has "pre-upgrade" $check.hooks) $strimzi.enabled $strimzi.topics.enabled -}}
{{- $faults = append $faults "checkJob.hooks: pre-upgrade refuses each new source, whose topics strimzi makes in that upgrade: set checkJob.hooks: [post-upgrade]" -}}
{{- end -}}
{{- range $ordinal := .Values.drain.ordinals -}}
{{- if and $ingest.spool.enabled (lt (int $ordinal) (int $ingest.replicas)) -}}
{{- $faults = append $faults (printf "drain.ordinals: %d is a pod that runs, and drains its spool itself: only ordinals from ingest.replicas (%d) on" (int $ordinal) (int $ingest.replicas)) -}}
{{- end -}}
{{- end -}}
{{- $seen := list "sluicectl" -}}
{{- range .Values.sluicectl.jobs -}}
{{- if has .name $seen -}}
{{- $faults = append $faults (printf "sluicectl.jobs: %s is the name of another one, or the chart's own: give each its own name" .name) -}}
{{- end -}}
{{- if gt (len .name) 11 -}}
{{- $faults = append $faults (printf "sluicectl.jobs: %s is too long for a CronJob's name behind the release's: at most 11 characters" .name) -}}
{{- end -}}
{{- $seen = append $seen .name -}}
{{- end -}}
{{- $source := $check.test.source -}}
{{- if and $source (not .Values.existingConfigMap) (not (hasKey (include "sluice.sources" . | fromYaml) $source)) -}}
{{- $faults = append $faults (printf "checkJob.test.source: %s is none of settings.sources" $source) -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end }}

{{- define "sluice.checks.strimzi" -}}
{{- $faults := list -}}
{{- $strimzi := .Values.strimzi -}}
{{- $settings := include "sluice.effective" . | fromYaml -}}
{{- if $strimzi.enabled -}}
{{- if not $strimzi.cluster -}}
{{- $faults = append $faults "strimzi.cluster: is needed: the name of the Kafka object" -}}
{{- end -}}
{{- if .Values.existingConfigMap -}}
{{- $faults = append $faults "strimzi.enabled: needs settings: topics and rights follow from them, and the chart does not see existingConfigMap" -}}
{{- end -}}
{{- if and $strimzi.topics.enabled $settings.topics.create -}}
{{- $faults = append $faults "settings.topics.create: must be false with strimzi.topics.enabled: one of them makes the topics" -}}
{{- end -}}
{{- if $strimzi.users.enabled -}}
{{- $properties := $settings.kafka.properties | default dict -}}
{{- $secret := $settings.kafka.secret_properties | default dict -}}
{{- $dir := include "sluice.secretsDir" . -}}
{{- if eq $strimzi.users.authentication "tls" -}}
{{- range $property, $file := dict "ssl.certificate.location" "kafka-user.crt" "ssl.key.location" "kafka-user.key" -}}
{{- if ne (get $properties $property | toString) (printf "%s/%s" $dir $file) -}}
{{- $faults = append $faults (printf "settings.kafka.properties: %s must be %s/%s, where the user's Secret of strimzi.users is" $property $dir $file) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- range $property, $file := dict "sasl.username" "kafka-username" "sasl.password" "kafka-password" -}}
{{- if ne (get $secret $property | toString) $file -}}
{{- $faults = append $faults (printf "settings.kafka.secret_properties: %s must be %s, which strimzi.users brings" $property $file) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $faults -}}
{{- end }}
