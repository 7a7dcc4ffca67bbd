"""Both ends of gRPC, as the library `grpcio` speaks it, without generated code; told what to do line by line."""

import sys
import threading
from concurrent import futures

import grpc

SERVICE = "tidegate.test.Calls"
GONE = [("x-late", "as trailers")]


def say(text):
    print(text, flush=True)


def unary(request, context):
    metadata = dict(context.invocation_metadata())
    context.set_trailing_metadata(GONE)
    return request + metadata.get("x-added", "").encode()


def download(request, context):
    context.set_trailing_metadata(GONE)
    for number in range(int(request)):
        yield bytes([number % 256]) * 1000


def upload(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def chat(requests, context):
    for request in requests:
        yield request[::-1]


def fail(request, context):
    context.set_trailing_metadata(GONE)
    context.abort(grpc.StatusCode[request.decode()], "as was asked for")


def hang(request, context):
    over = threading.Event()
    context.add_callback(over.set)
    yield b"I am here"
    say("ended" if over.wait(30) else "was never told")


def listen():
    server = grpc.server(futures.ThreadPoolExecutor(8))
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Download": grpc.unary_stream_rpc_method_handler(download),
        "Upload": grpc.stream_unary_rpc_method_handler(upload),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Hang": grpc.unary_stream_rpc_method_handler(hang),
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    say(port)
    server.wait_for_termination()


def call(channel, kind, name):
    return getattr(channel, kind)(f"/{SERVICE}/{name}")


def status(attempt):
    try:
        attempt()
        return "OK"
    except grpc.RpcError as error:
        return error.code().name


def orders(channel):
    def do_unary():
        method = call(channel, "unary_unary", "Unary")
        for text in [b"", b"hello", b"x" * 1_000_000]:
            answer, info = method.with_call(text, timeout=20, metadata=[("x-added", "!")])
            assert answer == text + b"!"
            assert ("x-late", "as trailers") in [(key, value) for key, value in info.trailing_metadata()]
        return "OK"

    def do_download():
        answers = call(channel, "unary_stream", "Download")(b"300", timeout=20)
        assert [answer[0] for answer in answers] == [number % 256 for number in range(300)]
        assert dict(answers.trailing_metadata())["x-late"] == "as trailers"
        return answers.code().name

    def do_upload():
        pieces = (bytes(10_000) for _ in range(200))
        return call(channel, "stream_unary", "Upload")(pieces, timeout=20).decode()

    def do_chat():
        turn = threading.Semaphore(1)

        def questions():
            for number in range(100):
                # Not before the last answer is here: both directions are open at once.
                turn.acquire()
                yield f"message {number}".encode()

        for number, answer in enumerate(call(channel, "stream_stream", "Chat")(questions(), timeout=20)):
            assert answer == f"message {number}".encode()[::-1]
            turn.release()
        return f"{number + 1} answers"

    def do_cancel():
        answers = call(channel, "unary_stream", "Hang")(b"", timeout=20)
        assert next(answers) == b"I am here"
        answers.cancel()
        return status(lambda: next(answers))

    def do_deadline():
        answers = call(channel, "unary_stream", "Hang")(b"", timeout=1)
        assert next(answers) == b"I am here"
        return status(lambda: next(answers))

    def do_fail(name):
        method = call(channel, "unary_unary", "Fail")
        try:
            method(name.encode(), timeout=20)
            return "OK"
        except grpc.RpcError as error:
            assert dict(error.trailing_metadata())["x-late"] == "as trailers"
            return f"{error.code().name}: {error.details()}"

    return {key[3:]: value for key, value in locals().items() if key.startswith("do_")}


def talk(address, authority=None):
    options = [("grpc.ssl_target_name_override", "shop.test"), ("grpc.enable_retries", 0)]
    if authority:
        with open(authority, "rb") as file:
            credentials = grpc.ssl_channel_credentials(file.read())
        channel = grpc.secure_channel(address, credentials, options)
    else:
        channel = grpc.insecure_channel(address, options)
    known = orders(channel)
    say("ready")
    for line in sys.stdin:
        name, *arguments = line.split()
        try:
            say(f"{name} {known[name](*arguments)}")
        except Exception as error:
            say(f"{name} {error!r}".replace("\n", " "))


if __name__ == "__main__":
    talk(*sys.argv[1:]) if len(sys.argv) > 1 else listen()
