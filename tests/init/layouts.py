"""Projects as people lay them out, small: path -> text."""

from __future__ import annotations

from pathlib import Path

Files = dict[str, str]


def write(root: Path, files: Files) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def dockerfile(*copies: str, base: str = "python:3.12-slim", port: int | None = 8000) -> str:
    expose = f"EXPOSE {port}\n" if port else ""
    return (
        f"FROM {base}\nWORKDIR /app\n"
        + "".join(f"COPY {one}\n" for one in copies)
        + expose
        + 'CMD ["./run"]\n'
    )


def workload(
    name: str, *images: str, kind: str = "Deployment", namespace: str = "", init: str = "", more: str = ""
) -> str:
    """A Deployment or StatefulSet; an image is "container=image" or the image alone."""
    boxes = [one if "=" in one else f"{name}={one}" for one in images]
    listed = "".join("        - {{name: {}, image: {}}}\n".format(*one.split("=")) for one in boxes)
    early = (
        "      initContainers:\n        - {{name: {}, image: {}}}\n".format(*init.split("=")) if init else ""
    )
    where = f", namespace: {namespace}" if namespace else ""
    return (
        f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}{where}}}\nspec:\n"
        f"  selector: {{matchLabels: {{app: {name}}}}}\n"
        + (f"  serviceName: {name}\n" if kind == "StatefulSet" else "")
        + f"  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n{early}"
        + f"      containers:\n{listed}{more}"
    )
