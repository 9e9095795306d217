"""Runs two programs at the ends of a pseudo-terminal, until both have ended: line.py ONE... -- OTHER...

The first one has the terminal, as if it were started in a login over a serial line; the second one has the line.
"""

import os
import subprocess
import sys
import tty

at = sys.argv.index("--")
line, terminal = os.openpty()
tty.setraw(line)
tty.setraw(terminal)
first = subprocess.Popen(sys.argv[1:at], stdin=terminal, stdout=terminal)
second = subprocess.Popen(sys.argv[at + 1 :], stdin=line, stdout=line)
os.close(terminal)
os.close(line)
try:
    codes = [program.wait(timeout=120) for program in (second, first)]
except subprocess.TimeoutExpired:
    first.kill()
    second.kill()
    sys.exit("they are still busy after two minutes")
if any(codes):
    sys.exit(f"{sys.argv[1]} ended with {codes[1]}, {sys.argv[at + 1]} with {codes[0]}")
