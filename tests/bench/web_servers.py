# SPDX-License-Identifier: Apache-2.0
"""make bench-web-servers: what each web server costs against lighttpd with an own socket.

All five stand in front of the same database, bus and worker, with the files of conf/. They are measured in turns,
and the median of the rounds counts. docs/web-servers.md has the figures of one run.
"""
import http.client
import json
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

import fastcgi  # noqa: E402
import fronts  # noqa: E402
import harness  # noqa: E402
import load  # noqa: E402
import rows  # noqa: E402
from servers import servers  # noqa: E402

CLIENTS = 32
ROUNDS = 5
SECONDS = 2
WARM_UP_S = 2
FCGID_WARM_UP_S = 12  # further processes are only started after a second in which none was free
STREAMS = 100
STARTS = 20


def first_byte_ms(front, org, app):
    """From the request to the first byte of the stream's first event, one stream after the other."""
    body = json.dumps({"instance_id": app, "message": "hello world"})
    headers = {"Authorization": f"Bearer {org.member.token}", "Content-Type": "application/json"}
    times = []
    for _ in range(STREAMS):
        began = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=30)
        connection.request("POST", org.member.chat_path, body, headers)
        response = connection.getresponse()
        assert response.read(1) == b"e", (front.name, response.status, front.tail())
        times.append((time.perf_counter() - began) * 1000)
        response.read()
        connection.close()
    return statistics.median(times)


def start_ms(stack):
    """From the start of a process, as mod_fcgid starts it, to its first answer."""
    path = stack.folder / "start.sock"
    stack.write_conf(stack.folder / "start.conf", app={"socket": None})
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        began = time.perf_counter()
        process = subprocess.Popen([harness.program("hearth.fcgi"), "--config", str(stack.folder / "start.conf")],
                                   stdin=listener, stderr=subprocess.DEVNULL)
        assert fastcgi.Request(path, "GET", "/healthz", "").read().startswith(b"Status: 200")
        taken_ms = (time.perf_counter() - began) * 1000
        process.terminate()
        assert process.wait(30) == 0
    path.unlink()
    return taken_ms


def memory_of(front):
    """Resident KiB of its own (not shared with other processes), of one process that the server started."""
    found = []
    for pid in front.children():
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        found.append(sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")))
    return statistics.median(found)


def measure(stack, all_fronts, org, app):
    health = load.Load("GET", "/healthz", "")
    chat = load.chat(org, [app])
    found = {front.name: {"healthz": [], "chat": [], "first byte": []} for front in all_fronts}
    for front in all_fronts:
        seconds = FCGID_WARM_UP_S if front.name == fronts.ApacheFcgid.name else WARM_UP_S
        chat.start(front.port, CLIENTS, seconds).result()
    for _ in range(ROUNDS):
        for front in all_fronts:
            found[front.name]["healthz"].append(health.run(front.port, CLIENTS, SECONDS).rate)
        for front in all_fronts:
            found[front.name]["chat"].append(chat.run(front.port, CLIENTS, SECONDS).rate)
        for front in all_fronts:
            found[front.name]["first byte"].append(first_byte_ms(front, org, app))
    fcgid = next(f for f in all_fronts if f.name == fronts.ApacheFcgid.name)
    starts = [start_ms(stack) for _ in range(STARTS)]
    return found, (f"hearth.fcgi from its start to its first answer: {statistics.median(starts):.1f} ms; mod_fcgid: "
                   f"{len(fcgid.children())} processes at the end, {memory_of(fcgid) / 1024:.1f} MiB each of its own")


def print_table(found):
    kinds = {"healthz": "requests/s", "chat": "requests/s", "first byte": "ms"}
    table = [["", *(cell for kind, unit in kinds.items() for cell in (f"{kind}, {unit}", "ratio", "rounds"))]]
    base = {kind: statistics.median(found[fronts.LighttpdSocket.name][kind]) for kind in kinds}
    for name, by_kind in found.items():
        line = [name]
        for kind in kinds:
            values = by_kind[kind]
            line += [rows.shown(statistics.median(values)), f"{statistics.median(values) / base[kind]:.2f}",
                     f"{rows.shown(min(values))}..{rows.shown(max(values))}"]
        table.append(line)
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def main():
    missing = [p for p in ("wrk", "lighttpd", "apache2", "nginx", "mariadbd", "nats-server")
               if not shutil.which(p, path=harness.PATH)]
    if missing:
        sys.exit(f"bench-web-servers: missing programs: {' '.join(missing)}")
    try:
        with servers(app={"socket_mode": 666}) as stack:
            stack.below = stack.add_front(fronts.AppBelow(stack))
            org = stack.new_org()
            app = org.new_app(tier="hot")
            org.admin.load(app)
            all_fronts = [stack.add_front(kind(stack)) for kind in fronts.FRONTS]
            found, note = measure(stack, all_fronts, org, app)
            for front in all_fronts:
                stack.take_front(front)
    finally:
        harness.remove_template()
    print_table(found)
    print(f"{note}\n{CLIENTS} clients; medians of {ROUNDS} rounds, for the first byte of {STREAMS} streams each.\n"
          f"{rows.conditions()}")


if __name__ == "__main__":
    main()
