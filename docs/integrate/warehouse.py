"""Keeps a SQLite table equal to a tenant's customers: `warehouse.py FILE`, with RAPPORT_URL and RAPPORT_KEY set."""
import json, os, sqlite3, sys, time
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

EVENTS = "/v1/services/customer/events"
TABLES = """CREATE TABLE IF NOT EXISTS customers (id TEXT PRIMARY KEY, version INTEGER, name TEXT, json TEXT);
            CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER)"""
PUT = """INSERT INTO customers VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE
         SET version = ?2, name = ?3, json = ?4 WHERE version < ?2"""  # What is newer stays.


def get(path, **query):
    request = Request(f"{os.environ['RAPPORT_URL']}{path}?{urlencode(query)}")
    request.add_header("Authorization", f"Bearer {os.environ['RAPPORT_KEY']}")
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)


def put(db, customer):
    db.execute(PUT, (customer["id"], int(customer["etag"]), customer["displayName"], json.dumps(customer)))


def snapshot(db):
    place = get(EVENTS + ":position").get("lastNumber", 0)  # First the place, then the customers.
    with db:  # One transaction: all of it, or nothing.
        db.execute("DELETE FROM customers")
        token = ""
        while token is not None:
            page = get("/v1/customers", pageSize=200, pageToken=token)
            for customer in page["customers"]:
                put(db, customer)
            token = page.get("nextPageToken")
        db.execute("INSERT OR REPLACE INTO place VALUES (1, ?)", (place,))


def follow(db, place):
    page = get(EVENTS, after=place, pageSize=1000, subjects="customer.>")
    with db:  # The rows and the place, or neither.
        for event in page["events"]:
            customer, version = event["record"].split("/")[1], int(event["recordVersion"])
            if event["subject"] == "customer.deleted.v1":
                db.execute("DELETE FROM customers WHERE id = ? AND version < ?", (customer, version))
            elif "customer" in event.get("data", {}):  # Not in shares, nor where the payload was erased.
                put(db, event["data"]["customer"])
        db.execute("UPDATE place SET number = ?", (page.get("nextAfter", 0),))
    return page.get("nextAfter") == page.get("lastNumber")  # What is 0 is left out.


def main(file):
    db = sqlite3.connect(file, timeout=60)
    db.executescript(TABLES)
    while True:
        place = db.execute("SELECT number FROM place").fetchone()
        try:
            if place is None:
                snapshot(db)
            elif follow(db, place[0]):
                time.sleep(1)
        except HTTPError as error:
            if json.load(error).get("reason") not in ("EVENTS_DROPPED", "EVENTS_NOT_YET"):
                raise
            snapshot(db)


if __name__ == "__main__":
    main(sys.argv[1])
