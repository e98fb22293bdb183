"""Takes webhooks: `receiver.py PORT FILE`, with the webhook's secrets in RAPPORT_SECRETS, separated by blanks."""
import base64, contextlib, hashlib, hmac, os, sqlite3, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEYS = [base64.b64decode(secret.removeprefix("whsec_")) for secret in os.environ["RAPPORT_SECRETS"].split()]


def is_genuine(headers, body):
    """Whether one of the signatures was made with one of our keys, within the last five minutes."""
    event, sent, signatures = (headers.get("webhook-" + name, "") for name in ("id", "timestamp", "signature"))
    signed = f"{event}.{sent}.".encode() + body
    ours = [b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in KEYS]
    known = any(hmac.compare_digest(one, given.encode()) for one in ours for given in signatures.split(" "))
    return known and abs(time.time() - int(sent)) <= 300


class Receiver(BaseHTTPRequestHandler):
    timeout = 10  # Seconds for which a caller may be silent.

    def do_POST(self):
        length = self.headers.get("content-length", "")
        body = self.rfile.read(int(length)) if length.isdecimal() and len(length) < 8 else b""
        if not is_genuine(self.headers, body):
            return self.answer(400)
        with contextlib.closing(sqlite3.connect(FILE, timeout=5)) as db, db:
            # What came before is not taken again; it is answered alike, or it would be sent for ever.
            db.execute("INSERT OR IGNORE INTO events VALUES (?, ?)", (self.headers["webhook-id"], body.decode()))
        self.answer(204)  # Only now, when it is on disk.

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    PORT, FILE = int(sys.argv[1]), sys.argv[2]
    with contextlib.closing(sqlite3.connect(FILE)) as db:
        db.execute("CREATE TABLE IF NOT EXISTS events (id TEXT PRIMARY KEY, body TEXT)")
    ThreadingHTTPServer(("127.0.0.1", PORT), Receiver).serve_forever()
