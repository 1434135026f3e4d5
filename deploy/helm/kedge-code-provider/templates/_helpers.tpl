{{/* A block of the Go provider's chart that the values leave empty, as `tenant:`, counts as not there. Helm takes its defaults out,
so they are put back. Each template begins with it. */}}
{{- define "code.fill" -}}
{{- range $name, $block := include "code.emptyBlocks" . | fromYaml }}
{{- if not (get $.Values $name) }}
{{- $_ := set $.Values $name $block }}
{{- end }}
{{- end }}
{{- end }}

{{- define "code.emptyBlocks" -}}
image: {repository: ghcr.io/faroshq/kedge-code-provider, tag: "", pullPolicy: IfNotPresent}
service: {type: ClusterIP, port: 8083}
hub: {url: "https://kedge-hub.kedge.svc.cluster.local:9443", tokenSecretRef: {name: kedge-code-hub-token, key: token}, insecure: false}
providerKubeconfig: {secretName: kedge-provider-kubeconfig}
tenant: {credentialsNamespace: ""}
bundleStore:
  path: /var/lib/kedge-code/commit-bundles
  existingClaim: ""
  emptyDir: false
  persistence: {enabled: true, size: 1Gi, accessModes: [ReadWriteOnce], storageClassName: ""}
catalogEntry: {enabled: true}
serviceAccount: {create: true, name: ""}
{{- end }}

