{{- /* One release in a namespace may be called anything; beside another chart it bears its name. */ -}}
{{- define "foregate.name" -}}
{{- if contains "foregate" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-foregate{{ end -}}
{{- end }}

{{- define "foregate.selector" -}}
app.kubernetes.io/name: foregate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "foregate.labels" -}}
{{ include "foregate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The container, as it is the same in front of all apps and beside one. */ -}}
{{- define "foregate.container" -}}
name: foregate
image: {{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [run, --config, /etc/foregate/proxy.toml]
# What ports, probes and the grace period depend on stands here; variables go before the file.
env:
  - { name: FOREGATE_SERVER__HTTP, value: "0.0.0.0:8080" }
  - { name: FOREGATE_SERVER__ADMIN, value: "0.0.0.0:9901" }
  - { name: FOREGATE_SERVER__DRAIN_DELAY, value: {{ eq .Values.mode "sidecar" | ternary "0s" .Values.drainDelay }} }
  - { name: FOREGATE_SERVER__SHUTDOWN_GRACE, value: {{ .Values.shutdownGrace }} }
  - { name: FOREGATE_SERVER__WORKERS, value: {{ .Values.workers | quote }} }
  - { name: FOREGATE_LIMITS__CONNECTIONS, value: {{ .Values.connections | int | quote }} }
  - { name: FOREGATE_REFRESH__LEDGER_ENTRIES, value: {{ .Values.ledgerEntries | int | quote }} }
  - name: FOREGATE_REFRESH__LEDGER
    valueFrom:
      secretKeyRef:
        name: {{ .Values.secret }}
        key: ledger
        {{- if or (eq .Values.mode "sidecar") (and (le (int .Values.replicas) 1) (not .Values.autoscaling.enabled)) }}
        optional: true
        {{- end }}
ports:
  - { name: gate, containerPort: 8080 }
  - { name: gate-admin, containerPort: 9901 }
startupProbe:
  httpGet: { path: /healthz, port: 9901 }
  periodSeconds: 1
  failureThreshold: 30
readinessProbe:
  httpGet: { path: /readyz, port: 9901 }
  periodSeconds: 5
  failureThreshold: 1
livenessProbe:
  httpGet: { path: /healthz, port: 9901 }
  periodSeconds: 10
  timeoutSeconds: 3
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  readOnlyRootFilesystem: true
  allowPrivilegeEscalation: false
  capabilities: { drop: [ALL] }
  seccompProfile: { type: RuntimeDefault }
volumeMounts:
  - { name: foregate-config, mountPath: /etc/foregate, readOnly: true }
  - { name: foregate-secrets, mountPath: /run/secrets/foregate, readOnly: true }
{{- end }}

{{- define "foregate.volumes" -}}
- name: foregate-config
  configMap: { name: {{ include "foregate.name" . }} }
- name: foregate-secrets
  secret: { secretName: {{ .Values.secret }} }
{{- end }}

{{- /* For charts that depend on this one with `mode: sidecar`. Each takes the context of this chart:
       include "foregate.sidecar.initContainer" .Subcharts.foregate
       As an item of initContainers, of volumes, and among the labels of the pod template. */ -}}
{{- define "foregate.sidecar.initContainer" -}}
- restartPolicy: Always
{{ include "foregate.container" . | indent 2 }}
{{- end }}

{{- define "foregate.sidecar.volumes" -}}
{{ include "foregate.volumes" . }}
{{- end }}

{{- define "foregate.sidecar.labels" -}}
foregate: sidecar
{{- end }}
