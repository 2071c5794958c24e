"""A hub that hangs up."""

from __future__ import annotations

import http.server
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from undisturbed import HERE, Context, Outcome, environment

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import json, sys, time
time.sleep = lambda seconds: None
from crossseed.cohorts.hub import members
from crossseed.cohorts.hub.source import Source
from crossseed.errors import UserError
try:
    found = members.load_source(Source(*sys.argv[1:]), ["blocks.1.hook_resid_post"], "float32", "cpu")
    print(json.dumps(["loaded", found.digest]))
except UserError as error:
    print(json.dumps(["refused", str(error)]))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub of one model that hangs up in the middle of a file as often as it is told."""

    root: Path
    drops = 0
    rng = random.Random(0)

    def do_GET(self) -> None:
        self.answer(True)

    def do_HEAD(self) -> None:
        self.answer(False)

    def answer(self, body: bool) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            files = [{"rfilename": path.name} for path in sorted(self.root.iterdir())]
            told = {"_id": "0", "id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": files}
            return self.reply(json.dumps(told).encode(), body, {})
        path = self.root / parts[-1]
        if not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{path.name}"'}
        return self.reply(path.read_bytes(), body, headers, path.name == "model.safetensors")

    def reply(
        self, content: bytes, body: bool, headers: dict[str, str], drop: bool = False
    ) -> None:
        first = 0
        asked = self.headers.get("Range", "")
        if body and asked.startswith("bytes=") and asked[6:-1].isdigit():
            first = int(asked[6:-1])
        self.send_response(206 if first else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if not body:
            return
        if drop and type(self).drops > 0:
            type(self).drops -= 1
            self.wfile.write(content[first : self.rng.randrange(first, len(content))])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(content[first:])

    def log_message(self, *_: object) -> None:
        pass


def hub_dropped(context: Context, outcome: Outcome, count: int) -> None:
    """The hub hangs up in the middle of a model's weights, more often than its client tries again; then it is back."""
    sys.path.insert(0, str(HERE.parent))
    import language_models

    hub = context.home / "hub"
    tokenizer = language_models.train_tokenizer(["ba ce di fo"] * 20)
    language_models.write_models(hub, ["lab/tiny"], tokenizer)
    root = hub / "lab" / "tiny"

    def load(home: Path, *source: str, **more: str) -> list[str]:
        kept = {k: v for k, v in environment().items() if "PROXY" not in k.upper()}
        kept |= {"HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}
        words = [sys.executable, "-c", LOAD, *source]
        said = subprocess.run(words, env=kept, capture_output=True, text=True, cwd=home)
        if said.returncode:
            return ["failed", said.stderr[-800:]]
        found: list[str] = json.loads(said.stdout.splitlines()[-1])
        return found

    _, wanted = load(hub, "lab/tiny", str(hub))
    handler = type("Dropping", (Hub,), {"root": root, "rng": context.rng})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        while outcome.faults < count:
            home = Path(tempfile.mkdtemp(dir=context.home))
            # Half of them for as long as the client tries, half so that it gets through in the end.
            hung_up = context.rng.choice([100, context.rng.randint(1, 3)])
            handler.drops = hung_up
            how, said = load(home, "lab/tiny", HF_ENDPOINT=endpoint)
            if handler.drops == hung_up:
                outcome.lost.append(f"the hub was not asked for the weights: {how}: {said}")
                break
            outcome.faults += 1
            if how == "refused" and "lab/tiny" in said and handler.drops:
                outcome.said += 1
            elif [how, said] == ["loaded", wanted] and not handler.drops:
                outcome.resumed += 1
            else:
                outcome.lost.append(f"hub dropped: {how}: {said}")
            handler.drops = 0
            outcome.runs += 1
            found = load(home, "lab/tiny", HF_ENDPOINT=endpoint)
            if found != ["loaded", wanted]:
                outcome.lost.append(f"hub back: {found}")
            shutil.rmtree(home)
    finally:
        server.shutdown()
        server.server_close()
