"""YAML on stdin, the objects in it as one JSON list on stdout."""

import json
import sys

import yaml

json.dump([found for found in yaml.safe_load_all(sys.stdin) if found], sys.stdout)
