"""Projects as people lay them out, and what `devloop init --yes` makes of them.

The programs of COMPOSE, SIDECAR, STATEFUL, UMBRELLA, KUSTOMIZE and BARE run (bench/five_minutes.py).
"""

from __future__ import annotations

from tests.support.project_files import WORKER, Files, Result, dockerfile, server, workload

MONOREPO = {
    "services/api/Dockerfile": dockerfile("libs/common ./common", "services/api/ ."),
    "services/api/main.py": "",
    "services/worker/Dockerfile": dockerfile("libs/common ./common", "services/worker/ .", port=None),
    "services/worker/main.py": "",
    "libs/common/lib.py": "",
    "k8s/api.yaml": workload("api", "acme/api:latest"),
    "k8s/worker.yaml": workload("worker", "acme/worker:latest"),
}
ONE_IMAGE = {
    "app/Dockerfile": dockerfile(". ."),
    "app/main.py": "",
    "deploy/web.yaml": workload("shop-web", "web=shop-app"),
    "deploy/queue.yaml": workload("shop-queue", "queue=shop-app"),
}
NGINX = ("nginx", "-g", "daemon off;")
SIDECAR = {
    "backend/Dockerfile": dockerfile(". ."),
    "backend/main.py": server("backend"),
    "proxy/Dockerfile": dockerfile("nginx.conf /etc/nginx/", base="nginx:1.27", port=8080, command=NGINX),
    "proxy/nginx.conf": (
        "events {}\nhttp {\n  server {\n    listen 8080;\n"
        "    location / { proxy_pass http://127.0.0.1:8000; }\n  }\n}\n"
    ),
    "k8s/shop.yaml": workload("shop", "app=shop-backend", "proxy=shop-proxy"),
}
STATEFUL = {
    "store/Dockerfile": dockerfile(". ."),
    "store/main.py": server("store"),
    "k8s/store.yaml": workload(
        "store",
        "store:latest",
        kind="StatefulSet",
        extra="volumeMounts: [{name: data, mountPath: /data}], "
        "readinessProbe: {tcpSocket: {port: 8000}, periodSeconds: 1}",
        more="  volumeClaimTemplates:\n    - metadata: {name: data}\n"
        "      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 100Mi}}}\n",
    ),
    "k8s/service.yaml": (
        "apiVersion: v1\nkind: Service\nmetadata: {name: store}\n"
        "spec: {clusterIP: None, selector: {app: store}, ports: [{port: 8000}]}\n"
    ),
}
INIT_CONTAINER = {
    "api/Dockerfile": dockerfile(". ."),
    "migrations/Dockerfile": dockerfile(". .", port=None),
    "k8s/api.yaml": workload("api", "api=app-api", init="migrate=app-migrations"),
}
OUTSIDE = {
    "docker/backend/Dockerfile": dockerfile("src/backend/requirements.txt ./", "src/backend ./"),
    "docker/frontend/Dockerfile": dockerfile("package.json ./", ". ."),
    "src/backend/requirements.txt": "",
    "src/frontend/package.json": "",
    "k8s/all.yaml": workload("backend", "todo-backend") + "---\n" + workload("frontend", "todo-frontend"),
}
REGISTRY = {
    "Dockerfile": dockerfile(". ."),
    "main.py": "",
    "k8s/deployment.yaml": workload(
        "payments", "payments=ghcr.io/acme/payments-service:1.4.2", "cache=redis:7"
    ),
}
BARE = {
    "api/Dockerfile": dockerfile(". ."),
    "api/main.py": server("api"),
    "web/Dockerfile": dockerfile(". .", port=3000),
    "web/main.py": server("web"),
}
COMPOSE = {
    "compose.yaml": """
name: shop
services:
  api:
    build: {context: ., dockerfile: docker/api.Dockerfile, target: run, args: {LEVEL: 2}}
    ports: ["8080:8000"]
    environment: {DATABASE_URL: "postgres://db/shop", TOKEN: "${TOKEN}", LEVEL: "${LEVEL:-info}"}
    depends_on: [db]
  worker:
    build: {context: ., dockerfile: docker/api.Dockerfile, target: run, args: {LEVEL: 2}}
    command: python3 src/worker.py
    env_file: .env
  web:
    build: ./web
    image: shop/web:${TAG:-dev}
  db:
    image: postgres:16
    environment: [POSTGRES_HOST_AUTH_METHOD=trust]
    volumes: ["data:/var/lib/postgresql/data", "./seed:/seed"]
    ports: ["5432"]
volumes: {data: {}}
""",
    "docker/api.Dockerfile": (
        "FROM python:3.12 AS run\nWORKDIR /app\nCOPY src ./src\nEXPOSE 8000\n"
        'CMD ["python3", "src/main.py", "8000"]\n'
    ),
    "src/main.py": server("api"),
    "src/worker.py": WORKER,
    "web/Dockerfile": dockerfile(". .", port=3000),
    "web/main.py": server("web"),
    ".env": "TOKEN=hunter2hunter2\n",
}
SKAFFOLD = {
    "skaffold.yaml": """
apiVersion: skaffold/v4beta11
kind: Config
build:
  artifacts:
    - image: gcr.io/acme/front
      context: src/front
    - image: gcr.io/acme/back
      docker: {dockerfile: src/back/Dockerfile, buildArgs: {MODE: dev}}
    - image: gcr.io/acme/java
      jib: {}
manifests:
  rawYaml: [kubernetes/*.yaml]
""",
    "src/front/Dockerfile": dockerfile(". ."),
    "src/back/Dockerfile": dockerfile("src/back ./"),
    "src/back/main.go": "",
    "kubernetes/front.yaml": workload("frontend", "server=gcr.io/acme/front"),
    "kubernetes/back.yaml": workload("backend", "server=gcr.io/acme/back"),
    "old/front.yaml": workload("frontend", "server=gcr.io/acme/front:v0"),
}
KUSTOMIZE = {
    "api/Dockerfile": dockerfile(". ."),
    "api/main.py": server("api"),
    "deploy/base/kustomization.yaml": "resources: [api.yaml]\n",
    "deploy/base/api.yaml": workload("api", "api=registry.example/api:1"),
    "deploy/overlays/dev/kustomization.yaml": (
        "namespace: shop\nnamePrefix: dev-\nresources: [../../base, namespace.yaml]\n"
        "patches: [{path: patch.yaml}]\nimages: [{name: registry.example/api, newName: shop/api}]\n"
    ),
    "deploy/overlays/dev/namespace.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n",
    "deploy/overlays/dev/patch.yaml": (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: api}\nspec: {replicas: 1}\n"
    ),
    "deploy/overlays/prod/kustomization.yaml": "resources: [../../base]\n",
}
HELPERS = """{{- define "app.fullname" -}}
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
"""


