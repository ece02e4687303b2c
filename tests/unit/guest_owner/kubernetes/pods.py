"""A Pod with most of what becomes something else, and its conversion."""

from ccinit.formats.pod.manifest import PodManifest, parse_pod_manifest
from guest_owner.kubernetes.pod import convert_pod
from tests.fakes.network.tls_server import make_authority

CA = make_authority().pem
DIGEST = f"sha256:{'ab' * 32}"
POD = f"""\
apiVersion: v1
kind: Pod
metadata: {{name: shop, labels: {{app: shop}}}}
spec:
  restartPolicy: OnFailure
  runtimeClassName: confidential
  terminationGracePeriodSeconds: 20
  initContainers:
  - name: migrate
    image: registry.example/migrate@{DIGEST}
  containers:
  - name: web
    image: registry.example/web@{DIGEST}
    command: ["/bin/web"]
    args: ["--port", "80"]
    workingDir: /srv
    ports: [{{containerPort: 80}}]
    securityContext:
      {{runAsUser: 1000, readOnlyRootFilesystem: true,
       capabilities: {{drop: [ALL], add: [NET_BIND_SERVICE]}}}}
    readinessProbe: {{exec: {{command: [/bin/ready, now]}}, periodSeconds: 3}}
    livenessProbe: {{initialDelaySeconds: 9, timeoutSeconds: 2, tcpSocket: {{port: 80}}}}
    resources: {{limits: {{memory: 64Mi, cpu: 500m}}}}
    env:
    - {{name: GREETING, value: "say \\"hello\\""}}
    - name: TOKEN
      valueFrom: {{secretKeyRef: {{name: api, key: token}}}}
    volumeMounts:
    - {{name: cache, mountPath: /cache}}
    - {{name: tls, mountPath: /tls, readOnly: true}}
  volumes:
  - {{name: cache, emptyDir: {{medium: Memory, sizeLimit: 8Mi}}}}
  - name: tls
    secret: {{secretName: web-tls, items: [{{key: tls.key, path: key.pem}}]}}
"""


DEFAULT = "{type: RuntimeDefault}"


def convert(text: str = POD) -> PodManifest:
    return parse_pod_manifest(convert_pod(text, CA, 1 << 30))
