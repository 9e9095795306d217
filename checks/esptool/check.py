"""Compares what `esptool image-info` prints of each image with what we read in it."""

import contextlib
import io
import json
import pathlib
import re
import subprocess
import sys

import esptool
from esptool.bin_image import esp8266_crc32
from esptool.cmds import image_info

folder = pathlib.Path(sys.argv[1])
cases = json.loads((folder / "cases.json").read_text())


def printed(path):
    """Everything that it says of an image, without its folding of lines."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        image_info(str(path), chip="esp8266")
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


def field(text, name):
    found = re.search(rf"^{name}: *(.*?) *$", text, re.MULTILINE)
    return found and found.group(1)


def compare(case, text):
    segments = [
        (int(address, 16), int(length, 16), int(offset, 16))
        for length, address, offset in re.findall(
            r"^ *\d+ +(0x[0-9a-f]+) +(0x[0-9a-f]+) +(0x[0-9a-f]+)", text, re.MULTILINE
        )
    ]
    stored, computed = case["checksum"], case["computed"]
    good = f"{stored:#04x} (valid)" if stored == computed else f"{stored:#04x} (invalid - calculated {computed:#04x})"
    expected = {
        "Image version": str(case["version"]),
        "Entry point": f"{case['entry']:#010x}",
        "Flash size": case["size"],
        "Flash freq": case["freq"],
        "Flash mode": case["mode"].upper(),
        "Checksum": good,
    }
    found = {name: field(text, name) for name in expected}
    assert found == expected, (found, expected)
    assert segments == [tuple(segment) for segment in case["segments"]], segments
    # It warns of headers that differ, and of nothing else.
    warnings = [line for line in text.splitlines() if "warning" in line.lower()]
    assert bool(warnings) == case["headers_differ"], warnings
    assert all("disagrees with second" in line for line in warnings), warnings
    if case["crc"] is not None:
        content = (folder / case["file"]).read_bytes()
        assert esp8266_crc32(content[: case["crc_covers"]]) & 0xFFFFFFFF == case["crc_computed"]
        if case["error"] is None:
            assert content[-4:] == case["crc_computed"].to_bytes(4, "little") and case["crc"] == case["crc_computed"]


damaged = 0
for case in cases:
    text = printed(folder / case["file"])
    try:
        compare(case, text)
        wrong = "invalid" in (field(text, "Checksum") or "")
        assert wrong == case["what"].startswith("damaged") == (case["error"] == "bad-checksum"), case["error"]
        damaged += wrong
    except AssertionError as error:
        sys.exit(f"{case['what']} ({case['file']}): {error}\n{text}")

# The program itself, as people run it.
for case in cases[:1]:
    command = [sys.executable, "-m", "esptool", "--chip", "esp8266", "image-info", str(folder / case["file"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert field(done.stdout, "Checksum").endswith("(valid)"), done.stdout
print(f"esptool {esptool.__version__} reads {len(cases)} images as we do, {damaged} of them damaged")
