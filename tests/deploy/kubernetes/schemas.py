"""Lays out schemas as kubeconform reads them without a network: those of the package kubernetes-validate,
and those in definitions of custom resources.

    schemas.py DIRECTORY [DEFINITION.yaml …]
    kubeconform -strict -schema-location 'DIRECTORY/{{.ResourceKind}}{{.KindSuffix}}.json'
"""

import json
import sys
from importlib.resources import files
from pathlib import Path

import yaml

VERSION = "1.34.0"


def strict(schema):
    """An object whose members are known has no others."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            strict(value)
    elif isinstance(schema, list):
        for value in schema:
            strict(value)


target = Path(sys.argv[1])
target.mkdir(parents=True, exist_ok=True)
for file in (files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}-local-strict").iterdir():
    if file.name.endswith(".json"):
        schema = json.loads(file.read_text())
        schema.pop("$id", None)  # names an outside host
        text = json.dumps(schema).replace('"/api/_definitions.json#', '"_definitions.json#')
        (target / file.name).write_text(text)
for definition in sys.argv[2:]:
    spec = yaml.safe_load(Path(definition).read_text())["spec"]
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"]["metadata"] = {"type": "object"}
        schema["properties"]["metadata"]["additionalProperties"] = True
        strict(schema)
        name = "-".join([spec["names"]["kind"], spec["group"].split(".")[0], version["name"]]).lower()
        (target / f"{name}.json").write_text(json.dumps(schema))
