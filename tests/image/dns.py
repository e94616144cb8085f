"""A name server with a fixed table, in place of a cluster's own: A records by UDP and TCP, nothing else."""

import socketserver
import struct
import threading

NAME_ERROR, TRUNCATED = 3, 0x0200


def question(packet):
    """The name and the type that a query asks for, and where its question ends."""
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode("ascii", "replace").lower())
        at += 1 + packet[at]
    (kind,) = struct.unpack_from("!H", packet, at + 1)
    return ".".join(labels), kind, at + 5


class Dns:
    """Answers at port 53 for the names of a table.

    `asked` has every query. With `truncate`, answers by UDP are too long, and clients ask by TCP.
    """

    def __init__(self, address, table, truncate=False):
        self.table = table
        self.truncate = truncate
        self.asked = []
        server = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                packet, socket = self.request
                socket.sendto(server.answer(packet, "udp"), self.client_address)

        class Tcp(socketserver.StreamRequestHandler):
            def handle(self):
                # A and AAAA are asked by one connection.
                while len(head := self.rfile.read(2)) == 2:
                    answer = server.answer(self.rfile.read(struct.unpack("!H", head)[0]), "tcp")
                    self.wfile.write(struct.pack("!H", len(answer)) + answer)

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self.servers = [
            socketserver.ThreadingUDPServer((address, 53), Udp),
            socketserver.ThreadingTCPServer((address, 53), Tcp),
        ]
        for each in self.servers:
            each.daemon_threads = True
            threading.Thread(target=each.serve_forever, daemon=True).start()

    def answer(self, packet, by):
        name, kind, end = question(packet)
        self.asked.append((by, name, kind))
        known = self.table.get(name)
        addresses = [known] if known and kind == 1 else []
        flags = 0x8180 | (0 if known else NAME_ERROR)
        if by == "udp" and self.truncate:
            flags, addresses = flags | TRUNCATED, []
        head = packet[:2] + struct.pack("!HHHHH", flags, 1, len(addresses), 0, 0)
        body = packet[12:end]
        for address in addresses:
            data = bytes(int(part) for part in address.split("."))
            body += struct.pack("!HHHIH", 0xC00C, 1, 1, 5, 4) + data
        return head + body
