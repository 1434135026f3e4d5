{{/* Refuses values that cannot work, with what to do. */}}
{{- define "code.validate" -}}
{{- $mode := include "code.mode" . }}
{{- $nats := include "code.natsURL" . }}
{{- $fullname := include "code.fullname" . }}
{{- if regexMatch "^v?0\\.[01]\\.[0-9]" (toString .Values.image.tag) }}
{{- fail (printf "image.tag: %s is an image of the Go provider, which this chart cannot run. Leave image.tag empty for %s, the image that this chart was made for. To go back to the Go provider: helm rollback %s" .Values.image.tag .Chart.AppVersion .Release.Name) }}
{{- end }}
{{- if and .Values.hub.url (not (regexMatch "^https?://[^/ ]+" .Values.hub.url)) }}
{{- fail (printf "hub.url: %s is not a URL such as https://kedge-hub.kedge.svc.cluster.local:9443." .Values.hub.url) }}
{{- end }}
{{- if .Values.nats.url }}
{{- range splitList "," .Values.nats.url }}
{{- if contains "@" . }}
{{- fail "nats.url holds a user or password, which everybody who may read the Deployment would see. Put them into a Secret: nats.nkeySecret or nats.userSecret." }}
{{- end }}
{{- if not (regexMatch "^(nats|tls|wss?)://[^/ ]+$" (trim .)) }}
{{- fail (printf "nats.url: %s is not a server such as nats://nats.nats.svc:4222. Separate servers by commas." (trim .)) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.nats.url .Values.nats.server.enabled }}
{{- fail "nats.url and nats.server.enabled exclude each other. Leave nats.url empty for the NATS that the chart brings for trying out." }}
{{- end }}
{{- if and (eq $mode "distributed") (not $nats) }}
{{- fail "mode: distributed needs a NATS with JetStream. Set nats.url, such as nats://nats.nats.svc:4222, or nats.server.enabled=true for trying out." }}
{{- end }}
{{- if and (eq $mode "single") (gt (int .Values.replicaCount) 1) }}
{{- fail (printf "replicaCount: %d is more than mode: single can run: its one pod has the volume, and a nats-server of its own. Set replicaCount: 1, or set nats.url and services.<name>.replicas for mode: distributed." (int .Values.replicaCount)) }}
{{- end }}
{{- if gt (len (compact (list .Values.nats.nkeySecret.name .Values.nats.credsSecret.name .Values.nats.userSecret.name))) 1 }}
{{- fail "nats.nkeySecret, nats.credsSecret and nats.userSecret exclude each other. The first is the safest: each service has a user of its own." }}
{{- end }}
{{- if and .Values.autoscaling.enabled (eq $mode "single") }}
{{- fail "autoscaling.enabled needs mode: distributed. Set nats.url." }}
{{- end }}
{{- if .Values.autoscaling.enabled }}
{{- if and (eq .Values.autoscaling.trigger "keda-prometheus") (not .Values.autoscaling.prometheus.serverAddress) }}
{{- fail "autoscaling.trigger: keda-prometheus needs autoscaling.prometheus.serverAddress, such as http://prometheus.monitoring.svc:9090." }}
{{- end }}
{{- if and (eq .Values.autoscaling.trigger "keda-jetstream") .Values.nats.server.enabled }}
{{- fail "autoscaling.trigger: keda-jetstream cannot ask the NATS of nats.server.enabled, whose monitoring no pod of another release may reach. Set nats.url to a NATS of your own, or use keda-prometheus." }}
{{- end }}
{{- if and (eq .Values.autoscaling.trigger "keda-jetstream") (not .Values.autoscaling.jetstream.monitoringEndpoint) }}
{{- fail "autoscaling.trigger: keda-jetstream needs autoscaling.jetstream.monitoringEndpoint, the host:port of a NATS server's monitoring, such as nats.nats.svc:8222." }}
{{- end }}
{{- end }}
{{- with .Values.githubOAuth }}
{{- if .enabled }}
{{- range $name, $value := dict "clientId" .clientId "clientSecretRef.name" .clientSecretRef.name "redirectURL" .redirectURL }}
{{- if not $value }}
{{- fail (printf "githubOAuth.enabled needs githubOAuth.%s. Register an OAuth app on GitHub first; its callback URL is redirectURL." $name) }}
{{- end }}
{{- end }}
{{- if not (hasSuffix "/callback" .redirectURL) }}
{{- fail (printf "githubOAuth.redirectURL: %s does not end with /callback, such as https://hub.example/services/providers/code/oauth/github/callback." .redirectURL) }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Release.IsUpgrade }}
{{- include "code.validateLayoutChange" . }}
{{- end }}
{{- end }}

{{/* Refuses an upgrade to the other layout while pods work with another NATS. helm template, and a dry run on the client, see no
cluster and refuse nothing. */}}
{{- define "code.validateLayoutChange" -}}
{{- $root := . }}
{{- $mode := include "code.mode" . }}
{{- $single := eq $mode "single" }}
{{- $working := list }}
{{- /* The strategy of the one pod is Recreate, so it never runs beside the gateway, whose Deployment it takes. */}}
{{- range ternary (without (splitList "," (include "code.services" .)) "gateway") (list "") $single }}
{{- $name := ternary (include "code.suffixed" (dict "root" $root "suffix" .)) (include "code.fullname" $root) $single }}
{{- $found := lookup "apps/v1" "Deployment" $root.Release.Namespace $name }}
{{- $status := dig "status" dict $found }}
{{- /* Pods that are ending count in terminatingReplicas alone, which only newer versions of Kubernetes tell. */}}
{{- $pods := max (dig "spec" "replicas" 0 $found) (dig "replicas" 0 $status) (dig "terminatingReplicas" 0 $status) }}
{{- $nats := "" }}
{{- range dig "spec" "template" "spec" "containers" list $found }}
{{- range .env }}
{{- if eq .name "NATS_URL" }}
{{- $nats = .value }}
{{- end }}
{{- end }}
{{- end }}
{{- $other := or $single (ne (dig "metadata" "labels" "app.kubernetes.io/component" "" $found) "gateway") }}
{{- if and $other $pods (ne $nats (include "code.natsURL" $root)) }}
{{- $working = append $working (printf "deployment/%s" $name) }}
{{- end }}
{{- end }}
{{- with $working }}
{{- fail (printf "mode: %s would begin while pods of the other layout work with another NATS. Neither would know of the other's locks, so both would do the same work. Scale them to 0, wait until they are gone, and repeat this with --server-side=false (helm 4): kubectl --namespace %s scale --replicas=0 %s" $mode $root.Release.Namespace (join " " .)) }}
{{- end }}
{{- end }}
