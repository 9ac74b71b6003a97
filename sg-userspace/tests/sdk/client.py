"""Calls of an official Python SDK: a line of JSON in, a line of JSON out.

Arguments: the client (tea, tea-v1, legacy), the endpoint, and a file with the key.
A CA certificate, for an endpoint with TLS, may follow.
"""
import json
import re
import sys

kind, endpoint, key_file = sys.argv[1:4]
ca = sys.argv[4] if len(sys.argv) > 4 else None
key = json.load(open(key_file))
key_id, secret = key["AccessKeyId"], key["AccessKeySecret"]


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def tea():
    from alibabacloud_ecs20140526 import models
    from alibabacloud_ecs20140526.client import Client
    from alibabacloud_tea_openapi import models as open_api

    config = open_api.Config(access_key_id=key_id, access_key_secret=secret, endpoint=endpoint)
    config.protocol = "HTTPS" if ca else "HTTP"
    config.ca = ca
    if kind == "tea-v1":
        config.signature_algorithm = "v2"
    client = Client(config)

    def call(action, params):
        request = getattr(models, action + "Request")().from_map(params)
        method = snake(action).replace("v_switch", "vswitch").replace("d_vswitches", "d_vswitches")
        method = method if hasattr(client, method) else snake(action)
        return getattr(client, method)(request).body.to_map()

    return call


def flat(params, prefix=""):
    for name, value in params.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            for i, item in enumerate(value, 1):
                if isinstance(item, dict):
                    yield from flat(item, f"{prefix}{name}.{i}.")
                else:
                    yield f"{prefix}{name}.{i}", str(item)
        else:
            yield prefix + name, str(value)


def legacy():
    from aliyunsdkcore.client import AcsClient
    import importlib

    client = AcsClient(key_id, secret, "local", auto_retry=False)

    def call(action, params):
        module = importlib.import_module(f"aliyunsdkecs.request.v20140526.{action}Request")
        request = getattr(module, action + "Request")()
        request.set_endpoint(endpoint)
        request.set_protocol_type("http")
        request.set_accept_format("json")
        for name, value in flat(params):
            request.add_query_param(name, value)
        return json.loads(client.do_action_with_exception(request))

    return call


call = legacy() if kind == "legacy" else tea()
print(json.dumps({"ready": kind}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    try:
        answer = {"body": call(asked["action"], asked["params"])}
    except Exception as e:  # noqa: BLE001: whatever the SDK makes of an error is the answer
        code = getattr(e, "code", None) or getattr(e, "error_code", None)
        status = getattr(e, "status_code", None) or getattr(e, "statusCode", None) or getattr(e, "http_status", None)
        answer = {"code": str(code), "status": status, "message": str(e)}
    print(json.dumps(answer), flush=True)