{{- define "code.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Release name when it contains the chart's name, else both. The DNS name of the Service follows from it: never change it. */}}
{{- define "code.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The full name with a suffix. dict: root, suffix. At most 63 characters, and the suffix is always whole. */}}
{{- define "code.suffixed" -}}
{{- $most := sub 62 (len .suffix) | int }}
{{- printf "%s-%s" (include "code.fullname" .root | trunc $most | trimSuffix "-") .suffix }}
{{- end }}

{{/* Labels that select pods. dict: root, component. Those of the gateway, and of single mode, are those of the Go provider's
chart: they are immutable in its Deployment, and its Service selects by them. */}}
{{- define "code.selectorLabels" -}}
{{- $name := include "code.name" .root }}
{{- if has .component (list "serve" "gateway") }}
app.kubernetes.io/name: {{ $name }}
{{- else }}
app.kubernetes.io/name: {{ printf "%s-%s" ($name | trunc (sub 62 (len .component) | int) | trimSuffix "-") .component }}
{{- end }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{/* Labels of an object. dict: root, component. */}}
{{- define "code.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "code.selectorLabels" . | trim }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: {{ include "code.name" .root }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{/* The component that the gateway's Service, and what belongs to no service, is labelled with. */}}
{{- define "code.mainComponent" -}}
{{- if eq (include "code.mode" .) "single" }}serve{{ else }}gateway{{ end }}
{{- end }}

{{- define "code.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "code.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "code.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}

{{- define "code.natsURL" -}}
{{- if .Values.nats.server.enabled }}
{{- printf "nats://%s:4222" (include "code.suffixed" (dict "root" . "suffix" "nats")) }}
{{- else }}
{{- .Values.nats.url }}
{{- end }}
{{- end }}

{{- define "code.mode" -}}
{{- .Values.mode | default (ternary "distributed" "single" (not (empty (include "code.natsURL" .)))) }}
{{- end }}

{{- define "code.services" -}}
gateway,watcher,connection-svc,repository-svc,access-svc,package-crawler
{{- end }}

{{/* Resources of the pod of single mode. What the values have of the Go provider's figures counts as not set: its one process
had 256Mi, with which seven are killed. */}}
{{- define "code.singleResources" -}}
{{- $go := dict "limits" (dict "cpu" "200m" "memory" "256Mi") "requests" (dict "cpu" "50m" "memory" "64Mi") }}
{{- $wanted := dict "limits" (dict "memory" "1Gi") "requests" (dict "cpu" "100m" "memory" "384Mi") }}
{{- range $group := list "limits" "requests" }}
{{- range $name, $value := dig $group dict ($.Values.resources | default dict) }}
{{- if ne (toString $value) (dig $group $name "" $go) }}
{{- $_ := set (get $wanted $group) $name $value }}
{{- end }}
{{- end }}
{{- end }}
{{- with (.Values.resources | default dict).claims }}
{{- $_ := set $wanted "claims" . }}
{{- end }}
{{- toYaml $wanted }}
{{- end }}

{{/* A value as text. Without this a whole number of the values comes out as 5.0331648e+07: Helm reads each as a float64. */}}
{{- define "code.scalar" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* Environment of a container. What a user sets wins: of the service, then extraEnv, then settings. dict: root, component (a
service, serve, init or doctor). */}}
{{- define "code.env" -}}
{{- $variables := include "code.chartEnv" . | fromYamlArray }}
{{- range $name, $value := .root.Values.settings }}
{{- $variables = append $variables (dict "name" $name "value" (include "code.scalar" $value)) }}
{{- end }}
{{- $variables = concat $variables .root.Values.extraEnv (dig .component "env" list .root.Values.services) }}
{{- $last := dict }}
{{- range $variables }}
{{- $_ := set $last .name . }}
{{- end }}
{{- $names := list }}
{{- range $variables }}
{{- $names = append $names .name }}
{{- end }}
{{- range $name := uniq $names }}
- {{ get $last $name | toYaml | nindent 2 | trim }}
{{- end }}
{{- end }}

{{/* What the chart itself sets of it. */}}
{{- define "code.chartEnv" -}}
{{- $values := .root.Values }}
{{- $single := eq (include "code.mode" .root) "single" }}
- name: KEDGE_PROVIDER_KUBECONFIG
  value: /var/run/secrets/kedge/kedge-provider-kubeconfig
{{- with $values.workspacePath }}
- name: CODE_WORKSPACE_PATH
  value: {{ . | quote }}
{{- end }}
{{- with $values.tenant.credentialsNamespace }}
- name: KEDGE_TENANT_CREDENTIALS_NAMESPACE
  value: {{ . | quote }}
{{- end }}
{{- with $values.gitHosts.allowed }}
- name: CODE_ALLOWED_GIT_HOSTS
  value: {{ join "," . | quote }}
{{- end }}
{{- with $values.gitHosts.limits }}
- name: CODE_GIT_HOST_LIMITS
  value: {{ join ";" . | quote }}
{{- end }}
- name: CODE_LOG_LEVEL
  value: {{ $values.logLevel | quote }}
{{- include "code.natsEnv" . }}
{{- if has .component (list "serve" "init" "doctor") }}
{{- if $values.catalogEntry.enabled }}
- name: KEDGE_CATALOGENTRY_FILE
  value: /etc/kedge/catalogentry/catalogentry.yaml
{{- end }}
{{- end }}
{{- if eq .component "serve" }}
- name: CODE_SERVE_INIT
  value: "true"
- name: CODE_DATA_DIR
  value: {{ printf "%s/.serve" (trimSuffix "/" $values.bundleStore.path) | quote }}
- name: CODE_COMMIT_BUNDLE_DIR
  value: {{ $values.bundleStore.path | quote }}
{{- end }}
{{- if ne .component "init" }}
{{- if ne .component "doctor" }}
- name: {{ ternary "CODE_SERVE_HEALTH_PORT" "CODE_HEALTH_PORT" (eq .component "serve") }}
  value: "9090"
{{- end }}
{{- if has .component (list "serve" "gateway" "doctor") }}
{{- include "code.gatewayEnv" . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "code.gatewayEnv" -}}
{{- $values := .root.Values }}
{{- if ne .component "doctor" }}
- name: PORT
  value: "8083"
{{- end }}
{{- with $values.hub.url }}
- name: KEDGE_HUB_URL
  value: {{ . | quote }}
{{- end }}
{{- if $values.hub.tokenSecretRef.name }}
- name: KEDGE_HUB_TOKEN_FILE
  value: /var/run/secrets/kedge-hub/token
{{- end }}
{{- if eq (toString $values.hub.insecure) "true" }}
- name: KEDGE_HUB_INSECURE
  value: "true"
{{- end }}
{{- with $values.githubOAuth }}
{{- if .enabled }}
- name: GITHUB_OAUTH_CLIENT_ID
  value: {{ .clientId | quote }}
- name: GITHUB_OAUTH_CLIENT_SECRET
  valueFrom:
    secretKeyRef:
      name: {{ .clientSecretRef.name }}
      key: {{ .clientSecretRef.key }}
- name: GITHUB_OAUTH_REDIRECT_URL
  value: {{ .redirectURL | quote }}
{{- with .portalOrigin }}
- name: GITHUB_OAUTH_PORTAL_ORIGIN
  value: {{ . | quote }}
{{- end }}
{{- with .scopes }}
- name: GITHUB_OAUTH_SCOPES
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "code.natsEnv" -}}
{{- $nats := .root.Values.nats }}
{{- with include "code.natsURL" .root }}
- name: NATS_URL
  value: {{ . | quote }}
- name: CODE_NATS_REPLICAS
  value: {{ $nats.replicas | quote }}
{{- if $nats.nkeySecret.name }}
- name: NATS_NKEY
  value: /var/run/secrets/code/nats-keys
{{- else if $nats.credsSecret.name }}
- name: NATS_CREDS
  value: /var/run/secrets/code/nats-creds/nats.creds
{{- else if $nats.userSecret.name }}
- name: NATS_USER
  valueFrom:
    secretKeyRef:
      name: {{ $nats.userSecret.name }}
      key: {{ $nats.userSecret.userKey }}
- name: NATS_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ $nats.userSecret.name }}
      key: {{ $nats.userSecret.passwordKey }}
{{- end }}
{{- if $nats.caSecret.name }}
- name: NATS_CA
  value: /var/run/secrets/code/nats-ca/ca.crt
{{- end }}
{{- if $nats.clientCertSecret.name }}
- name: NATS_CERT
  value: /var/run/secrets/code/nats-client/tls.crt
- name: NATS_KEY
  value: /var/run/secrets/code/nats-client/tls.key
{{- end }}
{{- end }}
{{- end }}

{{/* dict: root, component. Secrets that may appear later are optional. So the pod starts, and the kubelet adds the file. */}}
{{- define "code.volumes" -}}
{{- $values := .root.Values }}
- name: tmp
  emptyDir: {}
- name: provider-kubeconfig
  secret:
    secretName: {{ $values.providerKubeconfig.secretName }}
    # Only init waits for it.
    optional: {{ ne .component "init" }}
    items:
      - key: kubeconfig
        path: kedge-provider-kubeconfig
{{- if and $values.hub.tokenSecretRef.name (has .component (list "serve" "gateway" "doctor")) }}
- name: hub-token
  secret:
    secretName: {{ $values.hub.tokenSecretRef.name }}
    optional: true
    items:
      - key: {{ $values.hub.tokenSecretRef.key }}
        path: token
{{- end }}
{{- if and $values.catalogEntry.enabled (has .component (list "serve" "init" "doctor")) }}
- name: catalogentry
  configMap:
    name: {{ include "code.fullname" .root }}-catalogentry
{{- end }}
{{- if include "code.natsURL" .root }}
{{- with $values.nats.nkeySecret.name }}
- name: nats-keys
  secret:
    secretName: {{ . }}
    {{- if ne $.component "serve" }}
    items:
      - key: {{ $.component }}.nk
        path: {{ $.component }}.nk
    {{- end }}
{{- end }}
{{- with $values.nats.credsSecret }}
{{- if .name }}
- name: nats-creds
  secret:
    secretName: {{ .name }}
    items:
      - key: {{ .key }}
        path: nats.creds
{{- end }}
{{- end }}
{{- with $values.nats.clientCertSecret.name }}
- name: nats-client
  secret:
    secretName: {{ . }}
{{- end }}
{{- with $values.nats.caSecret }}
{{- if .name }}
- name: nats-ca
  secret:
    secretName: {{ .name }}
    items:
      - key: {{ .key }}
        path: ca.crt
{{- end }}
{{- end }}
{{- end }}
{{- if eq .component "serve" }}
- name: bundles
{{- if or $values.bundleStore.emptyDir (not (or $values.bundleStore.existingClaim $values.bundleStore.persistence.enabled)) }}
  emptyDir: {}
{{- else }}
  persistentVolumeClaim:
    claimName: {{ $values.bundleStore.existingClaim | default (printf "%s-commit-bundles" (include "code.fullname" .root)) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "code.volumeMounts" -}}
{{- $values := .root.Values }}
- name: tmp
  mountPath: /tmp
- name: provider-kubeconfig
  mountPath: /var/run/secrets/kedge
  readOnly: true
{{- if and $values.hub.tokenSecretRef.name (has .component (list "serve" "gateway" "doctor")) }}
- name: hub-token
  mountPath: /var/run/secrets/kedge-hub
  readOnly: true
{{- end }}
{{- if and $values.catalogEntry.enabled (has .component (list "serve" "init" "doctor")) }}
- name: catalogentry
  mountPath: /etc/kedge/catalogentry
  readOnly: true
{{- end }}
{{- if include "code.natsURL" .root }}
{{- if $values.nats.nkeySecret.name }}
- name: nats-keys
  mountPath: /var/run/secrets/code/nats-keys
  readOnly: true
{{- end }}
{{- if $values.nats.credsSecret.name }}
- name: nats-creds
  mountPath: /var/run/secrets/code/nats-creds
  readOnly: true
{{- end }}
{{- if $values.nats.clientCertSecret.name }}
- name: nats-client
  mountPath: /var/run/secrets/code/nats-client
  readOnly: true
{{- end }}
{{- if $values.nats.caSecret.name }}
- name: nats-ca
  mountPath: /var/run/secrets/code/nats-ca
  readOnly: true
{{- end }}
{{- end }}
{{- if eq .component "serve" }}
- name: bundles
  mountPath: {{ $values.bundleStore.path }}
{{- end }}
{{- end }}

{{/* What the pods of the provider share. dict: root, component. */}}
{{- define "code.podSpec" -}}
{{- $values := .root.Values }}
serviceAccountName: {{ include "code.serviceAccountName" .root }}
# The provider talks to kcp, with a kubeconfig. It has no use for this cluster's API.
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  {{- include "code.volumes" . | trim | nindent 2 }}
{{- end }}

{{/* dict: root, component, args. */}}
{{- define "code.container" -}}
{{- $values := .root.Values }}
image: {{ include "code.image" .root | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
args: [{{ .args }}]
env:
  {{- include "code.env" . | trim | nindent 2 }}
{{- with $values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  {{- include "code.volumeMounts" . | trim | nindent 2 }}
{{- end }}

{{/* The ports of /livez, /readyz and /metrics. serve gives each service its own, in this order. dict: root, field. */}}
{{- define "code.metricsPorts" -}}
{{- if eq (include "code.mode" .root) "single" }}
{{- range $index, $service := list "watcher" "connection-svc" "repository-svc" "access-svc" "package-crawler" "gateway" }}
- name: {{ $service }}
  {{ $.field }}: {{ add 9090 $index }}
{{- end }}
{{- else }}
- name: metrics
  {{ .field }}: 9090
{{- end }}
{{- end }}

{{- define "code.catalogEntry" -}}
{{- $url := printf "http://%s.%s.svc.cluster.local:%v" (include "code.fullname" .) .Release.Namespace .Values.service.port -}}
apiVersion: providers.kedge.faros.sh/v1alpha1
kind: CatalogEntry
metadata:
  name: code
spec:
  displayName: Code
  description: Repositories, deploy keys, collaborators and packages on git hosts, declared in your workspace.
  vendor: kedge
  version: {{ .Chart.AppVersion | quote }}
  category: Developer
  iconURL: /ui/providers/code/icon.svg
  ui:
    url: {{ $url }}
    indexPath: /
    children:
      - displayName: Connections
        builtinRoute: connections
      - displayName: Repositories
        builtinRoute: repositories
      - displayName: Packages
        builtinRoute: packages
  backend:
    url: {{ $url }}
    healthPath: /healthz
  apiExport:
    name: code.providers.kedge.faros.sh
    permissionClaims:
      # Read for the credentials of Connections, written for generated deploy keys.
      - resource: secrets
        verbs: [get, list, watch, create, update, patch, delete]
        tenantScoped: true
{{- end }}

{{/* How many messages of a service are runnable; see files/records.yaml. dict: root, service. */}}
{{- define "code.runnableQuery" -}}
{{- $mine := printf "job=%q, namespace=%q, consumer=~\"%s(-resync)?\"" (include "code.fullname" .root) .root.Release.Namespace .service }}
{{- printf "sum(max by (consumer) (code_consumer_pending_messages{%s}) + sum by (consumer) (code_consumer_messages{%s, state=~\"running|due\"}))" $mine $mine }}
{{- end }}
