"""The chart's README, from values.schema.json and values.yaml."""

import json

HEADER = """# Chart flowmeter

Flowmeter on Kubernetes 1.30 or later: a Deployment for each service. Postgres and NATS are installed by their own operator and chart. How to
install, upgrade and scale: [docs/kubernetes.md](../../../docs/kubernetes.md). Examples: [values](../values).

    helm install flowmeter deploy/kubernetes/flowmeter --namespace flowmeter --values my-values.yaml

This file is generated from `values.schema.json` and `values.yaml`: `dev/check-kubernetes.sh --write`. Unknown values are refused.
"""

SETTING = """
## A value, or where to find it

A value of the type *setting* is `{value: ...}` or `{secretKeyRef: {name: ..., key: ...}}`. A secret `value` goes into a Secret that the chart
makes; it is then also in Helm's record of the release. Files of values are merged: to replace one by the other, set the former to `null`.
"""

# Values with these types are described once.
NAMED = {"setting": "setting", "certificate": "certificates", "resources": "resources", "peers": "peers"}


def resolve(schema, part):
    """A part of the schema without references, and the name of the definition that it refers to."""
    for reference in part.get("allOf", []):
        name = reference["$ref"].removeprefix("#/definitions/")
        return {**schema["definitions"][name], "description": part["description"]}, name
    return part, None


def kind(part, named):
    if named in NAMED:
        return NAMED[named]
    if "enum" in part:
        return ", ".join(f"`{each}`" for each in part["enum"])
    text = part.get("type", "any")
    if "minimum" in part or "maximum" in part:
        text += f", {part.get('minimum', '')} to {part.get('maximum', '')}"
    return text


def default_of(values, path):
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return ""
        values = values[key]
    text = json.dumps(values, ensure_ascii=False)
    return f"`{text}`" if len(text) <= 90 else "see values.yaml"


def rows(schema, values, part, path):
    for key, child in part["properties"].items():
        child, named = resolve(schema, child)
        here = path + [key]
        if child.get("properties") and named not in NAMED:
            yield from rows(schema, values, child, here)
            continue
        description = child["description"].replace("|", "\\|")
        yield f"| `{'.'.join(here)}` | {kind(child, named)} | {default_of(values, here)} | {description} |"


def table(lines):
    return "\n".join(["| value | type | default | meaning |", "|---|---|---|---|", *lines]) + "\n"


def render(schema, values):
    parts = [HEADER, SETTING]
    common, sections = [], []
    for key, child in schema["properties"].items():
        if key == "global":
            continue
        child, named = resolve(schema, child)
        if child.get("properties") and named not in NAMED:
            lines = rows(schema, values, child, [key])
            sections.append(f"\n## {key}\n\n{child['description']}\n\n{table(lines)}")
        else:
            common.append(f"| `{key}` | {kind(child, named)} | {default_of(values, [key])} | {child['description']} |")
    parts.append("\n## Common\n\n" + table(common))
    parts.extend(sections)
    parts.append("\n## Types\n")
    for name, title in NAMED.items():
        definition = schema["definitions"][name]
        lines = [f"| `{row}` | {kind(*resolve(schema, value))} | | {value['description']} |"
                 for row, value in definition["properties"].items()]
        parts.append(f"\n### {title}\n\n{definition['description']}\n\n{table(lines)}")
    return "".join(parts)


def undescribed(part, path=""):
    """Values without a description, a type or bounds, and objects that accept unknown keys."""
    for key, child in part.get("properties", {}).items():
        here = f"{path}.{key}".removeprefix(".")
        if not child.get("description"):
            yield f"{here} has no description"
        if "allOf" in child:
            continue
        kinds = child.get("type")
        if not kinds and "enum" not in child:
            yield f"{here} has no type"
        if "integer" == kinds and not ("minimum" in child and "maximum" in child):
            yield f"{here} has no bounds"
        if "array" == kinds and "maxItems" not in child:
            yield f"{here} has no bound on its length"
        if "string" == kinds and not ("maxLength" in child or "enum" in child):
            yield f"{here} has no bound on its length"
        if child.get("properties") and child.get("additionalProperties") is not False:
            yield f"{here} accepts unknown keys"
        yield from undescribed(child, here)
