#!/usr/bin/python3
"""Shows the device behind a cable-server socket as a USB device node, and runs a program that sees it.

    umockdev-wrapper /usr/bin/python3 plug.py SOCKET PROGRAM ARGUMENT...

Requests of usbfs are answered by control transfers over the socket. Everything else about the node comes from the
device's own descriptors.
"""

import socket
import struct
import subprocess
import sys
import threading

import gi

gi.require_version("UMockdev", "1.0")
from gi.repository import GLib, UMockdev  # noqa: E402

NODE = "/dev/bus/usb/001/007"
SUBMITURB, REAPURBNDELAY, REAPURB, DISCARDURB = 0x8038550A, 0x4008550D, 0x4008550C, 0x550B
GET_CAPABILITIES, SETINTERFACE, SETCONFIGURATION = 0x8004551A, 0x80085504, 0x80045505
CLAIM, RELEASE, RESET, GETDRIVER, GET_SPEED = 0x8004550F, 0x80045510, 0x5514, 0x41045508, 0x551F
IOCTL, DISCONNECT_CLAIM = 0xC0105512, 0x8108551B
EAGAIN, ENODATA, ENOTTY, EPIPE, ENODEV = 11, 61, 25, 32, 19


class Cable:
    def __init__(self, path):
        self.stream = socket.socket(socket.AF_UNIX)
        self.stream.connect(path)

    def read(self, count):
        data = b""
        while len(data) < count:
            part = self.stream.recv(count - len(data))
            if not part:
                raise EOFError("the server is gone")
            data += part
        return data

    def send(self, setup, output=b""):
        """Returns a length or a negative libusb code, and IN data."""
        self.stream.sendall(setup + output)
        (code,) = struct.unpack("<i", self.read(4))
        return code, self.read(code) if code > 0 else b""

    def descriptor(self, kind):
        code, data = self.send(struct.pack("<BBHHH", 0x80, 6, kind << 8, 0, 1024))
        if code < 0:
            raise OSError("the device does not describe itself")
        return data


def control(cable, request):
    """A setup packet with what follows it in the buffer of an URB: status and IN data."""
    setup, output = request[:8], b""
    if not setup[0] & 0x80:
        output = request[8 : 8 + struct.unpack_from("<H", setup, 6)[0]]
    code, data = cable.send(setup, output)
    status = {-9: -EPIPE, -4: -ENODEV}.get(code, 0)
    return status, data, len(data) if setup[0] & 0x80 else len(output)


class Node:
    def __init__(self, cable):
        self.cable = cable
        self.done = []

    def handle(self, _handler, client):
        request, arg = client.get_request() & 0xFFFFFFFF, client.get_arg()
        result, error = 0, 0
        if request == SUBMITURB:
            self.submit(arg.resolve(0, 56))
        elif request in (REAPURB, REAPURBNDELAY):
            if self.done:
                arg.resolve(0, 8).set_ptr(0, self.done.pop(0))
            else:
                result, error = -1, EAGAIN
        elif request == SETINTERFACE:
            interface, setting = struct.unpack("<II", bytes(arg.resolve(0, 8).retrieve()))
            if self.select(interface, setting) < 0:
                result, error = -1, EPIPE
        elif request == RELEASE:
            # Linux goes back to setting 0 by itself.
            self.select(0, 0)
        elif request == GET_CAPABILITIES:
            arg.resolve(0, 4).update(0, struct.pack("<I", 0))
        elif request == GET_SPEED:
            result = 3
        elif request == RESET:
            self.cable.send(b"\xff" * 8)
        elif request in (GETDRIVER, IOCTL):
            result, error = -1, ENODATA
        elif request == DISCARDURB:
            result, error = -1, 22
        elif request not in (CLAIM, SETCONFIGURATION, DISCONNECT_CLAIM):
            result, error = -1, ENOTTY
        client.complete(result, error)
        return True

    def select(self, interface, setting):
        code, _ = self.cable.send(struct.pack("<BBHHH", 1, 11, setting, interface, 0))
        return code

    def submit(self, urb):
        (length,) = struct.unpack("<i", bytes(urb.retrieve())[24:28])
        buffer = urb.resolve(16, length)
        status, data, actual = control(self.cable, bytes(buffer.retrieve()))
        if data:
            buffer.update(8, data)
        urb.update(4, struct.pack("<i", status))
        urb.update(28, struct.pack("<i", actual))
        self.done.append(urb)


def main():
    path, program = sys.argv[1], sys.argv[2:]
    cable = Cable(path)
    device, configuration = cable.descriptor(1), cable.descriptor(2)
    vendor, product, version = struct.unpack_from("<HHH", device, 8)
    bed = UMockdev.Testbed.new()
    bed.add_from_string(
        f"""P: /devices/usb1/1-1
N: bus/usb/001/007
E: SUBSYSTEM=usb
E: DEVTYPE=usb_device
E: DEVNAME={NODE}
E: BUSNUM=001
E: DEVNUM=007
A: busnum=1\\n
A: devnum=7\\n
A: devpath=1\\n
A: speed=12\\n
A: idVendor={vendor:04x}\\n
A: idProduct={product:04x}\\n
A: bcdDevice={version:04x}\\n
A: bConfigurationValue=1\\n
A: bNumConfigurations=1\\n
H: descriptors={(device + configuration).hex()}
"""
    )
    handler, node = UMockdev.IoctlBase(), Node(cable)
    handler.connect("handle-ioctl", node.handle)
    node.select(0, 0)
    bed.attach_ioctl(NODE, handler)
    loop, code = GLib.MainLoop(), []

    def wait():
        code.append(subprocess.call(program))
        GLib.idle_add(loop.quit)

    threading.Thread(target=wait, daemon=True).start()
    loop.run()
    bed.detach_ioctl(NODE)
    sys.exit(code[0])


main()
