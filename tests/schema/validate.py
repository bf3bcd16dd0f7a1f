"""What a JSON Schema validator says of TOML files: `validate.py SCHEMA FILE...`.

Prints {"schema": [...], "files": {FILE: [...]}} with a line for each fault. Faults of the schema are those of
its form, and defaults and examples that it does not take itself.
"""

import json
import sys
import tomllib

from jsonschema import Draft202012Validator


def faults(validator, instance):
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(instance)]


def own_values(node):
    """Each schema in `node` with the defaults and examples that stand beside it."""
    if isinstance(node, dict):
        values = list(node.get("examples", []))
        values += [node["default"]] if "default" in node and node["default"] != "" else []
        if values:
            yield node, values
        for inner in node.values():
            yield from own_values(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from own_values(inner)


with open(sys.argv[1]) as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)

own = []
for node, values in own_values(schema["$defs"]):
    validator = Draft202012Validator({**node, "$defs": schema["$defs"]})
    own += [fault for value in values for fault in faults(validator, value)]

told = {}
for name in sys.argv[2:]:
    with open(name, "rb") as file:
        told[name] = faults(Draft202012Validator(schema), tomllib.load(file))
print(json.dumps({"schema": own, "files": told}))