def template(name: str, image: str = "{{ .Values.image.repository }}:{{ .Values.image.tag }}") -> str:
    return (
        f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n"
        "  selector:\n    matchLabels: {app: {{ .Chart.Name }}}\n"
        "  template:\n    metadata:\n      labels: {app: {{ .Chart.Name }}}\n"
        f'    spec:\n      containers:\n        - name: main\n          image: "{image}"\n'
    )


UMBRELLA = {
    "services/frontend/Dockerfile": dockerfile(". .", port=3000),
    "services/frontend/main.py": server("frontend"),
    "services/backend/Dockerfile": dockerfile(". ."),
    "services/backend/main.py": server("backend"),
    "chart/Chart.yaml": (
        "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies:\n"
        "  - {name: frontend, version: 1.0.0}\n  - {name: backend, version: 1.0.0}\n"
    ),
    "chart/values.yaml": "backend: {image: {tag: one}}\n",
    "chart/values-dev.yaml": "frontend: {replicas: 1}\n",
    "chart/values-prod.yaml": "frontend: {replicas: 9}\n",
    **{
        f"chart/charts/{name}/{file}": text
        for name in ("frontend", "backend")
        for file, text in {
            "Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n",
            "values.yaml": f"image: {{repository: shop-{name}, tag: latest}}\nreplicas: 2\n",
            "templates/deployment.yaml": template("{{ .Release.Name }}-{{ .Chart.Name }}"),
        }.items()
    },
}
PLAIN_CHART = {
    "Dockerfile": dockerfile(". ."),
    "helm/app/Chart.yaml": "apiVersion: v2\nname: app\nversion: 1.0.0\n",
    "helm/app/values.yaml": "image: {repository: acme/app, tag: latest}\n",
    "helm/app/templates/_helpers.tpl": HELPERS,
    "helm/app/templates/deployment.yaml": template('{{ include "app.fullname" . }}'),
}
STAGES = {
    "Dockerfile": "FROM golang AS build\nCOPY cmd cmd\nFROM scratch AS api\nFROM scratch AS worker\n",
    "cmd/main.go": "",
    "deploy/api.yaml": workload("api", "ghcr.io/acme/mono-api:main"),
    "deploy/worker.yaml": workload("worker", "ghcr.io/acme/mono-worker:main"),
}

