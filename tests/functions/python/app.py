"""The function that every language has, as docs of the table in tests/integration/worker/runtimes say."""

import os
import time

COUNT = 0


def handler(event, context):
    return ACTIONS[event["do"]](event, context)


def count(event, context):
    global COUNT
    COUNT += 1
    return COUNT


def fail(event, context):
    raise ValueError("no luck")


def note(event, context):
    path = os.environ["TMPDIR"] + "/kept"
    with open(path, "a") as file:
        file.write(event["text"])
    with open(path) as file:
        return file.read()


def layer(event, context):
    import greeting

    return greeting.TEXT


def sleep(event, context):
    print("asleep", flush=True)
    time.sleep(600)


def hog(event, context):
    hoard = []
    while True:
        hoard.append(bytearray(1 << 20))


def facts(event, context):
    print("a line")
    return {
        "request": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "function": context.function_name,
        "version": context.function_version,
        "memory": int(context.memory_limit_in_mb),
        "remaining": context.get_remaining_time_in_millis(),
        "client": context.client_context.custom["k"],
        "trace": os.environ.get("_X_AMZN_TRACE_ID"),
    }


ACTIONS = {
    "hello": lambda event, context: {"hello": event["name"]},
    "echo": lambda event, context: event["data"],
    "crash": lambda event, context: os._exit(3),
    "count": count,
    "fail": fail,
    "note": note,
    "layer": layer,
    "sleep": sleep,
    "hog": hog,
    "facts": facts,
}
