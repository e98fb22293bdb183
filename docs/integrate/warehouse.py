"""Keeps a SQLite table equal to a tenant's customers: `warehouse.py FILE`, with RAPPORT_URL and RAPPORT_KEY set."""
import json, os, sqlite3, sys, time
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

EVENTS = "/v1/services/customer/events"
PUT = """INSERT INTO customers VALUES (?1, ?2, ?3, ?4) ON CONFLICT (id) DO UPDATE
         SET version = ?2, name = ?3, json = ?4 WHERE version < ?2"""  # What is newer stays.

def get(path, **query):
    url, key = f"{os.environ['RAPPORT_URL']}{path}?{urlencode(query)}", f"Bearer {os.environ['RAPPORT_KEY']}"
    with urlopen(Request(url, headers={"Authorization": key}), timeout=60) as answer:
        return json.load(answer)

def put(customer):
    db.execute(PUT, (customer["id"], int(customer["etag"]), customer["displayName"], json.dumps(customer)))

def snapshot(token=""):
    place = get(EVENTS + ":position").get("lastNumber", 0)  # First the place, then the customers.
    db.execute("DELETE FROM customers")
    while token is not None:
        page = get("/v1/customers", pageSize=200, pageToken=token)
        for customer in page["customers"]:
            put(customer)
        token = page.get("nextPageToken")
    return place

def follow(place):
    page = get(EVENTS, after=place, pageSize=1000, subjects="customer.>")
    for event in page["events"]:
        customer, version = event["record"].split("/")[1], int(event["recordVersion"])
        if event["subject"] == "customer.deleted.v1":
            db.execute("DELETE FROM customers WHERE id = ? AND version < ?", (customer, version))
        elif "customer" in event.get("data", {}):  # Not in shares, nor where the payload was erased.
            put(event["data"]["customer"])
    return page.get("nextAfter", 0)  # What is 0 is left out.

db = sqlite3.connect(sys.argv[1], timeout=60)
db.execute("CREATE TABLE IF NOT EXISTS customers (id TEXT PRIMARY KEY, version INTEGER, name TEXT, json TEXT)")
db.execute("CREATE TABLE IF NOT EXISTS place (number INTEGER)")
while True:
    before = db.execute("SELECT number FROM place").fetchone()
    with db:  # The rows and the place, or neither.
        try:
            place = follow(*before) if before else snapshot()
        except HTTPError as error:
            if json.load(error).get("reason") not in ("EVENTS_DROPPED", "EVENTS_NOT_YET"):
                raise
            place = snapshot()
        db.execute("DELETE FROM place")
        db.execute("INSERT INTO place VALUES (?)", (place,))
    if before == (int(place),):
        time.sleep(1)
