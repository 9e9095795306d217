"""The program `spark sonoff` against curl, websockets and http.server, which play a Sonoff with firmware 1.5.5."""

import asyncio
import hashlib
import http.server
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import threading

import websockets

PROGRAM, IMAGES = sys.argv[1], pathlib.Path(sys.argv[2])
USER1, USER2, FINAL = (IMAGES / name for name in
                       ("image_user1-0x01000.bin", "image_user2-0x81000.bin", "image_arduino.bin"))
DEVICE, FACTORY_KEY, MODEL = "1000abcdef", "11111111-2222-4333-8444-555555555555", "ITA-GZ1-GL"
OLD_TLS = ["--insecure", "--ciphers", "DEFAULT@SECLEVEL=0"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def expect(found, wanted, what):
    if found != wanted:
        sys.exit(f"{what}: {found!r} where {wanted!r} was expected")


def curl(*arguments):
    """Status, headers and body."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--include", "--http1.1", "--max-time", "60", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    status = int(lines[0].split()[1]) if lines[0] else 0
    return status, dict(line.split(": ", 1) for line in lines[1:]), body


class AccessPoint(http.server.BaseHTTPRequestHandler):
    """The HTTP server at a device's access point."""

    settings = None

    def answer(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        expect(self.path, "/device", "path")
        self.answer({"deviceid": DEVICE, "apikey": FACTORY_KEY, "accept": "post"})

    def do_POST(self):
        expect(self.path, "/ap", "path")
        AccessPoint.settings = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer({"error": 0})

    def log_message(self, *_):
        pass


def provision(port):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), AccessPoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    done = subprocess.run(
        [PROGRAM, "sonoff", "provision", "--at", f"127.0.0.1:{server.server_port}", "--ssid", "testnet",
         "--password-file", "/dev/stdin", "--server", f"127.0.0.1:{port}"],
        input=b"secret-123\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    server.shutdown()
    output = done.stdout.decode()
    expect(done.returncode, 0, f"exit code of provision, which says: {output}")
    settings = AccessPoint.settings
    expect((settings["ssid"], settings["password"], settings["serverName"], settings["port"]),
           ("testnet", "secret-123", "127.0.0.1", port), "settings")
    for secret in ("secret-123", FACTORY_KEY):
        expect(secret in output, False, f"{secret} in what provision says")


class Server:
    """`spark sonoff serve`, and what it has said."""

    def __init__(self, port, http_port, *arguments):
        self.process = subprocess.Popen(
            [PROGRAM, "sonoff", "serve", USER1, USER2, "--listen", "127.0.0.1", "--port", str(port),
             "--http-port", str(http_port), "--once", "--json", *arguments], stdout=subprocess.PIPE)
        self.said = []
        for _ in range(2):
            self.next("listening")

    def next(self, event, stage=None):
        """Reads up to this event."""
        for line in self.process.stdout:
            found = json.loads(line)
            self.said.append(found)
            if found["event"] == event and stage in (None, found.get("stage")):
                return found
        return sys.exit(f"the server has ended without {event} {stage}: {self.said}")

    def end(self):
        self.process.stdout.read()
        code = self.process.wait(timeout=60)
        return code


def dispatch(port, *tls):
    body = json.dumps({"accept": "ws;2", "version": 2, "ts": 933, "deviceid": DEVICE, "apikey": FACTORY_KEY,
                       "model": MODEL, "romVersion": "1.5.5"})
    status, headers, answer = curl(*tls, "--header", "Content-Type: application/json", "--data", body,
                                   f"https://127.0.0.1:{port}/dispatch/device")
    expect(status, 200, "status of dispatch")
    expect(int(headers["Content-Length"]), len(answer), "length")
    answer = json.loads(answer)
    expect((answer["error"], answer["IP"], answer["port"]), (0, "127.0.0.1", port), "dispatch")


def refuses_strangers(http_port, port):
    """Nothing but the offered files, whatever the path."""
    base = f"http://127.0.0.1:{http_port}"
    for path in ("/", "/ota/", "/ota", "/ota/../ota/user1.bin", "/ota/%2e%2e/ota/user1.bin", "/ota/user1%2ebin",
                 "//ota/user1.bin", "/ota/user1.bin/", "/OTA/user1.bin", "/etc/passwd", "/../../../../etc/passwd",
                 "/ota/..%2f..%2fetc/passwd", "/proc/self/cmdline", str(USER1.resolve())):
        expect(curl("--path-as-is", base + path)[0], 404, path)
    expect(curl("--request", "DELETE", base + "/ota/user1.bin")[0], 405, "DELETE")
    expect(curl("--data", "{", *OLD_TLS, f"https://127.0.0.1:{port}/dispatch/device")[2][:12], b'{"error":400', "no JSON")
    expect(curl(*OLD_TLS, "--tlsv1.3", f"https://127.0.0.1:{port}/")[0], 0, "TLS 1.3")
    expect(curl(f"http://127.0.0.1:{port}/")[0], 404, "plain HTTP at the port with TLS")


async def talk(url, http_port, context):
    """From `register` to the end of the download."""
    async with websockets.connect(url, ssl=context, ping_interval=None, compression=None) as connection:
        async def ask(**fields):
            await connection.send(json.dumps({"userAgent": "device", "deviceid": DEVICE, **fields}))
            return json.loads(await asyncio.wait_for(connection.recv(), 20))

        answer = await ask(apikey=FACTORY_KEY, action="register", version=2, romVersion="1.5.5", model=MODEL, ts=970)
        key = answer["apikey"]
        expect((answer["error"], answer["deviceid"], len(key), key != FACTORY_KEY), (0, DEVICE, 36, True), "register")
        expect((answer["config"]["hb"], answer["config"]["hbInterval"]), (1, 145), "config")
        answer = await ask(apikey=key, action="date")
        expect((len(answer["date"]), answer["date"][-1]), (24, "Z"), "date")
        answer = await ask(apikey=key, action="query", params=["timers"])
        expect(answer["params"], 0, "query")
        upgrade = json.loads(await asyncio.wait_for(connection.recv(), 20))
        expect((upgrade["action"], upgrade["apikey"], upgrade["params"]["model"]), ("upgrade", key, MODEL), "upgrade")
        entries = {entry["name"]: entry for entry in upgrade["params"]["binList"]}
        for name, path in (("user1.bin", USER1), ("user2.bin", USER2)):
            content = path.read_bytes()
            expect(entries[name]["digest"], hashlib.sha256(content).hexdigest(), "digest")
        content, loaded = USER2.read_bytes(), b""
        download = f"{entries['user2.bin']['downloadUrl']}?deviceid={DEVICE}&ts=1481765933&sign={'0' * 64}"
        expect(download.startswith(f"http://127.0.0.1:{http_port}/"), True, "URL")
        while len(loaded) < len(content):
            last = min(len(loaded) + 4096, len(content)) - 1
            status, headers, part = curl("--range", f"{len(loaded)}-{last}", download)
            expect((status, headers["Content-Range"]), (206, f"bytes {len(loaded)}-{last}/{len(content)}"), "range")
            loaded += part
        expect(loaded == content, True, "the image as downloaded")
        await connection.send(json.dumps({"error": 0, "userAgent": "device", "apikey": key, "deviceid": DEVICE,
                                          "sequence": upgrade["sequence"]}))


def whole_way(maximum):
    """Provisioning to final stage, with a device that knows TLS up to this."""
    port, http_port = free_port(), free_port()
    provision(port)
    server = Server(port, http_port, "--final", FINAL)
    dispatch(port, *OLD_TLS, "--tlsv1.0", "--tls-max", maximum)
    refuses_strangers(http_port, port)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = {"1.0": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1,
                               "1.2": ssl.TLSVersion.TLSv1_2}[maximum]
    asyncio.run(talk(f"wss://127.0.0.1:{port}/api/ws", http_port, context))
    server.next("stage", "installed")
    for path, file in (("/ota/image_user2-0x81000.bin", USER2), ("/ota/image_arduino.bin", FINAL)):
        with socket.create_connection(("127.0.0.1", http_port)):
            pass  # it looks whether somebody is there
        status, headers, body = curl("--http1.0", f"http://127.0.0.1:{http_port}{path}")
        content = file.read_bytes()
        expect((status, int(headers["Content-Length"]), body == content), (200, len(content), True), path)
    server.next("stage", "done")
    expect(server.end(), 0, "exit code of the server")
    print(f"TLS {maximum}: from provisioning to final stage")


def failing_device():
    """A device that says 404 without a request is told why."""
    port, http_port = free_port(), free_port()
    server = Server(port, http_port, "--no-tls", "--attempts", "1")

    async def refuse():
        async with websockets.connect(f"ws://127.0.0.1:{port}/api/ws", ping_interval=None) as connection:
            async def say(**fields):
                await connection.send(json.dumps({"userAgent": "device", "deviceid": DEVICE, **fields}))

            await say(apikey=FACTORY_KEY, action="register", version=2, romVersion="1.5.5", model=MODEL)
            key = json.loads(await connection.recv())["apikey"]
            await say(apikey=key, action="date")
            await connection.recv()
            await say(apikey=key, action="update", params={"switch": "off"})
            await connection.recv()
            upgrade = json.loads(await connection.recv())
            await say(apikey=key, error=404, sequence=upgrade["sequence"])
            await asyncio.sleep(1)

    asyncio.run(refuse())
    failed = server.next("stage", "failed")
    expect(failed["failure"], "no-download", "reason")
    expect(server.end(), 76, "exit code of the server")
    print("404 without a request: told as a port that cannot be reached")


for known in ("1.0", "1.1", "1.2"):
    whole_way(known)
failing_device()
