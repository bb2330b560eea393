"""The settings that the services read, from their Rust sources, and those that the chart offers."""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVICES = ("collector", "aggregator", "billing", "alerts", "gateway")

# Set by the chart itself or by a value of their own.
NOT_IN_SETTINGS = {
    "collector": {"listen", "secret_key"},
    "aggregator": set(),
    "billing": {"stripe_key"},
    "alerts": {"smtp_url", "dashboard_url"},
    "gateway": {"listen", "operator_token", "collector_public_key", "public_url"},
}


def structs(folder):
    """Every struct below a folder, as {name: {field: type}}, and the names of those that are validated."""
    found, validated = {}, set()
    for path in sorted(folder.rglob("*.rs")):
        text = path.read_text()
        validated.update(re.findall(r"^impl (?:\w+::)?Validate for (\w+)", text, re.M))
        for name, body in re.findall(r"^pub(?:\(crate\))? struct (\w+) \{\n(.*?)^\}", text, re.M | re.S):
            found[name] = dict(re.findall(r"^    pub(?:\(crate\))? (\w+): ([^\n]+),$", body, re.M))
    return found, validated


def names(fields, known):
    """Environment names of a struct's settings, nested structs included."""
    for field, kind in fields.items():
        if kind in known:
            yield from (f"{field}__{inner}".upper() for inner in names(known[kind], known))
        else:
            yield field.upper()


def readable(root=ROOT):
    """For each service, the names of the environment variables that it knows."""
    common, _ = structs(root / "crates/chassis/src")
    shared = {f"FLOWMETER__{name}" for name in names(common["CommonSettings"], common)}
    result = {}
    for service in SERVICES:
        known, validated = structs(root / "services" / service / "src")
        (own,) = [name for name in validated if name in known]
        section = f"FLOWMETER__{service.upper()}__"
        result[service] = shared | {section + name for name in names(known[own], known)}
    return result


def offered(schema):
    """For each service, the names of the variables that its `settings` value can set."""
    result = {}
    for service in SERVICES:
        properties = schema["properties"][service]["properties"]["settings"]["properties"]
        section = f"FLOWMETER__{service.upper()}__"
        result[service] = {
            section + (f"{key}__{inner}" if inner else key).upper()
            for key, value in properties.items()
            for inner in (value.get("properties") or {None: None})
        }
    return result


def compare(root=ROOT):
    """What the chart's schema and the sources do not agree on."""
    schema = json.loads((root / "deploy/kubernetes/flowmeter/values.schema.json").read_text())
    known, schema_names = readable(root), offered(schema)
    for service in SERVICES:
        section = f"FLOWMETER__{service.upper()}__"
        own = {name for name in known[service] if name.startswith(section)}
        own -= {section + name.upper() for name in NOT_IN_SETTINGS[service]}
        for name in sorted(own ^ schema_names[service]):
            place = "the sources" if name in own else "values.schema.json"
            yield f"{service}: only {place} know the setting {name}"