# name, files, and what init makes of them: service -> image, context, workloads
LAYOUTS: list[tuple[str, Files, Result]] = [
    (
        "monorepo",
        MONOREPO,
        {"api": ("acme/api", ".", "deployment/api"), "worker": ("acme/worker", ".", "deployment/worker")},
    ),
    ("one image", ONE_IMAGE, {"app": ("shop-app", "app", "deployment/shop-queue deployment/shop-web")}),
    (
        "own sidecar",
        SIDECAR,
        {
            "backend": ("shop-backend", "backend", "deployment/shop[app]"),
            "proxy": ("shop-proxy", "proxy", "deployment/shop[proxy]"),
        },
    ),
    ("StatefulSet", STATEFUL, {"store": ("store", "store", "statefulset/store")}),
    (
        "init container",
        INIT_CONTAINER,
        {
            "api": ("app-api", "api", "deployment/api[api]"),
            "migrations": ("app-migrations", "migrations", "deployment/api[migrate]"),
        },
    ),
    (
        "Dockerfiles outside",
        OUTSIDE,
        {
            "backend": ("todo-backend", ".", "deployment/backend"),
            "frontend": ("todo-frontend", "src/frontend", "deployment/frontend"),
        },
    ),
    (
        "registry",
        REGISTRY,
        {"payments-service": ("ghcr.io/acme/payments-service", ".", "deployment/payments")},
    ),
    (
        "nothing but Dockerfiles",
        BARE,
        {"api": ("project-api", "api", "deployment/api"), "web": ("project-web", "web", "deployment/web")},
    ),
    (
        "compose",
        COMPOSE,
        {
            "api": ("shop-api", ".", "deployment/api deployment/worker"),
            "web": ("shop/web", "web", "deployment/web"),
        },
    ),
    (
        "skaffold",
        SKAFFOLD,
        {
            "front": ("gcr.io/acme/front", "src/front", "deployment/frontend"),
            "back": ("gcr.io/acme/back", ".", "deployment/backend"),
        },
    ),
    ("kustomize", KUSTOMIZE, {"api": ("shop/api", "api", "deployment/dev-api@shop")}),
    (
        "umbrella chart",
        UMBRELLA,
        {
            "backend": ("shop-backend", "services/backend", "deployment/shop-backend"),
            "frontend": ("shop-frontend", "services/frontend", "deployment/shop-frontend"),
        },
    ),
    (
        "stages",
        STAGES,
        {
            "api": ("ghcr.io/acme/mono-api", ".", "deployment/api"),
            "worker": ("ghcr.io/acme/mono-worker", ".", "deployment/worker"),
        },
    ),
    ("chart", PLAIN_CHART, {"app": ("acme/app", ".", "deployment/app")}),
]
