"""Runs two programs at the ends of a pseudo-terminal, until both have ended: line.py ONE... -- OTHER...

The first one has the terminal, as if it were started in a login over a serial line; the second one has the line.

`rb` empties its input just after it has said something. A real line is too slow for an answer to be there by then; this
one therefore hands bytes to the first program only while that sleeps, which it does when it waits for them.
"""

import os
import subprocess
import sys
import threading
import time
import tty

LIMIT = 120
PIECE = 4096


def waits(process):
    with open(f"/proc/{process.pid}/stat", encoding="ascii", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "R"


def hand_over(source, line, process):
    while piece := os.read(source, PIECE):
        while process.poll() is None and not waits(process):
            time.sleep(0.0002)
        while piece:
            piece = piece[os.write(line, piece) :]


def carry(line, target):
    try:
        while piece := os.read(line, PIECE):
            target.write(piece)
    except OSError:
        # One of them has ended.
        pass
    target.close()


at = sys.argv.index("--")
line, terminal = os.openpty()
tty.setraw(line)
tty.setraw(terminal)
first = subprocess.Popen(sys.argv[1:at], stdin=terminal, stdout=terminal)
second = subprocess.Popen(sys.argv[at + 1 :], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
os.close(terminal)
threading.Thread(target=hand_over, args=(second.stdout.fileno(), line, first), daemon=True).start()
threading.Thread(target=carry, args=(line, second.stdin), daemon=True).start()
try:
    codes = [program.wait(timeout=LIMIT) for program in (second, first)]
except subprocess.TimeoutExpired:
    first.kill()
    second.kill()
    sys.exit(f"they are still busy after {LIMIT} seconds")
if any(codes):
    sys.exit(f"{sys.argv[1]} ended with {codes[1]}, {sys.argv[at + 1]} with {codes[0]}")
