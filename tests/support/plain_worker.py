"""A NoETL worker of fifty lines, from the original's protocol alone: plain HTTP, no word of this project."""

import base64
import json
import sys
import time
import traceback
import urllib.request
import uuid

SERVER, TOKEN, WORKER = sys.argv[1] + "/api", sys.argv[2], "plain-" + str(uuid.uuid4())


def post(path, body):
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + TOKEN}
    request = urllib.request.Request(SERVER + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)


def run(task):
    """The `python` executor: `main(**with)`, in the envelope that executors return."""
    names = {}
    try:
        exec(base64.b64decode(task["code_b64"]).decode(), names)  # what a python step is
        return {"id": str(uuid.uuid4()), "status": "success", "data": names["main"](**task.get("with", {}))}
    except Exception as error:
        told = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        return {"id": str(uuid.uuid4()), "status": "error", **told}


post("/worker/pool/register", {"name": WORKER, "runtime": "cpu", "base_url": "http://queue-worker"})
while True:
    leased = post("/queue/lease", {"worker_id": WORKER, "lease_seconds": 60})
    if leased["status"] == "empty":
        time.sleep(0.2)
        continue
    job = leased["job"]
    asked = {"execution_id": job["execution_id"], "template": {"work": job["context"], "task": job["action"]}}
    rendered = post("/context/render", asked | {"extra_context": {"job": {"id": job["id"]}}, "strict": True})[
        "rendered"
    ]
    event = {key: job[key] for key in ("execution_id", "node_id", "worker_id")} | {"node_type": "task"}
    post("/events", event | {"event_type": "action_started", "status": "RUNNING", "context": rendered})
    result = run(rendered["task"])
    good = result["status"] == "success"
    outcome = ("action_completed", "COMPLETED") if good else ("action_error", "ERROR")
    post("/events", event | {"event_type": outcome[0], "status": outcome[1], "result": result})
    post(f"/queue/{job['id']}/" + ("complete" if good else "fail"), {} if good else {"retry": False})
