"""A server of the OpenFeature Remote Evaluation Protocol over the SDK's own evaluation; or, given a URL, the SDK's own client of one.

The server says its port. A client says, for each line `KIND FLAG KEY`, the value that it got for the targeting key, or the error.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

TOKEN = "a-token-of-the-provider"


def only_for_the_launch(flag, context):
    variant = "on" if context.targeting_key == "shop-2.0.2" else "off"
    return FlagResolutionDetails(value=flag.variants[variant], reason=Reason.TARGETING_MATCH, variant=variant)


FLAGS = {
    "new_checkout": InMemoryFlag("off", {"on": True, "off": False}, context_evaluator=only_for_the_launch),
    "old_checkout": InMemoryFlag("off", {"on": True, "off": False}),
    "colour": InMemoryFlag("warm", {"warm": "red", "cold": "blue"}),
    "retries": InMemoryFlag("few", {"few": 3, "many": 30}),
    "limits": InMemoryFlag("default", {"default": {"cart": 10}}),
}

READ = {
    "boolean": ("get_boolean_details", False),
    "string": ("get_string_details", ""),
    "integer": ("get_integer_details", 0),
    "object": ("get_object_details", {}),
}


class Server(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        prefix, _, key = self.path.rpartition("/")
        if prefix != "/ofrep/v1/evaluate/flags":
            return self.answer(404, {})
        if key == "guarded" and self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {})
        attributes = dict(body.get("context", {}))
        target = attributes.pop("targetingKey", None)
        if target is None:
            return self.answer(400, {"key": key, "errorCode": "TARGETING_KEY_MISSING", "errorDetails": "who is it?"})
        kind = {bool: "boolean", str: "string", int: "integer", dict: "object"}
        name = "old_checkout" if key == "guarded" else key
        flag = FLAGS.get(name)
        read, default = READ[kind[type(next(iter(flag.variants.values())))] if flag else "boolean"]
        found = getattr(api.get_client(), read)(name, default, EvaluationContext(target, attributes))
        if found.error_code == ErrorCode.FLAG_NOT_FOUND:
            details = found.error_message or ""
            return self.answer(404, {"key": key, "errorCode": "FLAG_NOT_FOUND", "errorDetails": details})
        if found.error_code:
            return self.answer(400, {"key": key, "errorCode": found.error_code.value, "errorDetails": ""})
        self.answer(200, {"key": key, "value": found.value, "variant": found.variant, "reason": found.reason.value})


def serve():
    api.set_provider(InMemoryProvider(FLAGS))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def ask(url):
    from openfeature.contrib.provider.ofrep import OFREPProvider

    api.set_provider(OFREPProvider(url))
    for line in sys.stdin:
        kind, flag, target = line.split()
        read, default = READ[kind]
        found = getattr(api.get_client(), read)(flag, default, EvaluationContext(target))
        error = found.error_code and found.error_code.value
        print(error or json.dumps(found.value), flush=True)


if len(sys.argv) > 1:
    ask(sys.argv[1])
else:
    serve()
