"""What JSON Schema cannot say about a request: that what it names exists, and how two of its values relate.

Only requests that are meant to be valid are changed; what is meant to be refused is sent as it was made.
"""

import os

import requests
import schemathesis
from schemathesis import GenerationMode

BASE = os.environ["FLOWMETER_URL"]
OPERATOR = {"Authorization": "Bearer " + os.environ["FLOWMETER_OPERATOR_TOKEN"]}
TENANT, PLAN, SOURCE = "north", "pro", "north-n8n"

# Far in the future: an override of a limit must not have ended.
LATER = "2999-12-31T00:00:00Z"


kept = False


def keep(path, body):
    requests.put(BASE + path, json=body, headers=OPERATOR, timeout=20).raise_for_status()


def tenant():
    """A tenant that exists, which an earlier request may have removed."""
    global kept
    if not kept:
        keep(f"/v1/plans/{PLAN}", {"name": "Pro"})
        keep(f"/v1/tenants/{TENANT}?restore=true", {"name": "North", "plan": PLAN})
        kept = True
    return TENANT


def admission(body):
    # Both may be left out only with a source's push token.
    if not body.get("tenant"):
        body.pop("source", None)
        body["tenant"] = tenant()


def source(body):
    # A new source needs a key, and so does one that moves to another host.
    body["api_key"] = body.get("api_key") or "key"
    if body.get("tenant"):
        body["tenant"] = tenant()
    for attribution in body.get("attributions") or []:
        attribution["tenant"] = tenant()


def new_tenant(body):
    tenant()
    body["plan"] = PLAN
    if body.get("limit_override_until"):
        body["limit_override_until"] = LATER


def correction(body):
    # No correction is made in a period that has not begun.
    if body.get("adjust"):
        body["adjust"].pop("period", None)


def token(body):
    if body.get("tenant"):
        body["tenant"] = tenant()


def plan(body):
    # An exponent is the currency's own.
    if body.get("price"):
        body["price"].pop("exponent", None)


BODIES = {
    "put_plan": plan,
    "admit": admission,
    "admit_batch": lambda body: [admission(one) for one in body["admissions"]],
    "put_source": source,
    "put_tenant": new_tenant,
    "correct_usage": correction,
    "create_token": token,
}


def usage_query(query):
    # A workflow is named with its source, and has no figures by hour.
    if "workflow" in query:
        query["source"] = SOURCE
        if query.get("grain") == "hour":
            query["grain"] = "day"
    else:
        query.pop("source", None)


QUERIES = {"get_usage_series", "explain_usage"}


@schemathesis.hook
def before_call(context, case, kwargs):
    global kept
    operation = case.operation.definition.raw.get("operationId")
    if case.method.upper() == "DELETE":
        kept = False
    meta = case.meta
    if meta is None or meta.generation.mode != GenerationMode.POSITIVE:
        return
    if operation in BODIES and isinstance(case.body, dict):
        BODIES[operation](case.body)
    if operation in QUERIES and case.query:
        usage_query(case.query)
